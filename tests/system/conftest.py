"""Fixtures of the system tests: a real server with its own PostgreSQL and sandbox on the virtual clock,
a fresh client for every test, real HTTP."""
import json
import os
import pathlib
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import psycopg
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("TRUNKLINE_BIN", str(ROOT / "build" / "trunkline"))
SANITIZED = "asan" in BIN  # a sanitizer's own memory says nothing about ours
LONG = bool(os.environ.get("TRUNKLINE_TEST_LONG"))
LIMITS = '{"requests_per_second":100000,"burst":100000,"concurrent_calls":1000}'


def clean_environment():
    bare = ("DATABASE_URL", "ULTRAVOX", "STRIPE", "TELNYX", "S3_", "REDIS_URL", "OIDC", "MASTER_KEY", "PROVIDER_")
    keep = {k: v for k, v in os.environ.items() if not k.startswith("TRUNKLINE_") and not k.startswith(bare)}
    keep["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"
    keep["UBSAN_OPTIONS"] = "halt_on_error=1:print_stacktrace=1"
    return keep


# numbers, addresses, tokens, keys, secrets, what agents are told, and the names the tests use
PRIVATE = re.compile(r"\+1\d{10}|\w@\w+\.\w|eyJ[\w-]{8}|tl_(?:test|live)_\w+_\w|whsec_|front desk|_secret_|sk_test_|Hopper|Lovelace")


def logs_tell_nothing(text):
    """Every log of every server the suite ran: nothing of a person, a prompt or a secret."""
    for line in text.splitlines():
        found = PRIVATE.search(line)
        assert not found, f"the log tells {found.group()!r}: {line[:600]}"


class Server:
    """A running `trunkline serve` and what a test needs of it."""

    def __init__(self, data, *arguments, listen="127.0.0.1:0", clock=True, sandbox=("--sandbox-listen", "127.0.0.1:0"),
                 verify=True):
        self.data, self.arguments, self.clock = pathlib.Path(data), arguments, clock
        self.listen, self.sandbox_arguments, self.verify = listen, sandbox, verify
        self.start()

    def start(self):
        self.log_path = self.data.parent / f"{self.data.name}.log"
        self.log = open(self.log_path, "ab")
        command = [BIN, "serve", "--data", str(self.data), "--listen", self.listen, *self.sandbox_arguments, *self.arguments]
        if self.clock:
            command.append("--test-clock")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, env=clean_environment(), text=True,
                                        start_new_session=True)
        line = self.process.stdout.readline()
        assert line.startswith("trunkline ready on "), f"no ready line: {line!r}\n{self.tail()}"
        self.url = line.split()[-1]
        self.listen = self.url.split("://")[1]
        self.http = httpx.Client(base_url=self.url, timeout=90, verify=self.verify)

    def tail(self):
        return self.log_path.read_text(errors="replace")[-4000:]

    def stop(self, how=signal.SIGTERM):
        self.http.close()
        self.process.send_signal(how)
        self.process.wait(60)
        self.log.close()
        logs_tell_nothing(self.log_path.read_text(errors="replace"))
        return self.process.returncode

    def command(self, *arguments, check=True):
        done = subprocess.run([BIN, *arguments, "--data", str(self.data)], capture_output=True, text=True, env=clean_environment())
        assert not check or done.returncode == 0, done.stderr
        return done if not check else done.stdout.strip()

    @property
    def sandbox(self):
        if not hasattr(self, "_sandbox"):
            environ = open(f"/proc/{self.workers()[0]}/environ").read().split("\0")
            self._sandbox = next(e.split("=", 1)[1] for e in environ if e.startswith("TRUNKLINE_SANDBOX="))
        return self._sandbox

    def children(self):
        found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-a"], capture_output=True, text=True).stdout
        return [line.split(" ", 1) for line in found.splitlines()]

    def workers(self):
        return [int(pid) for pid, line in self.children() if " worker" in line]

    def postmaster(self):
        return next(int(pid) for pid, line in self.children() if "postgres" in line)

    def connect(self, user="trunkline"):
        return psycopg.connect(host=str(self.data / "run"), dbname="trunkline", user=user, autocommit=True)

    def sql(self, text, *values, user="trunkline"):
        with self.connect(user) as db:
            cursor = db.execute(text, values)
            return cursor.fetchall() if cursor.description else []

    def advance(self, seconds):
        answer = self.http.post("/_test/clock", json={"advance_seconds": seconds})
        assert answer.status_code == 200, answer.text
        assert answer.json()["idle"], f"not idle\n{self.tail()}"
        return answer.json()

    def provider_calls(self):
        return httpx.get(self.sandbox + "/_sandbox/calls", timeout=60).json()

    def provider_requests(self, path="*", since=0):
        return httpx.get(self.sandbox + "/_sandbox/requests", params={"path": path, "since": since}, timeout=60).json()

    def client(self, **options):
        return Tenant(self, **options)


class Tenant:
    """A fresh client of a fresh or given agency, and its tokens."""

    def __init__(self, server, credits=1000, agency=None, limits=LIMITS, mode="test", role="client_admin"):
        self.server = server
        if agency is None:
            name = f"Agency {uuid.uuid4()}"
            agency = json.loads(server.command("agency", "create", "--name", name, "--limits", LIMITS))["id"]
        self.agency = agency
        row = json.loads(server.command("client", "create", "--name", f"Client {uuid.uuid4()}", "--email", f"{uuid.uuid4()}@example.com",
                                        "--agency", agency, "--credits", str(credits), "--limits", limits, "--mode", mode))
        self.id = row["id"]
        self.token = self.make_token(role)

    def make_token(self, role, *more):
        client = [] if role == "agency_admin" else ["--client", self.id]
        return self.server.command("token", "--role", role, "--agency", self.agency, "--ttl", "10000000", *client, *more)

    def request(self, method, path, token=None, **options):
        headers = {"Authorization": f"Bearer {token or self.token}", **options.pop("headers", {})}
        return self.server.http.request(method, "/api/v1" + path, headers=headers, **options)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, body=None, **options):
        return self.request("POST", path, json=body if body is not None else {}, **options)

    def agent(self):
        answer = self.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk of an office."})
        assert answer.status_code == 201, answer.text
        return answer.json()["data"]["id"]

    def call(self, number="+15555550100", agent=None, **more):
        if not agent:
            self._agent = agent = getattr(self, "_agent", None) or self.agent()
        headers = more.pop("headers", {})
        return self.post("/calls", {"agent_id": agent, "phone_number": number, **more}, headers=headers)

    def read(self, call_id):
        return self.get(f"/calls/{call_id}").json()["data"]

    def balance(self):
        return self.get("/billing/balance").json()["data"]

    def events(self, **query):
        return [e["type"] for e in self.get("/events", params={"limit": 1000, **query}).json()["data"]]


class Receiver:
    """A webhook receiver; `answers` are statuses to give in turn, then 204."""

    def __init__(self):
        self.got, self.answers = queue.Queue(), []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.put(({k.lower(): v for k, v in self.headers.items()}, body))
                answer = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def all(self):
        found = []
        while not self.got.empty():
            found.append(self.got.get())
        return found


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def ledger_is_right(server):
    assert server.sql("select * from ledger_check()") == []


def pytest_terminal_summary(terminalreporter):
    """What tests have to tell (seeds, visited points, counts), whichever process ran them."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "told":
                    terminalreporter.write_line(str(value))


@pytest.fixture(scope="session")
def folder():
    """A folder the unprivileged database user can reach."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="tl-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server(folder):
    running = Server(folder / "data", "--workers", "2", "--set", "provider_timeout_ms=2500")
    yield running
    ledger_is_right(running)
    assert running.stop() == 0
    log = running.log_path.read_text(errors="replace")
    for bad in ("AddressSanitizer", "runtime error:", '"fatal"'):
        assert bad not in log, log[log.index(bad) - 500:][:3000]


@pytest.fixture
def client(server):
    tenant = Tenant(server)
    yield tenant
    ledger_is_right(server)


@pytest.fixture
def receiver():
    running = Receiver()
    yield running
    running.server.shutdown()
