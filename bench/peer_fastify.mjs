// The Fastify + pg peer: the same two routes, SQL, door, token check (with the same signature cache), sealed
// idempotency record and log line. Prepared statements by name; two processes share the port.
import cluster from 'node:cluster'
import crypto from 'node:crypto'
import fs from 'node:fs'
import Fastify from 'fastify'
import pg from 'pg'

const S = JSON.parse(fs.readFileSync(process.env.BENCH_STATEMENTS))
const workers = Number(process.env.BENCH_WORKERS)

if (cluster.isPrimary) {
  for (let i = 0; i < workers; i++) cluster.fork()
  process.on('SIGTERM', () => process.exit(0))
} else {
  const key = crypto.createPublicKey({ key: JSON.parse(process.env.BENCH_JWKS).keys[0], format: 'jwk' })
  const pool = new pg.Pool({ host: process.env.BENCH_SOCKET, database: 'trunkline', user: 'tl_app', max: 8, min: 8 })
  const system = new pg.Pool({ host: process.env.BENCH_SOCKET, database: 'trunkline', user: 'tl_system', max: 1 })
  const verified = new Map()
  const sealKey = Buffer.alloc(32, 48)
  const log = fs.createWriteStream(null, { fd: 2 })
  const app = Fastify({ logger: false, bodyLimit: 1 << 20 })
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (req, body, done) => done(null, body))

  const principal = async (req) => {
    const token = (req.headers.authorization || '').slice(7)
    let claims = verified.get(token)
    if (!claims) {
      const [head, body, mac] = token.split('.')
      if (!crypto.verify(null, Buffer.from(`${head}.${body}`), key, Buffer.from(mac, 'base64url'))) throw new Error('signature')
      claims = JSON.parse(Buffer.from(body, 'base64url'))
      if (claims.iss !== 'trunkline-dev' || claims.aud !== 'trunkline') throw new Error('claims')
      // whom the token means: once, where we ask again every five seconds
      claims.user_id = (await system.query(S.principal_find.text, [claims.iss, claims.sub, claims.agency_id, claims.client_id])).rows[0].user_id
      verified.set(token, claims)
    }
    if (claims.exp * 1000 < Date.now()) throw new Error('expired')
    return claims
  }
  const run = (db, name, ...values) => db.query({ name, text: S[name].text, values })
  const enter = (db, c, id) => run(db, 'door_tenant', c.agency_id, c.client_id, c.user_id, null, new Date().toISOString(), id, '')
  const answer = (row, id) => {
    const { cursor_us, ...data } = row
    return JSON.stringify({ data, meta: { request_id: id, ts: new Date().toISOString() } })
  }
  const logLine = (req, id, claims, status, started) => log.write(JSON.stringify({ timestamp: new Date().toISOString(), level: 'info',
    message: 'request', request_id: id, client_id: claims.client_id, method: req.method, route: req.url, status_code: status,
    duration_ms: performance.now() - started }) + '\n')

  app.get('/api/v1/calls/:id', async (req, reply) => {
    const started = performance.now(), claims = await principal(req), id = crypto.randomUUID(), db = await pool.connect()
    let rows
    try {
      await db.query('begin')
      await enter(db, claims, id)
      rows = (await run(db, 'calls_get', req.params.id)).rows
      await db.query('commit')
    } finally { db.release() }
    reply.header('X-Request-Id', id).type('application/json').send(answer(rows[0], id))
    logLine(req, id, claims, 200, started)
    return reply
  })

  app.post('/api/v1/calls', async (req, reply) => {
    const started = performance.now(), claims = await principal(req), id = crypto.randomUUID(), db = await pool.connect()
    const body = JSON.parse(req.body), idem = req.headers['idempotency-key']
    const print = crypto.createHash('sha256').update([claims.sub, 'POST', '/api/v1/calls', req.body].join('\0')).digest()
    const [call, hold, job, event] = [0, 0, 0, 0].map(() => crypto.randomUUID())
    let text
    try {
      await db.query('begin')
      await enter(db, claims, id)
      const judged = (await run(db, 'idem_judge', print, claims.client_id, idem)).rows[0]
      if (judged.state !== 'new') throw new Error(judged.state)
      const p = (await run(db, 'calls_prospect', body.phone_number, body.agent_id)).rows[0]
      const price = p.price_per_minute, minutes = Math.min(60, Math.floor(Number(p.available) / price))
      const settings = JSON.stringify({ recording_enabled: true, transcription_enabled: true, max_duration_seconds: 3600 })
      await run(db, 'calls_insert', call, body.agent_id, null, body.phone_number, '+15005550006', 'outbound', 'phone', null, settings,
        price, hold, minutes * price, 3600)
      text = answer((await run(db, 'calls_get', call)).rows[0], id)
      await run(db, 'job_insert', job, 'q-campaign-dialer', 'call.dial', '{}', 'call', call, null, 0, null)
      await run(db, 'calls_admit', call, hold, minutes * price, price, p.quota)
      await run(db, 'event_put', event, 'call.created', 'call', call, JSON.stringify({ call_id: call, status: 'queued' }))
      const nonce = crypto.randomBytes(12), seal = crypto.createCipheriv('aes-256-gcm', sealKey, nonce)
      const sealed = Buffer.concat([nonce, seal.update(text), seal.final(), seal.getAuthTag()])
      await run(db, 'idem_put', claims.client_id, idem, print, 'done', 202, sealed, 60000)
      await db.query('commit')
    } catch (error) {
      await db.query('rollback')
      throw error
    } finally { db.release() }
    reply.code(202).header('X-Request-Id', id).type('application/json').send(text)
    logLine(req, id, claims, 202, started)
    return reply
  })
  app.listen({ port: Number(process.env.BENCH_PORT), host: '127.0.0.1' })
}
