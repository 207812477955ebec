"""Bad input: the contract's error, never a 500, and the connection stays usable."""
import json
import socket
import time

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

GOOD_AGENT = {"name": "Desk", "system_prompt": "You are the front desk."}


def error(answer, status, code):
    assert answer.status_code == status, answer.text
    body = answer.json()["error"]
    assert body["code"] == code and body["message"] and body["request_id"] == answer.headers["x-request-id"] and body["ts"].endswith("Z")
    return body


BODIES = [
    ("not json", b"{", 400, "bad_request"),
    ("not utf-8", b'{"name":"\xff"}', 400, "bad_request"),
    ("an array", b"[1]", 400, "bad_request"),
    ("a NUL", b'{"name":"\\u0000"}', 400, "bad_request"),
    ("a twin member", b'{"name":"a","name":"b"}', 400, "bad_request"),
    ("a huge integer", b'{"name":123456789012345678901234567890}', 400, "bad_request"),
    ("too deep", b'{"a":' * 40 + b"1" + b"}" * 40, 400, "bad_request"),
    ("too many values", b'{"a":[' + b"0," * 200001 + b"0]}", 400, "bad_request"),
    ("too large", b'{"a":"' + b"x" * (1 << 20) + b'"}', 413, "payload_too_large"),
    ("nothing", b"", 422, "validation_error"),
    ("odd list items", b'{"name":"a","system_prompt":"0123456789","tools":[null,1,{}]}', 422, "validation_error"),
    ("wrong types", b'{"name":1,"system_prompt":[]}', 422, "validation_error"),
]


@pytest.mark.parametrize("body, status, code", [b[1:] for b in BODIES], ids=[b[0] for b in BODIES])
def test_bodies(client, body, status, code):
    answer = client.request("POST", "/agents", content=body, headers={"Content-Type": "application/json"})
    error(answer, status, code)
    assert client.get("/auth/me").status_code == 200


def test_every_violation_at_once(client):
    answer = client.post("/calls", {"agent_id": "x", "phone_number": "555", "direction": "sideways",
                                    "call_settings": {"max_duration_seconds": 5, "recording_enabled": "yes"}, "context": []})
    details = error(answer, 422, "validation_error")["details"]
    assert set(details) == {"agent_id", "phone_number", "direction", "call_settings.max_duration_seconds",
                            "call_settings.recording_enabled", "context"}


def test_unknown_and_tenant_fields_are_warnings(client):
    answer = client.post("/agents", {**GOOD_AGENT, "colour": "red", "client_id": "00000000-0000-0000-0000-000000000000"})
    assert answer.status_code == 201 and answer.json()["data"]["client_id"] == client.id
    assert {w["field"] for w in answer.json()["meta"]["warnings"]} == {"colour", "client_id"}


def test_long_names_are_cut_behind_a_whole_character(client):
    """A key of four-byte letters is longer than what a warning or a refusal shows of it."""
    name = "\U0001d4d0" * 100
    answer = client.post("/agents", {**GOOD_AGENT, name: 1})
    assert answer.status_code == 201 and name.startswith(answer.json()["meta"]["warnings"][0]["field"])
    refused = error(client.request("PATCH", f"/clients/{client.id}", json={"settings": {name: 1}}), 422, "validation_error")
    assert name.startswith(next(iter(refused["details"])).removeprefix("settings."))


def test_routes_and_methods(client):
    error(client.get("/nowhere"), 404, "not_found")
    answer = client.request("DELETE", "/calls")
    error(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == {"POST", "GET"}
    error(client.get("/calls/not-a-uuid"), 404, "not_found")
    error(client.get("/calls/00000000-0000-7000-8000-000000000000"), 404, "not_found")
    assert client.get("/auth/me/").status_code == 200, "a trailing slash is served like the bare path"


def test_media_types(client):
    error(client.request("POST", "/agents", content=b"a=b", headers={"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    error(client.get("/auth/me", headers={"Accept": "text/csv"}), 406, "not_acceptable")
    assert client.get("/auth/me", headers={"Accept": "text/html, */*;q=0.1"}).status_code == 200


def test_sizes(server, client):
    error(client.get("/calls?external_ref=" + "x" * 9000), 413, "payload_too_large")
    error(client.get("/calls", headers={"X-Big": "x" * 17000}), 413, "payload_too_large")
    with socket.create_connection(tuple(server.listen.split(":"))) as s:
        s.sendall(b"POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nContent-Type: application/json\r\n"
                  b"Authorization: Bearer " + client.token.encode() + b"\r\n\r\n" + b"x" * 2000000)
        assert b"413" in s.recv(100)


def test_malformed_heads_get_the_libraries_answer(server, client):
    for raw in (b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
                b"POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
        with socket.create_connection(tuple(server.listen.split(":"))) as s:
            s.sendall(raw)
            s.settimeout(10)
            s.recv(1000)
    assert client.get("/auth/me").status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=1000000000", "limit=x", "created_after=yesterday", "agent_id=1"])
def test_bad_queries(client, query):
    details = error(client.get("/calls?" + query), 422, "validation_error")["details"]
    assert query.split("=")[0] in details


def test_cursors_are_signed_and_bound(server, client):
    agent = client.agent()
    for n in range(5):
        client.call(agent=agent, external_ref=f"r{n}", headers={"Prefer": "respond-async"})
        server.advance(1)
    seen, cursor = [], None
    while True:
        page = client.get("/calls", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [c["external_ref"] for c in page["data"]]
        cursor = page["meta"]["next_cursor"]
        if not cursor:
            break
        held = cursor
    assert seen == ["r4", "r3", "r2", "r1", "r0"]
    error(client.get("/calls", params={"cursor": held[:-1] + ("A" if held[-1] != "A" else "B")}), 400, "bad_request")
    error(client.get("/calls", params={"cursor": held, "status": "queued"}), 400, "bad_request")
    error(server.client().get("/calls", params={"cursor": held}), 400, "bad_request")
    warned = client.get("/calls?status=sleeping").json()
    assert warned["data"] == [] and warned["meta"]["warnings"][0]["field"] == "status"
    server.advance(200)


def test_credentials(server, client):
    def refused(token, reason):
        answer = client.request("GET", "/auth/me", token=token)
        assert error(answer, 401, "unauthorized")["details"]["reason"] == reason

    assert error(server.http.get("/api/v1/auth/me"), 401, "unauthorized")["details"]["reason"] == "missing"
    head, body, mac = client.token.split(".")
    refused("x", "malformed")
    refused(f"{head}.{body}.{mac[:-4]}AAAA", "signature")
    claims = pyjwt.decode(client.token, options={"verify_signature": False})
    mine = Ed25519PrivateKey.generate()
    refused(pyjwt.encode(claims, mine, "EdDSA", headers={"kid": "dev-1"}), "signature")
    refused(pyjwt.encode({**claims, "iss": "https://else.example"}, mine, "EdDSA"), "issuer")
    refused(pyjwt.encode(claims, None, "none"), "malformed")
    refused(pyjwt.encode(claims, None, "none") + "AAAA", "signature")
    keys = server.http.get("/.well-known/jwks.json").json()
    assert pyjwt.decode(client.token, pyjwt.PyJWK(keys["keys"][0]).key, ["EdDSA"], audience="trunkline",
                          options={"verify_iat": False, "verify_exp": False})["sub"] == claims["sub"]
    short = server.command("token", "--role", "client_admin", "--agency", client.agency, "--client", client.id, "--ttl", "5")
    assert client.request("GET", "/auth/me", token=short).status_code == 200
    server.advance(70)
    refused(short, "expired")


def test_x_client_id(server, client):
    other, mate = server.client(), server.client(agency=client.agency)
    admin = client.make_token("agency_admin")
    error(client.get("/calls", headers={"x-client-id": "zebra"}), 422, "validation_error")
    foreign = error(client.get("/calls", headers={"x-client-id": other.id}), 403, "forbidden")
    unknown = error(client.get("/calls", headers={"x-client-id": "00000000-0000-7000-8000-000000000000"}), 403, "forbidden")
    assert foreign["message"] == unknown["message"] and foreign["details"] == unknown["details"]
    assert client.get("/calls", headers={"x-client-id": client.id}).status_code == 200
    for stranger in (other.id, "00000000-0000-7000-8000-000000000000"):
        error(client.request("GET", "/calls", token=admin, headers={"x-client-id": stranger}), 403, "forbidden")
    ids = {c["id"] for c in client.request("GET", "/auth/clients", token=admin).json()["data"]}
    assert ids == {client.id, mate.id}
    error(client.request("POST", "/agents", token=admin, json=GOOD_AGENT), 422, "validation_error")
    made = client.request("POST", "/agents", token=admin, json=GOOD_AGENT, headers={"x-client-id": mate.id})
    assert made.status_code == 201 and made.json()["data"]["client_id"] == mate.id
    assert client.get(f"/agents/{made.json()['data']['id']}").status_code == 404


def test_roles(client):
    user = client.make_token("client_user")
    error(client.request("POST", "/agents", token=user, json=GOOD_AGENT), 403, "forbidden")
    agent = client.agent()
    assert client.request("POST", "/calls", token=user, json={"agent_id": agent, "phone_number": "+15555550111"}).status_code == 201


def test_a_deactivated_user_is_refused(server, client):
    assert client.get("/auth/me").status_code == 200
    server.sql("update users set is_active = false where client_id = %s", client.id)
    assert error(client.get("/auth/me"), 401, "unauthorized")["details"]["reason"] == "deactivated"


def test_two_first_logins_make_one_user(server):
    from concurrent.futures import ThreadPoolExecutor
    fresh = server.client()
    with ThreadPoolExecutor(16) as pool:
        assert {a.status_code for a in pool.map(lambda _: fresh.get("/auth/me"), range(32))} == {200}
    assert server.sql("select count(*) from users where client_id = %s", fresh.id) == [(1,)]


def test_a_suspended_client_reads_but_does_not_spend(server, client):
    agent = client.agent()
    server.sql("update clients set subscription_status = 'suspended' where id = %s", client.id)
    assert error(client.call(agent=agent), 402, "payment_required")["details"]["reason"] == "subscription_suspended"
    assert client.get("/calls").status_code == 200


def test_request_ids_and_traces(client):
    answer = client.get("/auth/me", headers={"X-Request-Id": "my-request.1",
                                             "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
    assert answer.headers["x-request-id"] == answer.json()["meta"]["request_id"] == "my-request.1"
    assert answer.headers["x-trace-id"] == "0af7651916cd43dd8448eb211c80319c"
    assert client.get("/auth/me", headers={"X-Request-Id": "bad id"}).headers["x-request-id"] != "bad id"


def test_a_rate_limit_says_when(server):
    slow = server.client(limits='{"requests_per_second":2,"burst":4}')
    answers = [slow.get("/auth/me") for _ in range(12)]
    limited = [a for a in answers if a.status_code == 429]
    assert limited and answers[0].headers["ratelimit-policy"].startswith('"client";q=')
    details = error(limited[0], 429, "rate_limit_exceeded")["details"]
    assert int(limited[0].headers["retry-after"]) == details["retry_after"] >= 1 and details["limit"] == 2


def test_pages_for_people(server):
    health = server.http.get("/health").json()
    assert (health["status"], health["service"]) == ("healthy", "trunkline")
    assert server.http.get("/ready").json()["status"] == "ready"
    assert "trunkline_http_requests_total" in server.http.get("/metrics").text
    assert "payload_too_large" in server.http.get("/docs/errors").text
    page = server.http.get("/docs")
    assert "/api/v1/calls/{id}" in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    doc = server.http.get("/openapi.json").json()
    assert doc["openapi"] == "3.1.0" and "/api/v1/calls/{id}" in doc["paths"]
    ids = [o["operationId"] for p in doc["paths"].values() for o in p.values()]
    assert len(ids) == len(set(ids))
