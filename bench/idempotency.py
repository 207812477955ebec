#!/usr/bin/env python3
"""./dev bench idempotency: POST /calls (respond-async) with and without an idempotency key, interleaved, medians. What the key adds to
the CPU time of a request, ours and PostgreSQL's. One JSON line a figure."""
import json
import os
import pathlib
import shutil
import tempfile

from api import CLIENTS, CONNECTIONS, ROUNDS, SECONDS, Server, cpu_seconds, lua, median, postgres_cpu, say, wrk


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tlb-"))
    folder.chmod(0o755)
    server = Server(folder / "data", "--workers", "2", "--set", "jobs_at_once=0", clock=False)
    try:
        agency = json.loads(server.command("agency", "create", "--name", "Bench"))["id"]
        limits = '{"requests_per_second":1000000,"burst":1000000,"calls_per_day":100000000}'
        tenants = [server.client(agency=agency, credits=2_000_000_000, limits=limits) for _ in range(CLIENTS)]
        for t in tenants:
            t.agent_id = t.agent()
            t.call_id = ""
        with_key = lua(folder, "with", tenants, True)
        without = folder / "without.lua"
        without.write_text(with_key.read_text().replace(', ["Idempotency-Key"] = run .. "-" .. n', ""))
        assert without.read_text() != with_key.read_text()
        runs = {"with": [], "without": []}
        for _ in range(ROUNDS):
            for name, script in (("with", with_key), ("without", without)):
                wrk(server.url, script, seconds=1)
                pids = [server.process.pid, *server.workers()]
                own, database = cpu_seconds(pids), postgres_cpu(server)
                run = wrk(server.url, script)
                assert not run["errors"]
                run["own"] = (cpu_seconds(pids) - own) / run["requests"]
                run["all"] = run["own"] + (postgres_cpu(server) - database) / run["requests"]
                runs[name].append(run)
        how = f"wrk -t1 -c{CONNECTIONS} -d{SECONDS}s, {CLIENTS} clients, {ROUNDS} rounds interleaved, {os.cpu_count()} cores shared with PostgreSQL and wrk"
        for key, what in (("own", "our processes"), ("all", "ours and PostgreSQL")):
            ours, plain = median(runs["with"], key), median(runs["without"], key)
            say(name=f"idempotency key, CPU per request of {what}", ours=round(ours * 1e6, 1), peer=round(plain * 1e6, 1), unit="us",
                ratio=round(ours / plain, 3), peer_is="the same request without a key", how=how)
        say(name="idempotency key, requests/s", ours=round(median(runs["with"], "rps")), peer=round(median(runs["without"], "rps")),
            ratio=round(median(runs["with"], "rps") / median(runs["without"], "rps"), 3), peer_is="the same request without a key", how=how)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
