"""One key, one effect: replayed, refused, raced, and after a crash."""
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx

KEY = {"Idempotency-Key": "order-7"}


def test_the_same_bytes_come_back(server, client):
    agent = client.agent()
    first = client.call(agent=agent, headers=KEY)
    again = client.call(agent=agent, headers={"X-Idempotency-Key": '"order-7"', "User-Agent": "else", "X-Request-Id": "another-one"})
    assert first.status_code == again.status_code == 201 and first.content == again.content
    assert again.headers["idempotency-replayed"] == "true" and again.headers["x-request-id"] == "another-one"
    assert "idempotency-replayed" not in first.headers
    assert server.sql("select count(*) from calls where client_id = %s", client.id) == [(1,)]
    sealed, = server.sql("select body_sealed from idempotency_keys where client_id = %s", client.id)[0]
    assert b"+15555550100" not in bytes(sealed)


def test_respond_async_is_final_at_once(server, client):
    agent = client.agent()
    first = client.call(agent=agent, headers={**KEY, "Prefer": "respond-async"})
    server.advance(120)
    again = client.call(agent=agent, headers={**KEY, "Prefer": "respond-async"})
    assert first.status_code == again.status_code == 202 and first.content == again.content
    assert first.json()["meta"]["job_id"]
    job = client.get(f"/jobs/{first.json()['meta']['job_id']}").json()["data"]
    assert (job["kind"], job["status"], job["resource_id"]) == ("call.dial", "done", first.json()["data"]["id"])


def test_another_request_with_the_key_is_refused(client):
    agent = client.agent()
    client.call(agent=agent, headers=KEY)
    other = client.call("+15555550101", agent=agent, headers=KEY)
    assert other.status_code == 422 and other.json()["error"]["code"] == "idempotency_key_reused"


def test_a_refusal_leaves_no_record(client):
    agent = client.agent()
    assert client.call("555", agent=agent, headers=KEY).status_code == 422
    assert client.call(agent=agent, headers=KEY).status_code == 201


def test_a_provider_refusal_leaves_no_record(server, client):
    agent = client.agent()
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/agents/*/calls", "mode": "status", "status": 400})
    assert client.call(agent=agent, headers=KEY).status_code == 502
    assert client.call(agent=agent, headers=KEY).status_code == 201
    assert client.balance()["held"] == 60


def test_keys_of_two_clients_are_two_keys(server, client):
    other = server.client()
    assert client.call(headers=KEY).status_code == other.call(headers=KEY).status_code == 201
    assert len(other.get("/calls").json()["data"]) == 1


def test_bad_keys(client):
    for headers in ({"Idempotency-Key": ""}, {"Idempotency-Key": "x" * 256}, {"Idempotency-Key": "a", "X-Idempotency-Key": "b"},
                    {"Idempotency-Key": "two words"}):
        answer = client.post("/agents", {"name": "x", "system_prompt": "0123456789"}, headers=headers)
        assert answer.status_code == 400 and answer.json()["error"]["code"] == "bad_request", headers


def test_patch_and_delete_honour_keys(server, client):
    agent = client.agent()
    once = [client.request("PATCH", f"/agents/{agent}", json={"name": "New"}, headers=KEY) for _ in range(2)]
    assert once[0].content == once[1].content and once[0].json()["data"]["revision"] == 2
    gone = [client.request("DELETE", f"/agents/{agent}", headers={"Idempotency-Key": "delete-1"}) for _ in range(2)]
    assert [g.status_code for g in gone] == [200, 200] and gone[0].content == gone[1].content
    assert client.request("DELETE", f"/agents/{agent}").status_code == 404


def test_twenty_identical_posts_make_one_call(server, client):
    agent = client.agent()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.call(agent=agent, headers=KEY), range(20)))
    assert {a.status_code for a in answers} <= {201, 202, 409}
    assert all(a.headers["retry-after"] == "1" for a in answers if a.status_code == 409)
    made, = server.sql("select id::text from calls where client_id = %s", client.id)
    assert len([c for c in server.provider_calls() if c["metadata"].get("trunkline_call_id") == made[0]]) == 1


def test_the_last_credit_is_spent_once(server):
    poor = server.client(credits=3)
    agent = poor.agent()
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: poor.call("+15555550102", agent=agent, call_settings={"max_duration_seconds": 60}), range(12)))
    assert sorted(a.status_code for a in answers) == [201] * 3 + [402] * 9
    assert poor.balance()["available"] == 0
    server.advance(200)


def test_a_thousand_requests_with_one_key_have_one_effect(server):
    """Side by side through every process: one call, one hold, one POST at the provider; the others wait or get the same answer."""
    client = server.client(credits=5000)
    agent = client.agent()
    before = len(server.provider_calls())
    seen, lock = {}, threading.Lock()

    def send(n):
        with httpx.Client(base_url=server.url, timeout=90, headers={"Authorization": f"Bearer {client.token}"}) as http:
            for _ in range(20):
                answer = http.post("/api/v1/calls", json={"agent_id": agent, "phone_number": "+15555550100"},
                                   headers={"Idempotency-Key": "one-for-all"})
                with lock:
                    seen.setdefault(answer.status_code, set()).add(answer.content if answer.status_code != 409 else b"")

    crowd = [threading.Thread(target=send, args=(n,)) for n in range(50)]
    [t.start() for t in crowd]
    [t.join() for t in crowd]
    assert set(seen) <= {201, 202, 409} and sum(len(bodies) for status, bodies in seen.items() if status != 409) <= 2, seen.keys()
    assert len(client.get("/calls").json()["data"]) == 1 and client.balance()["held"] == 60
    assert len(server.provider_calls()) == before + 1
    again = client.call(agent=agent, headers={"Idempotency-Key": "one-for-all"})
    assert again.status_code == 201 and again.headers["idempotency-replayed"] == "true"
    server.advance(120)
