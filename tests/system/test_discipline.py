"""Toward providers: documented rates are kept before they are exceeded, a failing account is left alone for a while, everything is counted."""
import re
import time

import httpx
import pytest

from conftest import Server


def operations(server):
    text = httpx.get(server.url + "/metrics").text
    return {(o, r): int(n) for o, r, n in re.findall(r'provider_operations_total{provider="\w+",operation="(\w+)",result="(\w+)"} (\d+)', text)}


def metric(server, name):
    return int(re.search(rf"^trunkline_{name}_total (\d+)", httpx.get(server.url + "/metrics").text, re.M)[1])


def plant(server, **fault):
    assert httpx.post(server.sandbox + "/_sandbox/faults", json=fault).status_code == 201


def test_calls_are_created_no_faster_than_the_account_may(folder):
    """Twelve a minute, set: the first burst passes, the others wait their turn in the queue; the provider never has to say 429."""
    server = Server(folder / "paced", "--workers", "2", "--set", "ultravox_calls_per_minute=12", clock=False)
    try:
        client = server.client()
        agent = client.agent()
        answers = [client.call("+15555550111", agent=agent, headers={"Prefer": "respond-async"}) for _ in range(8)]
        assert {a.status_code for a in answers} == {202}
        until = time.monotonic() + 20
        while len(server.provider_calls()) < 3 and time.monotonic() < until:
            server.http.get("/ready")
        assert len(server.provider_calls()) == 3, "a sixth of the minute's calls at once, the rest later"
        waiting = client.get("/calls", params={"status": "queued"}).json()["data"]
        assert len(waiting) == 5
        assert not [r for r in server.provider_requests("/api/agents/*/calls") if r["status"] == 429]
    finally:
        server.stop()


def test_a_circuit_opens_probes_once_and_closes(folder):
    server = Server(folder / "circuit", "--workers", "1", "--set", "provider_timeout_ms=2000")
    try:
        client = server.client()
        plant(server, match="* /api/tools", mode="status", status=503, times=100000)
        for n in range(8):
            client.post("/tools", {"name": f"t{n}", "endpoint": "https://example.com/", "method": "GET"}, headers={"Prefer": "respond-async"})
        for _ in range(30):
            server.advance(1)
            if metric(server, "provider_circuits_opened"):
                break
        before = len(server.provider_requests("/api/tools"))
        assert before >= 20
        server.advance(25)
        assert len(server.provider_requests("/api/tools")) == before, "left alone while it is open"
        server.advance(15)
        assert len(server.provider_requests("/api/tools")) - before == 1, "one probe, which failed"
        httpx.delete(server.sandbox + "/_sandbox/faults")
        server.advance(120)
        rows = client.get("/tools").json()["data"]
        assert {r["status"] for r in rows} <= {"active", "failed"} and client.post("/tools", {"name": "now", "endpoint": "https://example.com/",
                                                                                             "method": "GET"}).status_code == 201
    finally:
        assert server.stop() == 0


def test_every_operation_is_counted_and_logged_with_its_request(server, client):
    before = operations(server)
    made = client.post("/tools", {"name": "t", "endpoint": "https://example.com/", "method": "GET"}, headers={"X-Request-Id": "find-me-in-the-log"})
    assert made.status_code == 201
    plant(server, match="PUT /api/tools/*", mode="status", status=400, times=1)
    client.request("PATCH", f"/tools/{made.json()['data']['id']}", json={"name": "u"})
    httpx.delete(server.sandbox + "/_sandbox/faults")
    after = operations(server)
    assert after[("tool_create", "answered")] == before.get(("tool_create", "answered"), 0) + 1
    assert after[("tool_change", "refused")] == before.get(("tool_change", "refused"), 0) + 1
    lines = [line for line in server.log_path.read_text().splitlines() if '"message":"provider"' in line and "find-me-in-the-log" in line]
    assert len(lines) == 1 and '"operation":"tool_create"' in lines[0] and '"status_code":201' in lines[0]


def test_retry_after_is_waited_out(server, client):
    plant(server, match="POST /api/tools", mode="status", status=429, times=1)
    since = len(server.provider_requests())
    made = client.post("/tools", {"name": "t", "endpoint": "https://example.com/", "method": "GET"})
    assert made.status_code == 202 and made.json()["meta"]["job_id"]
    server.advance(30)
    assert client.get(f"/tools/{made.json()['data']['id']}").json()["data"]["status"] == "active"
    posts = [r for r in server.provider_requests("/api/tools", since) if r["method"] == "POST"]
    assert [p["status"] for p in posts] == [429, 201]


@pytest.mark.parametrize("setting", ["ultravox_calls_per_second=many", "ultravox_calls_per_minute=-3"])
def test_rates_that_cannot_be_read_stop_the_start(folder, setting):
    import subprocess
    from conftest import BIN, clean_environment
    done = subprocess.run([BIN, "serve", "--data", str(folder / "bad"), "--listen", "127.0.0.1:0", "--set", setting], capture_output=True, text=True,
                          env=clean_environment(), timeout=30)
    assert done.returncode != 0 and setting.split("=")[0] in done.stderr
