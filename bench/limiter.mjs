// The peer: rate-limiter-flexible on Redis, one consume a decision, PROCESSES of 128 under way each.
import cluster from 'node:cluster'
import Redis from 'ioredis'
import { RateLimiterRedis } from 'rate-limiter-flexible'

const [processes, seconds, keys, rate, url] = process.argv.slice(2)
if (cluster.isPrimary) {
  let total = 0, left = Number(processes)
  for (let i = 0; i < left; i++) cluster.fork()
  cluster.on('message', (worker, n) => { total += n })
  cluster.on('exit', () => {
    if (--left === 0) console.log(JSON.stringify({ decisions_per_s: Math.round(total / Number(seconds)) }))
  })
} else {
  const limiter = new RateLimiterRedis({ storeClient: new Redis(url), points: Number(rate), duration: 1, keyPrefix: 'peer' })
  const until = Date.now() + Number(seconds) * 1000
  let n = 0
  const run = async () => {
    while (Date.now() < until) {
      await limiter.consume('client:' + Math.floor(Math.random() * Number(keys))).catch(() => {})
      n++
    }
  }
  await Promise.all(Array.from({ length: 128 }, run))
  process.send(n, () => process.exit(0))
}
