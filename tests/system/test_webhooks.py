"""Webhooks out: signed bytes, retries on the ladder, giving up, disabling, and where they may not go."""
import base64
import hashlib
import hmac
import json

import pytest

from conftest import Server


def subscribe(client, receiver, *types, **more):
    answer = client.post("/webhooks", {"url": receiver.url, "event_types": list(types) or ["agent.created"], **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def deliveries(server, client):
    return server.sql("select status, attempt, response_code, error_message from webhook_deliveries where client_id = %s order by created_at",
                      client.id)


def test_both_signatures_cover_the_sent_bytes(server, client, receiver):
    hook = subscribe(client, receiver)
    client.agent()
    server.advance(1)
    (headers, body), = receiver.all()
    key = base64.b64decode(hook["secret"].removeprefix("whsec_"))
    stamp = headers["webhook-timestamp"]
    signed = f"{headers['webhook-id']}.{stamp}.".encode() + body
    assert headers["webhook-signature"] == "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["x-trunkline-timestamp"] == stamp
    assert headers["x-trunkline-signature"] == hmac.new(hook["secret"].encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    event = json.loads(body)
    assert list(event) == ["id", "type", "timestamp", "client_id", "data"] and event["id"] == headers["webhook-id"]


def test_the_secret_is_shown_once_and_sealed(server, client, receiver):
    hook = subscribe(client, receiver, secret="whsec_" + base64.b64encode(b"x" * 32).decode())
    assert hook["secret"] not in client.get(f"/webhooks/{hook['id']}").text and hook["secret"] not in client.get("/webhooks").text
    sealed, = server.sql("select secret_sealed from webhook_endpoints where id = %s", hook["id"])[0]
    assert hook["secret"].encode() not in bytes(sealed)
    assert hook["secret"] not in server.log_path.read_text(errors="replace")


def test_the_ladder(server, client, receiver):
    """Ten tries: now, then 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h apart, each +-20 %, one id."""
    subscribe(client, receiver)
    receiver.answers = [500] * 10
    client.agent()
    server.advance(1)
    assert receiver.got.qsize() == 1
    for tries, seconds in enumerate((5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400), start=2):
        last, due, left = server.sql("""select extract(epoch from next_attempt_at - updated_at)::float8, next_attempt_at,
            extract(epoch from next_attempt_at)::float8 - (select frozen_us / 1e6 from clock_state)::float8
            from webhook_deliveries where client_id = %s""", client.id)[0]
        assert 0.8 * seconds <= last <= 1.2 * seconds, (tries, last)
        server.advance(left - 1)
        assert receiver.got.qsize() == tries - 1, f"try {tries} came before {due}"
        server.advance(2)
        assert receiver.got.qsize() == tries, f"try {tries} did not come at {due}"
    server.advance(200000)
    got = receiver.all()
    assert len(got) == 10 and len({h["webhook-id"] for h, _ in got}) == 1 and len({h["webhook-timestamp"] for h, _ in got}) == 10
    assert len({body for _, body in got}) == 1
    assert deliveries(server, client) == [("failed_permanently", 10, 500, "The receiver answered 500")]
    assert "webhook.delivery.exhausted" in client.events()
    assert server.sql("select count(*) from webhook_attempts where client_id = %s", client.id) == [(10,)]


def test_it_recovers(server, client, receiver):
    hook = subscribe(client, receiver)
    receiver.answers = [503, 302]
    client.agent()
    server.advance(1000)
    assert deliveries(server, client) == [("delivered", 3, 204, None)]
    assert client.get(f"/webhooks/{hook['id']}").json()["data"]["failing_since"] is None


def test_410_disables_at_once(server, client, receiver):
    hook = subscribe(client, receiver)
    receiver.answers = [410]
    client.agent()
    server.advance(5)
    row = client.get(f"/webhooks/{hook['id']}").json()["data"]
    assert row["enabled"] is False and "410" in row["disabled_reason"] and "webhook.endpoint.disabled" in client.events()
    client.agent()
    server.advance(5)
    assert receiver.got.qsize() == 1


def test_own_schedule_and_tries(server, client, receiver):
    subscribe(client, receiver, retry_config={"max_attempts": 2, "schedule_seconds": [60]})
    receiver.answers = [500, 500]
    client.agent()
    server.advance(45)
    assert receiver.got.qsize() == 1
    server.advance(30)
    assert deliveries(server, client)[0][:2] == ("failed_permanently", 2)


def test_only_what_was_asked_for(server, client, receiver):
    subscribe(client, receiver, "call.*")
    client.call("+15555550111")
    server.advance(60)
    types = {json.loads(body)["type"] for _, body in receiver.all()}
    assert {"call.created", "call.busy", "call.billed"} <= types and all(t.startswith("call.") for t in types)


def test_a_removed_endpoint_gets_nothing(server, client, receiver):
    hook = subscribe(client, receiver)
    assert client.request("DELETE", f"/webhooks/{hook['id']}").status_code == 204
    client.agent()
    server.advance(5)
    assert receiver.got.empty() and client.get(f"/webhooks/{hook['id']}").status_code == 404


@pytest.mark.parametrize("body, field", [
    ({"url": "ftp://x", "event_types": ["*"]}, "url"), ({"url": "https://u@example.com/", "event_types": ["*"]}, "url"),
    ({"url": "https://example.com", "event_types": []}, "event_types"), ({"url": "https://example.com", "event_types": ["call.sung"]}, "event_types[0]"),
    ({"url": "https://example.com", "event_types": ["*"], "secret": "x" * 30}, "secret"),
    ({"url": "https://example.com", "event_types": ["*"], "retry_config": {"max_attempts": 21}}, "retry_config.max_attempts"),
])
def test_bad_endpoints(client, body, field):
    answer = client.post("/webhooks", body)
    assert answer.status_code == 422 and field in answer.json()["error"]["details"], answer.text


def test_private_addresses_are_never_reached(folder, receiver):
    """Without egress_allow_private: refused on write where it shows, and on delivery where only DNS tells."""
    server = Server(folder / "public", "--workers", "1", "--set", "demo=off", "--set", "dev_issuer=true")
    try:
        client = server.client()
        for url in (receiver.url, "https://127.0.0.1/x", "https://10.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
                    "https://169.254.169.254/latest", "https://localhost/", "https://example.com:8080/"):
            answer = client.post("/webhooks", {"url": url, "event_types": ["*"]})
            assert answer.status_code == 422, url
        made = client.post("/webhooks", {"url": "https://example.com/", "event_types": ["agent.created"], "retry_config": {"max_attempts": 1}})
        server.sql("update webhook_endpoints set url = %s where id = %s", receiver.url.replace("http:", "https:"), made.json()["data"]["id"])
        client.agent()
        server.advance(5)
        (status, _, _, error), = deliveries(server, client)
        assert status == "failed_permanently" and "must" in error and receiver.got.empty()
    finally:
        server.stop()
