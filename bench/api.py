#!/usr/bin/env python3
"""./dev bench api: the tenant-scoped read and write against a FastAPI and a Fastify peer and against pgbench, all on one
PostgreSQL, interleaved, medians of BENCH_ROUNDS rounds. One JSON line a figure; see README.md for what they mean."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import httpx

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.path.insert(0, str(HERE))
import statements  # noqa: E402
from conftest import Server, clean_environment  # noqa: E402

ROUNDS, SECONDS = int(os.environ.get("BENCH_ROUNDS", 5)), int(os.environ.get("BENCH_SECONDS", 4))
CLIENTS, CONNECTIONS = int(os.environ.get("BENCH_CLIENTS", 100)), int(os.environ.get("BENCH_CONNECTIONS", 32))
HZ = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids):
    total = 0.0
    for pid in pids:
        try:
            fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / HZ
        except FileNotFoundError:
            pass
    return total


def tree(pid):
    found = [pid]
    for child in subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split():
        found += tree(int(child))
    return found


def postgres_cpu(server):
    """Living backends and what the postmaster has reaped."""
    fields = open(f"/proc/{server.postmaster()}/stat").read().rsplit(")", 1)[1].split()
    return cpu_seconds(tree(server.postmaster())) + (int(fields[13]) + int(fields[14])) / HZ


def rss_anon_kb(pids):
    total = 0
    for pid in pids:
        try:
            total = max(total, int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1)))
        except (FileNotFoundError, AttributeError):
            pass
    return total


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("a peer does not start")


class Peer:
    def __init__(self, name, command, server, folder, jwks):
        self.port = free_port()
        environ = {**clean_environment(), "BENCH_STATEMENTS": str(folder / "statements.json"), "BENCH_JWKS": jwks,
                   "BENCH_SOCKET": str(server.data / "run"), "BENCH_PORT": str(self.port), "BENCH_WORKERS": "2"}
        self.process = subprocess.Popen([c.replace("PORT", str(self.port)) for c in command], cwd=HERE, env=environ,
                                        stdout=subprocess.DEVNULL, stderr=open(folder / f"{name}.log", "ab"), start_new_session=True)
        wait_for(self.port)
        self.name, self.url = name, f"http://127.0.0.1:{self.port}"

    def pids(self):
        return tree(self.process.pid)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)


def wrk(url, script, connections=CONNECTIONS, seconds=SECONDS):
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url], capture_output=True,
                          text=True)
    text = done.stdout
    unit = {"us": 0.001, "ms": 1, "s": 1000}

    def latency(p):
        m = re.search(rf"{p}%\s+([\d.]+)(us|ms|s)", text)
        return float(m.group(1)) * unit[m.group(2)]

    errors = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    requests = int(re.search(r"(\d+) requests in", text).group(1))
    return {"rps": float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1)), "requests": requests, "p50": latency(50), "p99": latency(99),
            "errors": int(errors.group(1)) if errors else 0}


def lua(folder, name, tenants, write):
    rows = ",\n".join('{"%s","%s","%s"}' % (t.token, t.call_id, t.agent_id) for t in tenants)
    text = f"local t = {{\n{rows}\n}}\nlocal n, run = 0, tostring(os.time()) .. tostring(math.random(1, 1e9))\nrequest = function()\n" \
           "  n = n + 1\n  local x = t[n % #t + 1]\n"
    if write:
        text += '  return wrk.format("POST", "/api/v1/calls", {Authorization = "Bearer " .. x[1], ["Content-Type"] = "application/json", ' \
                'Prefer = "respond-async", ["Idempotency-Key"] = run .. "-" .. n}, ' \
                '\'{"agent_id":"\' .. x[3] .. \'","phone_number":"+15555550100"}\')\nend\n'
        text = text.replace("local n, run", 'math.randomseed(tonumber(tostring({}):sub(8), 16) or os.time())\nlocal n, run')
    else:
        text += '  return wrk.format("GET", "/api/v1/calls/" .. x[2], {Authorization = "Bearer " .. x[1]})\nend\n'
    path = folder / f"{name}.lua"
    path.write_text(text)
    return path


def pgbench_scripts(folder, tenants, write):
    s = statements.read()

    def fill(name, **values):
        text = s[name]["text"]
        for i in reversed(range(len(s[name]["names"]))):
            text = text.replace(f"${i + 1}::", f"{values[s[name]['names'][i]]}::")
        return text + ";\n"

    paths = []
    for n, t in enumerate(tenants[:32]):	# each connection prepares each script once
        q = lambda v: f"'{v}'"
        door = fill("door_tenant", agency=q(t.agency), client=q(t.id), user=q(t.user), key="null", now=q("2026-11-22T12:00:00Z"),
                    request=q("bench"), source="''")
        if not write:
            text = "\\startpipeline\nbegin;\n" + door + fill("calls_get", id=q(t.call_id)) + "commit;\n\\endpipeline\n"
        else:
            uid = lambda d: f"('0{d}000000-0000-7000-8000-' || lpad(to_hex(:r::bigint), 12, '0'))"
            text = "\\set r random(1, 281474976710655)\n\\startpipeline\nbegin;\n" + door
            text += fill("idem_judge", scope=q(t.id), key="('k' || :r::text)", fingerprint="'\\x00'") + fill("calls_prospect", number=q("+15555550100"),
                                                                                                         agent_id=q(t.agent_id))
            text += fill("calls_insert", id=uid(1), agent_id=q(t.agent_id), external_ref="null", phone_number=q("+15555550100"),
                         from_number=q("+15005550006"), direction=q("outbound"), medium=q("phone"), context="null", call_settings=q("{}"), price="1", hold_id=uid(2),
                         held="60", max_seconds="3600") + fill("calls_get", id=uid(1))
            text += fill("job_insert", id=uid(3), queue=q("q-campaign-dialer"), kind=q("call.dial"), payload=q("{}"), resource_type=q("call"),
                         resource_id=uid(1), run_at="null", lease_ms="0", dedupe="null")
            text += fill("calls_admit", hold_id=uid(2), call_id=uid(1), amount="60", least="1", quota="100000000")
            text += fill("event_put", id=uid(4), type=q("call.created"), resource_type=q("call"), resource_id=uid(1), data=q("{}"))
            text += fill("idem_put", scope=q(t.id), key="('k' || :r::text)", fingerprint="'\\x00'", state=q("done"), status="202",
                         body="decode(repeat('00', 900), 'hex')", lease_ms="60000") + "commit;\n\\endpipeline\n"
        path = folder / f"pgbench_{'w' if write else 'r'}_{n}.sql"
        path.write_text(text)
        paths.append(path)
    return paths


def pgbench(server, scripts, clients):
    binary = shutil.which("pgbench") or next(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    files = [a for s in scripts for a in ("-f", str(s))]
    done = subprocess.run([binary, "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(SECONDS + 6), "-h", str(server.data / "run"),
                           "-U", "tl_app", *files, "trunkline"], capture_output=True, text=True)
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    if not found:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    return float(found.group(1))


def say(**figure):
    print(json.dumps(figure), flush=True)


def median(rows, key):
    return statistics.median(r[key] for r in rows)


def measure(server, peers, script, limit, kind):
    """Interleaved rounds: ours, each peer, the limit."""
    runs = {name: [] for name in ["trunkline", *[p.name for p in peers]]}
    limits = []
    for _ in range(ROUNDS):
        for name, url, pids in [("trunkline", server.url, lambda: [server.process.pid, *server.workers()])] + \
                [(p.name, p.url, p.pids) for p in peers]:
            wrk(url, script, seconds=1)
            own, database = cpu_seconds(pids()), postgres_cpu(server)
            run = wrk(url, script)
            run["cpu"], run["pg_cpu"] = cpu_seconds(pids()) - own, postgres_cpu(server) - database
            run["cpu_per"], run["total_per"] = run["cpu"] / run["requests"], (run["cpu"] + run["pg_cpu"]) / run["requests"]
            run["rss"] = rss_anon_kb(pids())
            runs[name].append(run)
            if run["errors"]:
                raise SystemExit(f"{name} {kind}: {run['errors']} answers were not 2xx")
        limits.append(limit())
    how = f"wrk -t1 -c{CONNECTIONS} -d{SECONDS}s, {CLIENTS} clients, {ROUNDS} rounds interleaved, {os.cpu_count()} cores shared with PostgreSQL and wrk"
    ours = runs["trunkline"]
    for name in runs:
        if name == "trunkline":
            continue
        theirs = runs[name]
        say(name=f"{kind} requests/s vs {name}", ours=round(median(ours, "rps")), peer=round(median(theirs, "rps")),
            ratio=round(median(ours, "rps") / median(theirs, "rps"), 2), p50=round(median(ours, "p50"), 2), p99=round(median(ours, "p99"), 2),
            peer_p99=round(median(theirs, "p99"), 2), cpu_seconds=round(median(ours, "cpu"), 2), rss_anon_kb=max(r["rss"] for r in ours), how=how)
        say(name=f"{kind} CPU of our processes per request vs {name}", ours=round(median(ours, "cpu_per") * 1e6, 1),
            peer=round(median(theirs, "cpu_per") * 1e6, 1), unit="us", ratio=round(median(ours, "cpu_per") / median(theirs, "cpu_per"), 3), how=how)
        say(name=f"{kind} CPU with PostgreSQL per request vs {name}", ours=round(median(ours, "total_per") * 1e6, 1),
            peer=round(median(theirs, "total_per") * 1e6, 1), unit="us", ratio=round(median(ours, "total_per") / median(theirs, "total_per"), 3), how=how)
    say(name=f"{kind} requests/s vs pgbench (the limit)", ours=round(median(ours, "rps")), peer=round(statistics.median(limits)),
        ratio=round(median(ours, "rps") / statistics.median(limits), 2), how=f"pgbench -M prepared, pipelined, same statements; {how}")


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tlb-"))
    folder.chmod(0o755)
    server = Server(folder / "data", "--workers", "2", "--set", "jobs_at_once=0", clock=False)
    peers = []
    try:
        agency = json.loads(server.command("agency", "create", "--name", "Bench", "--limits", '{"concurrent_calls":1000}'))["id"]
        limits = '{"requests_per_second":1000000,"burst":1000000,"calls_per_day":100000000}'
        tenants = [server.client(agency=agency, credits=2_000_000_000, limits=limits) for _ in range(CLIENTS)]
        for t in tenants:
            t.get("/auth/me")
            t.user = str(server.sql("select id from users where client_id = %s", t.id)[0][0])
            t.agent_id = t.agent()
            t.call_id = t.call(agent=t.agent_id, headers={"Prefer": "respond-async"}).json()["data"]["id"]
        (folder / "statements.json").write_text(json.dumps(statements.read()))
        jwks = httpx.get(server.url + "/.well-known/jwks.json").text
        peers = [Peer("fastapi", [sys.executable, "-m", "uvicorn", "peer_fastapi:app", "--port", "PORT", "--workers", "2", "--no-access-log"],
                      server, folder, jwks),
                 Peer("fastify", ["node", "peer_fastify.mjs"], server, folder, jwks)]
        read, write = lua(folder, "read", tenants, False), lua(folder, "write", tenants, True)
        for url in [server.url] + [p.url for p in peers]:	# same answers before any timing
            got = httpx.get(f"{url}/api/v1/calls/{tenants[0].call_id}", headers={"Authorization": f"Bearer {tenants[0].token}"}, timeout=30)
            assert got.status_code == 200 and got.json()["data"]["id"] == tenants[0].call_id, got.text
        reads, writes = pgbench_scripts(folder, tenants, False), pgbench_scripts(folder, tenants, True)
        measure(server, peers, read, lambda: pgbench(server, reads, 16), "read")
        measure(server, peers, write, lambda: pgbench(server, writes, 16), "write")
        tail = wrk(server.url, read, connections=128)
        say(name="read p99 at 128 connections", ours=tail["p99"], unit="ms", p50=tail["p50"], rps=round(tail["rps"]), how="wrk -t1 -c128")
        wrk(server.url, read, connections=512)
        say(name="RssAnon of a worker under 512 connections", ours=rss_anon_kb(server.workers()), unit="KiB", how="after wrk -t1 -c512")
        assert server.sql("select * from ledger_check()") == []
        [p.stop() for p in peers]
        peers = []
        server.stop()
        starts = []
        for _ in range(5):
            began = time.monotonic()
            server.start()
            starts.append(time.monotonic() - began)
            server.stop()
        say(name="serve ready on a cleanly stopped folder", ours=round(statistics.median(starts), 2), unit="s", how="median of 5 starts")
        server = None
    finally:
        [p.stop() for p in peers]
        if server:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
