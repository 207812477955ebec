"""Durability by killing: workers, master and PostgreSQL die at named and at seeded random points while
clients create calls; the sandbox is a process of its own and lives on. Afterwards our rows, the ledger
and the provider must tell one story."""
import collections
import os
import random
import signal
import subprocess
import threading
import time
import uuid

import httpx
import pytest

from conftest import BIN, LONG, Server, clean_environment, ledger_is_right

CALLS = int(os.environ.get("TRUNKLINE_KILL_CALLS", 10000 if LONG else 2000))
POINTS = ["call.before_intent", "call.intent_committed", "call.provider_answered", "call.accepted"]


@pytest.fixture
def world(folder):
    """A sandbox that outlives every server, and the server's arguments."""
    sandbox = subprocess.Popen([BIN, "sandbox", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env=clean_environment())
    url = sandbox.stdout.readline().split()[-1]
    started = []

    def start(*arguments, name="kill"):
        server = Server(folder / name, "--set", "job_lease_ms=2000", "--set", "provider_wait_ms=2000", "--set", "egress_allow_private=true", *arguments, clock=False,
                        sandbox=("--sandbox", url))
        server._sandbox = url
        started.append(server)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()
        subprocess.run(["rm", "-rf", str(server.data)])
    sandbox.terminate()
    sandbox.wait(20)


def settle(server, limit_s=150):
    """Waits for an event, not a time: nothing queued, dialing or due any more."""
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        moving = server.sql("select (select count(*) from calls where status = 'queued'), "
                            "(select count(*) from jobs where kind = 'call.dial' and status in ('queued', 'running'))")[0]
        if moving == (0, 0):
            return
        threading.Event().wait(0.1)
    raise AssertionError(f"still moving: {moving}")


def resolve_unknown(server):
    """What is unknown is looked up by the ladder; the day that proves absence is moved into the past."""
    open_ = "ultravox_call_id is null and call_rank(status) < 4"
    server.sql(f"update calls set intended_at = intended_at - interval '25 hours' where {open_}")
    server.sql("update jobs set run_at = clock_timestamp() where kind = 'call.lookup' and status = 'queued'")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if server.sql(f"select count(*) from calls where {open_}") == [(0,)]:
            return
        threading.Event().wait(0.1)
    raise AssertionError("some calls stay unknown")


def judge(server, tenants, answered, most_lost):
    """The three books agree."""
    settle(server)
    unknown = server.sql("select count(*) from calls where status = 'unknown'")[0][0]
    resolve_unknown(server)
    at_provider = collections.Counter(c["metadata"].get("trunkline_call_id") for c in server.provider_calls())
    mine = {t.id for t in tenants}
    rows = [r for r in server.sql("select id::text, client_id::text, status, outcome, external_ref, hold_id::text, ultravox_call_id, "
                                  "(select h.status from credit_holds h where h.client_id = c.client_id and h.id = c.hold_id) from calls c")
            if r[1] in mine]
    by_ref = collections.Counter(r[4] for r in rows)
    for reference in answered:
        assert by_ref[reference] == 1, f"answered 2xx, {by_ref[reference]} rows: {reference}"
    assert all(n == 1 for n in by_ref.values())
    absent = 0
    for call_id, _, status, outcome, _, _, provider_id, hold in rows:
        assert at_provider[call_id] <= 1, f"{call_id} was placed {at_provider[call_id]} times"
        if at_provider[call_id] == 0:
            absent += 1
            assert (status, outcome) in {("failed", "not_placed"), ("cancelled", "expired")}, (call_id, status, outcome)
            assert hold == "released"
        else:
            assert provider_id, f"{call_id} is at the provider and we do not know it: {status} {outcome}"
    assert absent <= most_lost, f"{absent} absent, {most_lost} dials were in flight"
    ledger_is_right(server)
    for tenant in tenants:	# dense, no gap, no twin: every event once in the stream
        seqs = [s for s, in server.sql("select seq from events where client_id = %s order by seq", tenant.id)]
        assert seqs == list(range(1, len(seqs) + 1))
        made = server.sql("select count(*) from calls where client_id = %s", tenant.id)[0][0]
        assert server.sql("select count(*) from events where client_id = %s and type = 'call.created'", tenant.id)[0][0] == made
    return {"calls": len(rows), "absent": absent, "unknown": unknown, "placed": sum(at_provider[r[0]] for r in rows)}


class Load:
    """Clients that create calls until they have `count` answers, repeating with the same key as a good
    client does when it got none."""

    def __init__(self, server, tenants, count, threads=8):
        self.server, self.tenants, self.left, self.answered, self.over = server, tenants, count, set(), False
        self.lock, self.other = threading.Lock(), collections.Counter()
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(threads)]

    def next(self):
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def run(self, n):
        tenant = self.tenants[n % len(self.tenants)]
        http = httpx.Client(timeout=40)
        while self.next():
            reference = str(uuid.uuid4())
            body = {"agent_id": tenant.agent_id, "phone_number": "+15555550111", "external_ref": reference}
            headers = {"Authorization": f"Bearer {tenant.token}", "Idempotency-Key": reference}
            if n % 2:
                headers["Prefer"] = "respond-async"
            for _ in range(0 if self.over else 600):
                if self.over:
                    break
                try:
                    answer = http.post(self.server.url + "/api/v1/calls", json=body, headers=headers)
                except httpx.HTTPError:
                    threading.Event().wait(0.05)
                    continue
                if 200 <= answer.status_code < 300:
                    with self.lock:
                        self.answered.add(reference)
                    break
                with self.lock:
                    self.other[answer.status_code] += 1
                threading.Event().wait(0.05)

    def __enter__(self):
        [t.start() for t in self.threads]
        return self

    def __exit__(self, failure, *rest):
        self.over = failure is not None
        [t.join() for t in self.threads]


def tenants_of(server, n=4, receiver=None):
    made = [server.client(credits=10_000_000) for _ in range(n)]
    for tenant in made:
        tenant.agent_id = tenant.agent()
        if receiver:
            schedule = {"max_attempts": 20, "schedule_seconds": [1]}
            tenant.post("/webhooks", {"url": receiver.url, "event_types": ["call.created"], "retry_config": schedule})
    return made


def delivered(server, receiver):
    """Every call.created has reached the receiver at least once."""
    until, got = time.monotonic() + 90, collections.Counter()
    want = {f"evt_{i}" for i, in server.sql("select id from events where type = 'call.created'")}
    while time.monotonic() < until:
        got.update(headers["webhook-id"] for headers, _ in receiver.all())
        if want <= set(got):
            return {"events": len(want), "deliveries": sum(got.values())}
        threading.Event().wait(0.1)
    raise AssertionError(f"{len(want - set(got))} of {len(want)} events never arrived")


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_dies_at_a_named_point(world, point, record_property):
    server = world("--workers", "1", name="named")
    tenants = tenants_of(server, 1)
    server.stop()
    server.arguments = (*server.arguments, "--set", f"kill_at={point}:7")
    server.start()
    with Load(server, tenants, 40, threads=4) as load:
        pass
    visits = server.log_path.read_text(errors="replace").count(f'"point":"{point}"')
    assert visits >= 1, f"{point} was never visited"
    server.stop()
    server.arguments = server.arguments[:-2]
    server.start()
    # each death takes at most the dials of that worker with it
    found = judge(server, tenants, load.answered, most_lost=visits * 8)
    assert len(load.answered) == 40
    record_property("told", f"kill point {point}: visited {visits} times, {found}")


def test_who_takes_a_dead_workers_place_takes_its_jobs(folder):
    """Nobody waits for the lease: the clock stands still, and the next worker goes on with the call whose creation was on its way."""
    server = Server(folder / "heir", "--workers", "1")
    try:
        tenant = server.client()
        agent = tenant.agent()
        httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/agents/*/calls", "mode": "delay", "delay_ms": 60000, "times": 1})
        call = tenant.call(agent=agent, headers={"Prefer": "respond-async"}).json()["data"]["id"]
        until = time.monotonic() + 30
        while server.sql("select count(*) from jobs where kind = 'call.dial' and payload ? 'step'") == [(0,)] and time.monotonic() < until:
            threading.Event().wait(0.01)
        os.kill(server.workers()[0], signal.SIGKILL)
        while server.sql("select status from calls where id = %s", call) == [("dialing",)] and time.monotonic() < until:
            threading.Event().wait(0.01)
        assert server.sql("select status::text from calls where id = %s", call) == [("unknown",)], "it may be there: it is looked up, not sent again"
    finally:
        server.stop()


def test_random_kills_of_worker_master_and_database(world, receiver, record_property):
    seed = int(os.environ.get("TRUNKLINE_KILL_SEED", random.SystemRandom().randrange(1 << 32)))
    dice = random.Random(seed)
    server = world("--workers", "2")
    tenants = tenants_of(server, receiver=receiver)
    kills, victims = [], ["worker", "worker", "database", "master"]
    with Load(server, tenants, CALLS) as load:
        total = CALLS
        marks = sorted(dice.randrange(total // 10, total) for _ in range(12 if LONG else 6))
        for mark in marks:
            while len(load.answered) < mark and any(t.is_alive() for t in load.threads):
                threading.Event().wait(0.005)
            victim = victims[len(kills) % 4] if len(kills) < 4 else dice.choice(victims)
            kills.append((victim, len(load.answered)))
            try:
                if victim == "worker":
                    os.kill(dice.choice(server.workers()), signal.SIGKILL)
                elif victim == "database":
                    os.kill(server.postmaster(), signal.SIGKILL)
                else:
                    server.process.kill()
                    server.process.wait()
                    server.start()
            except (IndexError, StopIteration, ProcessLookupError):
                kills[-1] += ("was gone already",)
    found = judge(server, tenants, load.answered, most_lost=len(kills) * 16)
    found |= delivered(server, receiver)
    record_property("told", f"seed {seed}: kills {kills}; {found}; refused meanwhile {dict(load.other)}")
    assert len(load.answered) == CALLS
    assert {k[0] for k in kills} == {"worker", "database", "master"}
