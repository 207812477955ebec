"""Starting, stopping, slots, order of work, the embedded store, migrations."""
import json
import os
import re
import signal
import subprocess
import threading
import time

import httpx
import psycopg
import pytest

from conftest import BIN, ROOT, Server, clean_environment, ledger_is_right


def gone(pid):
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as f:
            return f.read().split()[2] == "Z"
    except (ProcessLookupError, FileNotFoundError):
        return True


@pytest.fixture
def own(folder):
    running = Server(folder / "own", "--workers", "2", "--set", "job_lease_ms=3000", "--set", "provider_timeout_ms=9000")
    yield running
    if running.process.poll() is None:
        running.stop()
    subprocess.run(["rm", "-rf", str(running.data)])


def test_stop_leaves_nothing_and_start_goes_on(own):
    client = own.client()
    call_id = client.call("+15555550101").json()["data"]["id"]
    pids = [int(pid) for pid, _ in own.children()]
    assert own.stop() == 0 and all(gone(p) for p in pids)
    own.start()
    assert client.read(call_id)["status"] in ("dialing", "in_progress")
    own.advance(90000)	# the sandbox forgot the call: it ends by asking, billed as never known
    ledger_is_right(own)


def test_a_request_under_way_is_finished_before_the_stop(own):
    """SIGTERM while the provider takes its time: the answer still comes, new requests do not get in."""
    client = own.client()
    agent = client.agent()
    httpx.post(own.sandbox + "/_sandbox/faults", json={"match": "POST /api/agents/*/calls", "mode": "delay", "delay_ms": 1500})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client.call(agent=agent)))
    asking.start()
    while own.sql("select count(*) from calls where client_id = %s and status = 'dialing'", client.id) == [(0,)]:
        pass
    own.process.send_signal(signal.SIGTERM)
    asking.join()
    assert answers[0].status_code == 201
    assert own.process.wait(40) == 0
    own.http.close()


def test_what_has_outlived_its_time_is_swept(server, client):
    client.call("+15555550111", headers={"Idempotency-Key": "k"})
    server.advance(100)
    count = lambda: server.sql("select (select count(*) from idempotency_keys where client_id = %s), "
                               "(select count(*) from jobs where client_id = %s and kind not like 'retention.%%')", client.id, client.id)[0]
    assert count()[0] == 1 and count()[1] > 0
    server.advance(8 * 86400)
    assert count() == (0, 0)


def test_a_second_server_on_the_folder_is_refused(own):
    second = subprocess.run([BIN, "serve", "--data", str(own.data), "--listen", "127.0.0.1:0", "--sandbox-listen", "127.0.0.1:0"],
                            capture_output=True, text=True, env=clean_environment(), timeout=60)
    assert second.returncode == 1 and "another server runs" in second.stderr


def test_killed_processes_come_back(own):
    client = own.client()
    agent = client.agent()
    worker, postmaster = own.workers()[0], own.postmaster()
    os.kill(worker, signal.SIGKILL)
    os.kill(postmaster, signal.SIGKILL)
    until, good = time.monotonic() + 60, 0
    while good < 20 and time.monotonic() < until:
        alive = {int(pid) for pid, _ in own.children()}
        try:
            answer = client.get(f"/agents/{agent}").status_code
        except httpx.HTTPError:
            answer = 0
        assert answer in (200, 503, 0)
        good = good + 1 if answer == 200 and not alive & {worker, postmaster} and len(own.workers()) == 2 else 0
    assert good == 20, own.tail()


def test_wrong_master_key_refuses_to_start(own):
    own.stop()
    key = own.data / "master.key"
    kept = key.read_text()
    key.write_text("00" * 32)
    with pytest.raises(AssertionError, match="not the master key"):
        own.start()
    own.process.wait(30)
    key.unlink()
    with pytest.raises(AssertionError, match="no usable master key"):
        own.start()
    own.process.wait(30)
    key.write_text(kept)
    own.start()
    assert own.http.get("/ready").status_code == 200


def test_migrations_go_down_and_up(own):
    own.client()
    count = len(list((ROOT / "db" / "schema").glob("*.up.sql")))
    shown = own.command("migrate", "status")
    assert shown.count("applied") == count and "missing" not in shown
    own.stop()
    # the private cluster runs only with its server; a plain one stands in
    own.start()
    assert f"down {count:04}" in own.command("migrate", "down")
    assert "missing" in own.command("migrate", "status")
    assert own.http.get("/ready").status_code in (200, 503)
    assert f"up {count:04}" in own.command("migrate", "up")
    assert "0 problems" in own.command("check")
    for version in range(count, 0, -1):  # from each earlier version, and from empty
        assert len(own.command("migrate", "down", "--to", str(version)).splitlines()) == count - version + 1
        assert len(own.command("migrate", "up").splitlines()) == count - version + 1 and "0 problems" in own.command("check")


def test_a_stale_worker_changes_nothing(server, client):
    """Whoever lost its lease names an old generation: neither its ending nor its note is taken."""
    client.call()
    job = server.sql("select id from jobs where client_id = %s limit 1", client.id)[0][0]
    server.sql("update jobs set status = 'running', generation = 7, lease_until = 'infinity', finished_at = null where id = %s", job)
    for late in ("select job_finish(%s, 6, 'done', null, null, null)", "select job_note(%s, 6, '{}')"):
        with pytest.raises(psycopg.Error) as refused:
            server.sql(late, job)
        assert refused.value.sqlstate == "TL001"
    assert server.sql("select status, generation from jobs where id = %s", job) == [("running", 7)]
    server.sql("select job_finish(%s, 7, 'done', null, null, null)", job)


def test_slots_are_counted_and_a_queued_call_expires(server):
    narrow = server.client(limits='{"requests_per_second":100000,"burst":100000,"concurrent_calls":2}')
    agent = narrow.agent()
    answers = [narrow.call("+15555550102", agent=agent) for _ in range(3)]
    assert [a.status_code for a in answers] == [201, 201, 202]
    assert answers[2].json()["meta"]["concurrency"] == {"current": 2, "max": 2}
    third = answers[2].json()["data"]["id"]
    server.advance(30)
    assert narrow.read(third)["status"] == "queued" and "call.queued" in narrow.events()
    server.advance(700)
    assert narrow.read(third)["outcome"] == "expired"
    fourth = narrow.call("+15555550100", agent=agent)
    assert fourth.status_code == 201
    server.advance(100)
    assert narrow.balance()["held"] == 0


def test_waiting_for_a_slot_uses_up_no_tries(server):
    """A call that waits is claimed many times; only failures count towards giving up."""
    narrow = server.client(limits='{"requests_per_second":100000,"burst":100000,"concurrent_calls":1}')
    agent = narrow.agent()
    narrow.call("+15555550102", agent=agent)
    waiting = narrow.call("+15555550102", agent=agent).json()["data"]["id"]
    server.advance(120)
    attempts, generation = server.sql("select attempts, generation from jobs where resource_id = %s and kind = 'call.dial'", waiting)[0]
    assert attempts == 0 and generation > 20
    server.advance(1500)


def test_a_slow_provider_does_not_hold_up_reads(own):
    """128 dials hang at the provider; 1,000 reads all finish before the first dial ends."""
    client = own.client(credits=100000)
    agent = client.agent()
    ids = [client.call("+15555550123", agent=agent, headers={"Prefer": "respond-async"}).json()["data"]["id"] for _ in range(128)]
    hanging = lambda: own.sql("select count(*) from calls where client_id = %s and status = 'dialing'", client.id)[0][0]
    until = time.monotonic() + 60
    while hanging() < 128 and time.monotonic() < until:
        pass
    order = []

    def read(n):
        for i in range(125):
            assert client.get(f"/calls/{ids[(n * 125 + i) % 128]}").status_code == 200
        order.append("reads")

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert order == ["reads"] * 8 and hanging() == 128, "a dial ended before the reads"


def test_statements_run_alike_for_two_tenants_on_one_connection(server):
    """Every prepared plan, generic ones too, obeys the tenant of the moment: ten runs each, alternating."""
    pair = [server.client(), server.client()]
    for tenant in pair:
        tenant.first = tenant.call().json()["data"]["id"]
    with server.connect("tl_app") as db:
        for n in range(20):
            me, them = pair[n % 2], pair[1 - n % 2]
            with db.transaction():
                db.execute("select set_config('tl.client', %s, true), set_config('tl.agency', %s, true)", (me.id, me.agency))
                for call, count in ((me.first, 1), (them.first, 0)):
                    rows = db.execute("select id from call_rows where id = %s", (call,), prepare=True).fetchall()
                    assert len(rows) == count
                for view in ("call_rows", "agent_rows", "client_rows", "webhook_rows", "event_rows"):
                    seen = db.execute(f"select distinct client_id from {view}", prepare=True).fetchall()
                    assert {str(c) for c, in seen} <= {me.id}


ROWS = {  # view: how 100,000 rows of its table come to be; n numbers them, `when` spaces them by a second
    "call_rows": ("calls", "id, agency_id, client_id, agent_id, phone_number, direction, status, outcome, price_per_minute, ended_at, created_at",
                  "gen_random_uuid(), %(agency)s, %(client)s, %(agent)s, '+15555550100', 'outbound', 'completed', 'completed', 1, clock_timestamp(), {when}"),
    "agent_rows": ("agents", "id, agency_id, client_id, name, system_prompt, model, status, created_at",
                   "gen_random_uuid(), %(agency)s, %(client)s, 'a' || n, 'You are one of many.', 'm', 'creating', {when}"),
    "tool_rows": ("tools", "id, agency_id, client_id, name, endpoint, method, status, created_at",
                  "gen_random_uuid(), %(agency)s, %(client)s, 't' || n, 'https://example.com/', 'GET', 'creating', {when}"),
    "voice_rows": ("voices", "id, agency_id, client_id, name, language, provider, type, status, created_at",
                   "gen_random_uuid(), %(agency)s, %(client)s, 'v' || n, 'en', 'lmnt', 'reference', 'training', {when}"),
    "kb_rows": ("knowledge_bases", "id, agency_id, client_id, name, language, status, created_at",
                "gen_random_uuid(), %(agency)s, %(client)s, 'k' || n, 'en', 'creating', {when}"),
    "kb_document_rows": ("kb_documents", "id, agency_id, client_id, knowledge_base_id, kind, url, status, created_at",
                         "gen_random_uuid(), %(agency)s, %(client)s, %(kb)s, 'url', 'https://example.com/', 'indexed', {when}"),
    "number_rows": ("phone_numbers", "id, agency_id, client_id, phone_number, origin, status, created_at",
                    "gen_random_uuid(), %(agency)s, %(client)s, '+1555' || n, 'import', 'released', {when}"),
}


@pytest.mark.parametrize("view", list(ROWS))
def test_a_page_far_behind_costs_no_more_than_the_first(server, client, view):
    """100,000 rows: the last page reads no more of the database than the first, through the door of the client and of the agency."""
    table, columns, values = ROWS[view]
    given = {"agency": client.agency, "client": client.id, "agent": client.agent(), "kb": client.post("/kb", {"name": "k"}).json()["data"]["id"]}
    when = "timestamptz '2026-01-01' + n * interval '1 second'"
    with server.connect() as db:
        db.execute("set session_replication_role = replica")  # what guards a single row would write an audit of each
        db.execute(f"insert into {table} ({columns}) select {values.format(when=when)} from generate_series(1, 100000) n", given)
        db.execute(f"analyze {table}")
    only = f"knowledge_base_id = '{given['kb']}' and " if view == "kb_document_rows" else ""

    def buffers(role, after):
        with server.connect(role) as db:
            db.execute("select set_config('tl.client', %s, false), set_config('tl.agency', %s, false)",
                       (client.id if role == "tl_app" else "", client.agency))
            plan = db.execute(f"explain (analyze, buffers, format json) select * from {view} where {only} "
                              f"{'(created_at, id) < (%s, %s)' if after else 'true'} order by created_at desc, id desc limit 51", after or ()).fetchone()[0][0]["Plan"]
            return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]

    for role in ("tl_app", "tl_agency"):
        first, last = buffers(role, None), buffers(role, ("2026-01-01 00:10:00+00", "ffffffff-ffff-ffff-ffff-ffffffffffff"))
        # 51 rows lie on at most as many more blocks, wherever in the table; a scan would read a thousand and more
        assert last <= first + 51 and first < 1000, (role, first, last)
    with server.connect() as db:
        db.execute("set session_replication_role = replica")
        db.execute(f"delete from {table} where client_id = %s and created_at < '2026-02-10'", (client.id,))


def test_round_trips(folder):
    """A read waits for the database once; a call's creation twice before its commit, so three times in all."""
    quiet = Server(folder / "trips", "--workers", "1", "--set", "jobs_at_once=0", clock=False)
    try:
        client = quiet.client()
        agent = client.agent()

        def trips(ask, status):
            count = lambda: int(re.search(r"sql_round_trips_total (\d+)", quiet.http.get("/metrics").text.split("# TYPE trunkline_sql_round")[1])[1])
            before = count()
            assert ask().status_code == status
            return count() - before

        call_id = client.call(agent=agent, headers={"Prefer": "respond-async"}).json()["data"]["id"]
        assert trips(lambda: client.get(f"/calls/{call_id}"), 200) == 1
        assert trips(lambda: client.get("/calls"), 200) == 1
        assert trips(lambda: client.call(agent=agent, headers={"Prefer": "respond-async", "Idempotency-Key": "k"}), 202) == 3
    finally:
        quiet.stop()


def test_two_copies_on_one_database(server, folder):
    """Production's form: DATABASE_URL and a key file, any number of copies; the roles log in with passwords."""
    server.sql("create database other")
    key = folder / "other.key"
    key.write_text("ab" * 32)
    url = f"postgresql://trunkline@/other?host={server.data / 'run'}"
    copies = []
    try:
        settings = ("--set", f"database_url={url}", "--set", f"master_key_file={key}", "--set", "dev_issuer=true", "--set", "sandbox=on",
                    "--workers", "1")
        copies = [Server(folder / f"copy{n}", *settings, clock=False) for n in (1, 2)]
        environ = {**clean_environment(), "DATABASE_URL": url, "MASTER_KEY_FILE": str(key)}

        def command(*arguments):
            done = subprocess.run([BIN, *arguments, "--data", str(copies[0].data)], capture_output=True, text=True, env=environ)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        command("agency", "create", "--name", "Other")
        client = json.loads(command("client", "create", "--name", "C", "--email", "c@example.com", "--credits", "5", "--mode", "test"))
        token = command("token", "--role", "client_admin", "--client", client["id"])
        made = [httpx.post(c.url + "/api/v1/agents", json={"name": "Desk", "system_prompt": "You are the front desk."}, timeout=30,
                           headers={"Authorization": f"Bearer {token}", "Idempotency-Key": "one"}) for c in copies]
        assert [m.status_code for m in made] == [201, 201] and made[0].content == made[1].content
        keyless = subprocess.run([BIN, "serve", "--data", str(folder / "copy3"), "--listen", "127.0.0.1:0"], capture_output=True, text=True,
                                 env={**clean_environment(), "DATABASE_URL": url}, timeout=30)
        assert keyless.returncode == 1 and "MASTER_KEY_FILE" in keyless.stderr
    finally:
        for copy in copies:
            copy.stop()
        server.sql("drop database other with (force)")
