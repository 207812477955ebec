#!/usr/bin/env python3
"""./dev bench ledger: transfers per CPU second of PostgreSQL, ours (a hold, then its settlement) against pgledger's design, in one
PostgreSQL, spread over accounts, on one hot account, and all to the platform, interleaved, medians. One JSON line a figure."""
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile

from api import HERE, postgres_cpu, say
from conftest import Server

ROUNDS, SECONDS = int(os.environ.get("BENCH_ROUNDS", 5)), int(os.environ.get("BENCH_SECONDS", 4))
ACCOUNTS, CONNECTIONS = 32, 8  # each connection prepares the script of each account once
PEER = pathlib.Path(os.environ.get("BENCH_PGLEDGER", HERE / "peer_ledger.sql"))


def ours(client):
    """A hold and its settlement, each a transaction through the door, as a call makes them: two transactions, three transfers."""
    hold = "('00000000-0000-7000-8000-' || lpad(to_hex(:r::bigint), 12, '0'))::uuid"
    door = f"begin;\nselect tl_enter_system('{client.agency}', '{client.id}', '2026-11-22T12:00:00Z', 'bench');\n"
    return (f"\\set r random(1, 281474976710655)\n\\startpipeline\n{door}select ledger_hold({hold}, 'call', (:r)::text, 2, 1);\ncommit;\n"
            f"\\endpipeline\n\\startpipeline\n{door}select charged from ledger_settle({hold}, 1, 'bench', false);\ncommit;\n\\endpipeline\n")


def theirs(available, held, revenue):
    """The same with one balance an account: reserved; then, in one transaction, what is spent and what returns."""
    create = "select id from pgledger_create_transfers({});\n".format
    return create(f"('{available}', '{held}', 2)") + create(f"('{held}', '{revenue}', 1), ('{held}', '{available}', 1)")


def pgbench(server, folder, scripts, user):
    files = []
    for n, text in enumerate(scripts):
        path = folder / f"{n}.sql"
        path.write_text(text)
        files += ["-f", str(path)]
    binary = shutil.which("pgbench") or next(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    before = postgres_cpu(server)
    done = subprocess.run([binary, "-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "1", "-T", str(SECONDS), "-h",
                           str(server.data / "run"), "-U", user, *files, "trunkline"], capture_output=True, text=True)
    found = re.search(r"transactions actually processed: (\d+)", done.stdout)
    if not found or "number of failed transactions: 0 " not in done.stdout:
        raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    transfers = 3 * int(found.group(1))
    return {"per_cpu_s": transfers / (postgres_cpu(server) - before), "per_s": transfers / SECONDS}


def main():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tl-bench-"))
    folder.chmod(0o755)
    server = Server(folder / "data", "--workers", "1", "--set", "jobs_at_once=0", clock=False)
    try:
        clients = [server.client(credits=100_000_000)]
        clients += [server.client(credits=100_000_000, agency=clients[0].agency) for _ in range(ACCOUNTS - 1)]
        with server.connect() as db:
            db.execute(PEER.read_text())
            accounts = [db.execute("select id from pgledger_create_account(%s, 'USD')", (f"account {n}",)).fetchone()[0]
                        for n in range(3 * ACCOUNTS)]
        books = list(zip(accounts[::3], accounts[1::3], accounts[2::3]))
        spread = {"ours": [ours(c) for c in clients], "peer": [theirs(*b) for b in books]}
        hot = {"ours": [ours(clients[0])] * ACCOUNTS, "peer": [theirs(*books[0])] * ACCOUNTS}
        # with us every client has books of its own, so what all pay to is no row that all wait for
        platform = {"ours": spread["ours"], "peer": [theirs(available, held, accounts[2]) for available, held, _ in books]}
        for name, scripts in (("spread over accounts", spread), ("one hot account", hot), ("all pay the platform", platform)):
            runs = {"ours": [], "peer": []}
            for _ in range(ROUNDS):
                for who, user in (("ours", "tl_system"), ("peer", "trunkline")):
                    runs[who].append(pgbench(server, folder, scripts[who], user))
            for key, unit in (("per_cpu_s", "transfers per CPU second of PostgreSQL"), ("per_s", "transfers per second")):
                middle = {who: statistics.median(r[key] for r in rows) for who, rows in runs.items()}
                say(name=f"ledger, {name}", unit=unit, ours=round(middle["ours"]), peer=round(middle["peer"]),
                    ratio=round(middle["ours"] / middle["peer"], 2),
                    how=f"{ACCOUNTS} accounts, {CONNECTIONS} connections, {ROUNDS} rounds of {SECONDS} s, peer: {PEER.name}")
        bad = server.sql("select * from ledger_check()")
        if bad:
            raise SystemExit(f"the ledger is wrong: {bad}")
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
