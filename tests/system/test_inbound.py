"""Provider events in: whose signature counts, what is stored, what a twin does."""
import base64
import hashlib
import hmac
import json
from datetime import datetime, timedelta, timezone

import httpx
import pytest
import stripe
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from telnyx import Telnyx
from telnyx.lib.webhook_verification import WebhookVerificationError, verify_webhook_signature

from conftest import Server
from test_billing import buy, rich
from test_telephony import offer

CARRIER = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)
CARRIER_KEY = base64.b64encode(CARRIER.public_key().public_bytes_raw()).decode()


@pytest.fixture(scope="module")
def ingress(folder):
    """A server with secrets of ours: two of the voice provider, one key of the carrier."""
    running = Server(folder / "ingress", "--workers", "1", "--set", "ultravox_webhook_secret=new-secret,old-secret",
                     "--set", f"telnyx_public_key={CARRIER_KEY}")
    yield running
    running.stop()


def now(server):
    return datetime.fromisoformat(server.http.get("/_test/clock").json()["now"].replace("Z", "+00:00"))


def ultravox(server, body, secrets=("new-secret",), at=None, stamp=None, form="{body}{stamp}"):
    stamp = stamp or (at or now(server)).isoformat()
    macs = [hmac.new(s.encode(), form.format(body=body, stamp=stamp).encode(), hashlib.sha256).hexdigest() for s in secrets]
    return server.http.post("/api/v1/webhooks/ultravox", content=body, headers={
        "X-Ultravox-Webhook-Timestamp": stamp, "X-Ultravox-Webhook-Signature": ", ".join(macs)})


def telnyx(server, body, key=CARRIER, at=None, path="/api/v1/webhooks/telnyx", join="|"):
    stamp = str(int((at or now(server)).timestamp()))
    signature = base64.b64encode(key.sign((stamp + join + body).encode())).decode()
    return server.http.post(path, content=body, headers={"telnyx-timestamp": stamp, "telnyx-signature-ed25519": signature})


def event(call="3c90c3cc-0d44-4b50-8888-8dd25736052a", name="call.ended"):
    return json.dumps({"event": name, "call": {"callId": call}})


def stored(server):
    return server.sql("select count(*) from inbound_events")[0][0]


def test_any_secret_and_any_signature_will_do(ingress):
    for n, secrets in enumerate([("new-secret",), ("old-secret",), ("wrong", "old-secret"), ("wrong", "new-secret", "odd")]):
        assert ultravox(ingress, event(f"call-{n}"), secrets).status_code == 204
    ingress.advance(1)
    assert {s for s, in ingress.sql("select status from inbound_events where dedupe_key like 'call.ended:call-%%'")} == {"ignored"}


@pytest.mark.parametrize("how, reason", [
    ({"secrets": ("wrong",)}, "signature"), ({"form": "{stamp}.{body}"}, "signature"), ({"form": "{stamp}{body}"}, "signature"),
    ({"stamp": "1767323045"}, "timestamp"),
])
def test_other_forms_are_refused(ingress, how, reason):
    before = stored(ingress)
    answer = ultravox(ingress, event(), **how)
    assert answer.status_code == 401 and answer.json()["error"]["details"]["reason"] == reason
    assert stored(ingress) == before


def test_freshness_counts_both_ways(ingress):
    for away, status in ((timedelta(seconds=-290), 204), (timedelta(seconds=290), 204), (timedelta(seconds=-310), 401), (timedelta(seconds=310), 401)):
        assert ultravox(ingress, event(f"fresh{away.total_seconds()}"), at=now(ingress) + away).status_code == status
    naive = now(ingress).replace(tzinfo=None).isoformat()
    assert ultravox(ingress, event("naive"), stamp=naive).status_code == 204


def test_missing_headers(ingress):
    for path in ("ultravox", "telnyx"):
        answer = ingress.http.post(f"/api/v1/webhooks/{path}", content=event())
        assert answer.status_code == 401 and answer.json()["error"]["details"]["reason"] == "missing"


def test_malformed_after_a_good_signature_is_400(ingress):
    assert ultravox(ingress, "{").status_code == 400
    assert ultravox(ingress, "[]").status_code == 400
    assert ultravox(ingress, '{"call":{}}').status_code == 400
    assert telnyx(ingress, "CallSid=1").status_code == 400


def test_a_twin_is_stored_once(ingress):
    before = stored(ingress)
    assert [ultravox(ingress, event("twin")).status_code for _ in range(3)] == [204] * 3
    assert stored(ingress) == before + 1


def test_the_carriers_signature(ingress):
    body = json.dumps({"data": {"event_type": "call.hangup", "id": "ev-1", "payload": {}}})
    assert telnyx(ingress, body).status_code == 200
    assert telnyx(ingress, "CallSid=tx1&CallStatus=ringing&SequenceNumber=1").status_code == 200
    assert telnyx(ingress, body, key=Ed25519PrivateKey.generate()).status_code == 401
    assert telnyx(ingress, body, join=".").status_code == 401
    assert telnyx(ingress, body, at=now(ingress) - timedelta(seconds=400)).status_code == 401


def test_the_carriers_own_library_judges_as_we_do(ingress):
    """Telnyx's official SDK over the same bytes and headers: what it takes we take, what it refuses we refuse."""
    library = Telnyx(api_key="none", public_key=CARRIER_KEY)
    body = json.dumps({"data": {"event_type": "call.hangup", "id": "sdk-1", "payload": {}}})
    real = datetime.now(timezone.utc)  # the library reads the machine's clock; the server's is at most minutes away
    other = Ed25519PrivateKey.generate()
    for key, away, join, sent in ((CARRIER, 0, "|", body), (other, 0, "|", body), (CARRIER, 0, ".", body), (CARRIER, 0, "", body),
                                  (CARRIER, 0, "|", body + " "), (CARRIER, -3600, "|", body)):
        stamp = str(int((real + timedelta(seconds=away)).timestamp()))
        headers = {"telnyx-timestamp": stamp, "telnyx-signature-ed25519": base64.b64encode(key.sign((stamp + join + body).encode())).decode()}
        try:
            library.webhooks.unwrap(sent, headers=headers)
            theirs = 200
        except WebhookVerificationError:
            theirs = 401
        assert ingress.http.post("/api/v1/webhooks/telnyx", content=sent, headers=headers).status_code == theirs, (away, join)


def test_what_the_sandbox_sends_satisfies_the_official_libraries(folder, receiver):
    """The sandbox signs as the real ones do, or what passes against it would prove little."""
    server = Server(folder / "official", "--workers", "1")
    try:
        client = rich(server)
        told = httpx.post(server.sandbox + "/_sandbox/destinations", json={"telnyx": receiver.url, "stripe": receiver.url}).json()
        assert client.post("/telephony/numbers/purchase", {"phone_number": offer(client)}).status_code == 202
        httpx.post(f"{server.sandbox}/_sandbox/stripe/checkout/{buy(client).json()['data']['session_id']}/pay")
        server.advance(30)
        of = {"telnyx": 0, "stripe": 0}
        for headers, body in receiver.all():
            if "stripe-signature" in headers:
                stripe.Webhook.construct_event(body, headers["stripe-signature"], told["stripe"]["secret"])
                of["stripe"] += 1
            else:
                verify_webhook_signature(body, headers, told["telnyx"]["public_key"])
                of["telnyx"] += 1
        assert of["telnyx"] >= 1 and of["stripe"] >= 2, of
    finally:
        server.stop()


def test_a_late_joined_does_not_reopen_a_call(ingress):
    client = ingress.client()
    call = client.call("+15555550111").json()["data"]
    ingress.advance(90)
    final = client.read(call["id"])
    assert final["ended_at"]
    late = json.dumps({"event": "call.joined", "call": {"callId": call["ultravox_call_id"], "joined": now(ingress).isoformat(),
                                                          "metadata": {"trunkline_call_id": call["id"]}}})
    assert ultravox(ingress, late).status_code == 204
    ingress.advance(5)
    assert client.read(call["id"])["status"] == final["status"] == "no_answer"


def test_without_a_secret_nothing_verifies(folder):
    server = Server(folder / "bare", "--workers", "1", "--set", "ultravox_api_key=sandbox", "--set", "ultravox_base_url=http://127.0.0.1:9",
                    clock=False, sandbox=("--sandbox", "off"))
    try:
        server.sql("delete from vault where name <> 'master_key_check'")
        answer = telnyx(server, "CallSid=1&CallStatus=ringing", at=datetime.now(timezone.utc))
        assert answer.status_code == 503 and answer.json()["error"]["details"]["reason"] == "not_configured"
        assert stored(server) == 0
        # outside the demo nobody trusts the development issuer unasked
        assert server.http.get("/.well-known/jwks.json").status_code == 404
        server.command("agency", "create", "--name", "A")
        token = server.command("token", "--role", "agency_admin")
        answer = server.http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401 and answer.json()["error"]["details"]["reason"] == "issuer"
    finally:
        server.stop()
