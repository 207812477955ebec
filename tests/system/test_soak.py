"""Calls of all outcomes, with provider events tripled, reordered and a tenth of them lost, and workers killed at seeded points: in the end
our rows, the ledger and the provider agree on every call, and nothing is held or in between. 50,000 calls in the long form."""
import collections
import concurrent.futures
import os
import random
import signal
import threading
import time

import httpx

from conftest import LONG, Server, ledger_is_right
from test_kill import POINTS

CALLS = int(os.environ.get("TRUNKLINE_SOAK_CALLS", 50000 if LONG else 200))
SEED = int(os.environ.get("TRUNKLINE_SOAK_SEED", random.randrange(1 << 30)))
LIMITS = '{"requests_per_second":100000,"burst":100000,"concurrent_calls":100000,"calls_per_day":1000000}'
# every row of the sandbox's table, and numbers by chance; 23 hangs its deadline in real time, so there are few of it
TABLE = ["00", "01", "02", "10", "11", "12", "13", "14", "20", "21", "22", "30", "31", "32", "33"]
ENDS = {"completed", "voicemail", "busy", "no_answer", "failed", "cancelled"}


def number(dice):
    if dice.random() < 0.5:
        return f"+1555555 01{dice.choice(TABLE)}".replace(" ", "")
    return f"+1{dice.randrange(2_000_000_000, 9_999_999_999)}"


def place(client, agent, numbers):
    ids = []
    for n in numbers:
        until = time.monotonic() + 60
        while time.monotonic() < until:  # a killed worker answers nothing: the same key again
            try:
                answer = client.call(n[0], agent=agent, headers={"Prefer": "respond-async", "Idempotency-Key": n[1]}, call_settings={"max_duration_seconds": 300})
            except httpx.HTTPError:
                threading.Event().wait(0.02)
                continue
            if answer.status_code == 202:
                ids.append(answer.json()["data"]["id"])
                break
            assert answer.status_code in (409, 503), answer.text
        else:
            raise AssertionError("never accepted")
    return ids


def pass_time(server, seconds):
    until = time.monotonic() + 120
    while time.monotonic() < until:  # who moves it may die on the way
        try:
            return server.advance(seconds)
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            threading.Event().wait(0.02)
    raise AssertionError("nobody moves the clock")


def test_everything_agrees_in_the_end(folder, record_property):
    dice = random.Random(SEED)
    point = f"{dice.choice(POINTS)}:{max(30, CALLS // 15)}"  # every worker dies there at its n-th visit
    server = Server(folder / "soak", "--workers", "2", "--set", "provider_timeout_ms=1500", "--set", f"kill_at={point}")
    try:
        server.http.timeout = 600
        with server.connect() as db:  # the database is not killed here, so nobody need wait for its disk (test_kill kills it)
            db.execute("alter system set synchronous_commit = off")
            db.execute("select pg_reload_conf()")
        agency = None
        clients = []
        for _ in range(10):
            client = server.client(credits=10 * CALLS, agency=agency, limits=LIMITS)
            agency = client.agency
            clients.append((client, client.agent()))
        server.sql("update agencies set limits = %s where id = %s", LIMITS, agency)
        httpx.post(server.sandbox + "/_sandbox/events", json={"duplicate": 3, "shuffle": True, "drop": 0.1, "seed": SEED})
        kills, placed, batch = 0, [], min(1000, max(50, CALLS // 12))
        for start in range(0, CALLS, batch):
            numbers = [(number(dice), f"soak-{i}") for i in range(start, min(start + batch, CALLS))]
            with concurrent.futures.ThreadPoolExecutor(4) as pool:
                parts = [pool.submit(place, *clients[i % 10], numbers[i::10]) for i in range(10)]
                if dice.random() < 0.5 and server.workers():
                    os.kill(dice.choice(server.workers()), signal.SIGKILL)
                    kills += 1
                placed += [call for part in parts for call in part.result()]
            pass_time(server, dice.choice([1, 7, 30]))
            if dice.random() < 0.5 and server.workers():
                os.kill(dice.choice(server.workers()), signal.SIGKILL)
                kills += 1
            pass_time(server, dice.choice([5, 60]))
        httpx.post(server.sandbox + "/_sandbox/events", json={"duplicate": 1, "shuffle": False, "drop": 0, "seed": 0})
        for _ in range(25):  # the last doubt is settled after three days
            server.advance(4 * 3600)
        assert len(placed) == len(set(placed)) == CALLS
        theirs = collections.defaultdict(list)
        for c in server.provider_calls():
            theirs[c["metadata"].get("trunkline_call_id")].append(c)
        table = collections.Counter()
        rows = server.sql("select id::text, status::text, outcome::text, ultravox_call_id, billed_seconds, credits_charged, answered_at is not null, price_per_minute "
                          "from calls where agency_id = %s", agency)
        assert {r[0] for r in rows} == set(placed), "every call that was accepted, and no other"
        for call, status, outcome, provider_id, billed, charged, answered, price in rows:
            there = theirs.get(call, [])
            assert status in ENDS and len(there) <= 1, (call, status, there)
            assert bool(there) == bool(provider_id) and (not there or there[0]["id"] == provider_id), (call, status, outcome, there)
            joined = bool(there and there[0]["joined"])
            assert joined == answered, (call, status, there)
            want = 0
            if joined:
                seconds = -(-float(there[0]["billed"].rstrip("s")) // 1)
                assert billed == seconds, (call, billed, there)
                want = max(1, -(-int(seconds) // 60)) * price
            assert charged == want, (call, charged, want, there)
            table[(status, outcome)] += 1
        for client, _ in clients:
            assert client.balance()["held"] == 0
        between = server.sql("select kind, status, count(*) from jobs where status = 'running' or status in ('dead', 'queued') "
                             "and resource_id in (select id from calls) group by 1, 2")
        assert between == [], "nothing is in between"
        assert server.sql("select kind, count(*) from call_artifacts where status = 'pending' group by 1") == []
        total = server.sql("select sum(credits_charged) from calls where agency_id = %s", agency)[0][0]
        ledger = server.sql("select -sum(delta) from credit_transactions where type = 'spent' and agency_id = %s", agency)[0][0]
        assert total == ledger
        ledger_is_right(server)
        kills += server.log_path.read_text(errors="replace").count('"message":"kill point"')
        told = [f"soak: {CALLS} calls, seed {SEED}, {kills} workers killed (at random and at {point}), {sum(len(v) for v in theirs.values())} at the provider, {total} credits"]
        told += [f"  {status:10} {outcome:14} {n:6}" for (status, outcome), n in sorted(table.items())] + [f"  {'all':25} {sum(table.values()):6}"]
        record_property("told", "\n".join(told))
        assert sum(table.values()) == CALLS
    finally:
        server.stop()
