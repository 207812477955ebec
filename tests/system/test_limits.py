"""Rates and quotas: exact between the processes of a machine, within one per cent between machines."""
import contextlib
import json
import subprocess
import threading
import time

import httpx
import pytest

from conftest import BIN, Server, clean_environment, free_port
from test_access import key
from test_bad_input import error

RATE, BURST = 200, 400
LIMITS = json.dumps({"requests_per_second": RATE, "burst": BURST})


def hammer(urls, token, requests=1500, threads=8):
    """How many of them were let in, and over what time."""
    counts, lock = [0, 0], threading.Lock()

    def run(n):
        with httpx.Client(base_url=urls[n % len(urls)], timeout=60, headers={"Authorization": f"Bearer {token}"}) as http:
            for _ in range(requests // threads):
                status = http.get("/api/v1/auth/me").status_code
                assert status in (200, 429), status
                with lock:
                    counts[status == 429] += 1

    began = time.monotonic()
    crowd = [threading.Thread(target=run, args=(n,)) for n in range(threads)]
    [t.start() for t in crowd]
    [t.join() for t in crowd]
    return counts[0], time.monotonic() - began


def within(admitted, elapsed, slack=1.01):
    allowed = BURST + RATE * elapsed
    assert admitted <= allowed * slack + 1, f"{admitted} let in, {allowed:.0f} allowed"
    assert admitted >= BURST, "and the burst was there"


@pytest.fixture(scope="module")
def four(folder):
    running = Server(folder / "four", "--workers", "4")
    yield running
    assert running.stop() == 0


def warm(urls, token):
    """Each process learns the client's limits with its first answer."""
    for url in urls:
        for _ in range(40):
            with httpx.Client(base_url=url, timeout=60, headers={"Authorization": f"Bearer {token}"}) as http:
                http.get("/api/v1/auth/me")


def test_four_processes_let_in_what_one_would(four):
    client = four.client(limits=LIMITS)
    warm([four.url], client.token)
    within(*hammer([four.url], client.token))
    refused = next(a for a in (client.get("/auth/me") for _ in range(2000)) if a.status_code == 429)
    details = error(refused, 429, "rate_limit_exceeded")["details"]
    assert details["policy"] == "client" and details["limit"] == RATE and int(refused.headers["retry-after"]) >= 1
    assert refused.headers["ratelimit"].startswith('"client";r=0;t=')
    assert refused.headers["ratelimit-policy"] == f'"client";q={RATE};w=1, "calls-day";q=10000;w=86400'


def test_a_platform_key_has_a_bucket_of_its_own(four):
    client = four.client()
    made = key(client)
    answers = [client.request("GET", "/auth/me", token=made["key"]) for _ in range(900)]
    refused = [a for a in answers if a.status_code == 429]
    assert refused and refused[0].json()["error"]["details"]["policy"] == "key"
    assert '"key";q=200;w=1' in answers[0].headers["ratelimit-policy"] and '"key";r=' in answers[0].headers["ratelimit"]
    assert client.get("/auth/me").status_code == 200, "the client's other credentials go on"


def test_the_calls_of_a_day(server):
    client = server.client(limits=json.dumps({"calls_per_day": 3, "concurrent_calls": 100}))
    agent = client.agent()
    made = [client.call(agent=agent, headers={"Prefer": "respond-async"}) for _ in range(5)]
    assert [m.status_code for m in made] == [202, 202, 202, 429, 429]
    details = error(made[3], 429, "rate_limit_exceeded")["details"]
    assert details["policy"] == "calls-day" and details["limit"] == 3 and details["reset_at"].endswith("T00:00:00.000Z")
    assert 1 <= int(made[3].headers["retry-after"]) <= 86400
    assert client.balance()["held"] <= 3 * 60, "a refused call holds nothing"
    assert len(client.get("/calls").json()["data"]) == 3
    server.advance(int(made[3].headers["retry-after"]) + 1)
    assert client.call(agent=agent, headers={"Prefer": "respond-async"}).status_code == 202


# Between machines: servers of their own, with pages of memory of their own, on one database.

@contextlib.contextmanager
def machines(server, folder, name, *settings):
    server.sql(f"create database {name}")
    (folder / f"{name}.key").write_text("cd" * 32)
    url = f"postgresql://trunkline@/{name}?host={server.data / 'run'}"
    given = ("--set", f"database_url={url}", "--set", f"master_key_file={folder / name}.key", "--set", "dev_issuer=true",
             "--set", "sandbox=on", "--workers", "2", *settings)
    running = []
    try:
        running = [Server(folder / f"{name}{n}", *given, clock=False) for n in (1, 2)]
        environ = {**clean_environment(), "DATABASE_URL": url, "MASTER_KEY_FILE": str(folder / f"{name}.key")}

        def command(*arguments):
            done = subprocess.run([BIN, *arguments, "--data", str(running[0].data)], capture_output=True, text=True, env=environ)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        command("agency", "create", "--name", "A")
        client = json.loads(command("client", "create", "--name", "C", "--email", "c@example.com", "--mode", "test", "--limits", LIMITS))
        yield [m.url for m in running], command("token", "--role", "client_admin", "--client", client["id"])
    finally:
        for machine in running:
            assert machine.stop() == 0
        server.sql(f"drop database {name} with (force)")


@pytest.fixture(scope="module")
def redis():
    port = free_port()
    process = subprocess.Popen(["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--requirepass", "sesame", "--save", ""],
                               stdout=subprocess.PIPE, text=True)
    next(line for line in process.stdout if "eady to accept" in line)
    yield process, f"redis://:sesame@127.0.0.1:{port}/1"
    process.kill()
    process.wait()


def test_two_machines_share_a_rate_by_slices_from_postgresql(server, folder):
    with machines(server, folder, "slices") as (urls, token):
        warm(urls, token)
        within(*hammer(urls, token))


def test_two_machines_share_a_rate_by_redis_and_go_on_without_it(server, folder, redis):
    process, url = redis
    with machines(server, folder, "redis", "--set", f"redis_url={url}") as (urls, token):
        warm(urls, token)
        within(*hammer(urls, token))
        process.kill()
        process.wait()
        headers = {"Authorization": f"Bearer {token}"}
        answers = {httpx.get(u + "/api/v1/auth/me", headers=headers, timeout=60).status_code for u in urls * 20}
        assert answers == {200}, "each machine decides alone: fail open, written down in docs/operations.md"
        alone = [line for line in httpx.get(urls[0] + "/metrics").text.splitlines() if line.startswith("trunkline_limits_alone")]
        assert int(alone[0].split()[-1]) >= 1
