"""Events as they happen: server-sent events, resumed where they broke, by tenant, in little memory."""
import contextlib
import json
import os
import signal
import socket
import time

from conftest import LONG, SANITIZED, Server
from test_access import key
from test_bad_input import error


class Reader:
    """A stream as a browser reads it."""

    def __init__(self, client, token=None, **headers):
        host, port = client.server.listen.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        query = headers.pop("query", "")
        lines = [f"GET /api/v1/events/stream{query} HTTP/1.1", "Host: x", "Accept: text/event-stream", f"Authorization: Bearer {token or client.token}",
                 *[f"{k.replace('_', '-')}: {v}" for k, v in headers.items()], "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = {}
        while (line := self.file.readline().strip()):
            name, value = line.decode().split(": ", 1)
            self.headers[name.lower()] = value

    def lines(self):
        """Of the chunked body, without its frame."""
        rest = b""
        while True:
            head = self.file.readline().strip()
            if not head or int(head, 16) == 0:
                return
            rest += self.file.read(int(head, 16))
            self.file.readline()
            while b"\n" in rest:
                line, rest = rest.split(b"\n", 1)
                yield line.decode()

    def events(self, n):
        """The next n events as (id, type, data)."""
        found, now, beats = [], {}, 0
        for line in self.lines():
            if line.startswith(":"):
                beats += 1
                assert beats < 4, f"nothing but heartbeats after {found}"
                continue
            if line:
                name, value = line.split(": ", 1)
                now[name] = value
            elif "data" in now:
                found.append((int(now.get("id", -1)), now["event"], json.loads(now["data"])))
                now = {}
                if len(found) == n:
                    return found
            else:
                now = {}
        return found

    def close(self):
        self.file.close()
        self.socket.close()


def test_events_come_as_they_happen_and_go_on_where_they_broke(server, client):
    live = Reader(client)
    assert live.status == 200 and live.headers["content-type"] == "text/event-stream"
    agent = client.agent()
    (first, kind, data), = live.events(1)
    assert kind == "agent.created" and data["data"]["agent_id"] == agent and data["client_id"] == client.id and data["seq"] == first
    live.close()
    call = client.call(agent=agent).json()["data"]["id"]
    server.advance(60)
    again = Reader(client, Last_Event_ID=str(first))
    listed = [e for e in client.get("/events", params={"after": first, "limit": 1000}).json()["data"]]
    got = again.events(len(listed))
    assert [g[0] for g in got] == [e["seq"] for e in listed] and [g[2] for g in got] == listed
    assert got[0][0] == first + 1 and {g[2]["resource"]["id"] for g in got} == {call}
    again.close()


def test_only_what_was_asked_for_and_only_ones_own(server, client):
    stranger = server.client()
    mine = Reader(client, query="?type=call.billed,call.completed")
    theirs = Reader(stranger)
    client.call()
    server.advance(60)
    assert sorted(e[1] for e in mine.events(2)) == ["call.billed", "call.completed"]
    stranger.agent()
    (_, kind, data), = theirs.events(1)
    assert kind == "agent.created" and data["client_id"] == stranger.id, "the first thing it hears is its own"
    mine.close(), theirs.close()


def test_who_may_listen(server, client):
    error(server.http.get("/api/v1/events/stream"), 401, "unauthorized")
    error(client.request("GET", "/events/stream", token=client.make_token("agency_admin")), 422, "validation_error")
    error(client.get("/events/stream", headers={"Last-Event-ID": "x"}), 400, "bad_request")
    error(client.get("/events/stream", headers={"Accept": "text/html"}), 406, "not_acceptable")
    revoked = key(client, scopes=["events:read"])
    live = Reader(client, token=revoked["key"])
    assert live.status == 200
    client.request("DELETE", f"/api-keys/{revoked['id']}")
    client.agent()
    assert live.events(1) == [], "a revoked key hears nothing more"


def test_a_gap_is_told(server, client):
    client.agent()
    client.agent()
    server.sql("delete from events where client_id = %s and seq < 2", client.id)
    live = Reader(client, Last_Event_ID="0")
    (_, kind, data), (seq, second, _) = live.events(2)
    assert kind == "reset" and data == {"oldest_seq": 2} and (seq, second) == (2, "agent.created")
    live.close()


def test_ten_streams_and_no_more(folder):
    """Of a client on a machine, whichever process they lie in; those of a dead process count no more."""
    server = Server(folder / "ten", "--workers", "3")
    try:
        client = server.client()
        open_now = [Reader(client) for _ in range(10)]
        assert {r.status for r in open_now} == {200}
        refused = client.get("/events/stream")
        error(refused, 429, "rate_limit_exceeded")
        assert Reader(server.client(agency=client.agency)).status == 200, "another client has seats of its own"
        client.agent()
        for r in open_now:
            assert len(r.events(1)) == 1
        for pid in server.workers():
            os.kill(pid, signal.SIGKILL)
        again, until = [], time.monotonic() + 30
        while len(again) < 10 and time.monotonic() < until:  # until the master has seen all three dead
            with contextlib.suppress(OSError, IndexError):
                again += [r for r in [Reader(client)] if r.status == 200]
        assert len(again) == 10
    finally:
        assert server.stop() == 0, "open streams do not hold up the end"


def test_many_streams_take_little(folder, record_property):
    """500 clients, ten streams each in the long form: anonymous memory a stream, and all hear what happens."""
    clients, each = (500, 10) if LONG else (60, 10)
    server = Server(folder / "many", "--workers", "1", clock=False)
    try:
        first = server.client()
        made = server.sql("""with c as (insert into clients (id, agency_id, name, email, mode) select gen_random_uuid(), %s, 'c' || n, 'c' || n || '@example.com', 'test'
            from generate_series(1, %s) n returning id) select id::text, ledger_open(id, %s) from c""", first.agency, clients, first.agency)
        admin = first.make_token("agency_admin")
        first.request("GET", "/agents", token=admin)

        def anonymous():
            return sum(int(line.split()[1]) for pid in server.workers() for line in open(f"/proc/{pid}/status") if line.startswith("RssAnon"))

        for reader in [Reader(first, token=admin, x_client_id=c) for c, _ in made]:
            reader.close()  # what a process keeps once, whoever comes
        first.request("GET", "/agents", token=admin)  # its limits are known from here on
        before = anonymous()
        readers = [Reader(first, token=admin, x_client_id=c) for c, _ in made for _ in range(each)]
        assert {r.status for r in readers} == {200}
        used = (anonymous() - before) / len(readers)
        record_property("told", f"{len(readers)} event streams over {clients} clients: {used:.1f} KiB of RssAnon each")
        assert SANITIZED or used <= 26, f"{used:.1f} KiB a stream"
        some = [readers[0], readers[len(readers) // 2], readers[-1]]
        for client_id in {made[0][0], made[len(readers) // 2 // each][0], made[-1][0]}:
            first.request("POST", "/billing/adjustments", token=admin, headers={"x-client-id": client_id}, json={"amount": 5, "reason": "hello"})
        for r in some:
            assert r.events(1)[0][1] == "credits.adjusted"
        for r in readers:
            r.close()
    finally:
        server.stop()
