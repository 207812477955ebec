"""Who may come in: tokens of a real issuer, invitations, users, clients and platform keys."""
import json
import subprocess
import threading
import uuid

import httpx
import jwt as pyjwt
import pytest

from conftest import ROOT, Server, Tenant
from test_bad_input import GOOD_AGENT, error

FOREVER = 9999999999


class Issuer:
    """An OpenID issuer from npm, in a process of its own."""

    def __init__(self):
        self.process = subprocess.Popen(["node", "issuer.mjs"], cwd=ROOT / "tests" / "issuer", stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.url = self.do("start")["issuer"]

    def do(self, what, **more):
        self.process.stdin.write(json.dumps({"do": what, **more}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def token(self, alg="RS256", **claims):
        return self.do("token", alg=alg, claims={"aud": "trunkline", "exp": FOREVER, "sub": f"sub|{uuid.uuid4()}", **claims})["token"]


@pytest.fixture(scope="module")
def issuer():
    running = Issuer()
    yield running
    running.process.kill()


@pytest.fixture(scope="module")
def trusting(folder, issuer):
    """A server that trusts the issuer the way Auth0, Clerk, Supabase or Cognito are named: by settings alone."""
    issuers = [{"issuer": issuer.url, "audience": ["trunkline", "other"],
                "claims": {"agency": "https://acme.example/agency", "client": "app_metadata.client_id", "role": "cognito:groups"},
                "roles": {"admins": "client_admin", "owners": "agency_admin"}}]
    running = Server(folder / "oidc", "--workers", "2", "--set", "oidc_issuers=" + json.dumps(issuers))
    yield running
    assert running.stop() == 0


@pytest.fixture
def tenant(trusting):
    return Tenant(trusting)


def me(server, token, **headers):
    return server.http.get("/api/v1/auth/me", headers={"Authorization": f"Bearer {token}", **headers})


def claims_of(tenant, **more):
    return {"app_metadata": {"client_id": tenant.id}, "https://acme.example/agency": tenant.agency, **more}


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_each_algorithm_and_configured_claims(trusting, tenant, issuer, alg):
    answer = me(trusting, issuer.token(alg, email="a@example.com", name="Ada", **claims_of(tenant, **{"cognito:groups": ["x", "admins"]})))
    data = answer.json()["data"]
    assert answer.status_code == 200 and data["role"] == "client_admin" and data["client"]["id"] == tenant.id
    assert data["email"] == "a@example.com" and data["credits_balance"] == 1000 and data["auth"] == {"type": "jwt", "mode": "test"}
    assert "calls:write" in data["permissions"] and "accounts:write" in data["permissions"]


def test_a_missing_or_unknown_role_is_client_user(trusting, tenant, issuer):
    for role in ({}, {"cognito:groups": "emperor"}):
        data = me(trusting, issuer.token(**claims_of(tenant, **role))).json()["data"]
        assert data["role"] == "client_user" and "agents:write" not in data["permissions"]


def test_forged_tokens_are_refused(trusting, tenant, issuer):
    good = issuer.token(**claims_of(tenant))
    claims = pyjwt.decode(good, options={"verify_signature": False})
    keys = httpx.get(issuer.url + "/jwks").json()["keys"]
    rsa = next(k for k in keys if k["kty"] == "RSA")
    confused = pyjwt.encode(claims, json.dumps(rsa).encode(), "HS256", headers={"kid": rsa["kid"]})
    head, body, mac = good.split(".")
    for token, reason in ((confused, "signature"), (f"{head}.{body}.{mac[:-8]}AAAAAAAA", "signature"),
                          (pyjwt.encode(claims, None, "none") + "AAAA", "signature"),
                          (issuer.token(**{**claims_of(tenant), "aud": "else"}), "audience"),
                          (issuer.token(**{**claims_of(tenant), "iss": "http://127.0.0.1:1"}), "issuer"),
                          (issuer.token(**{**claims_of(tenant), "exp": 1000}), "expired"),
                          (issuer.token(**{**claims_of(tenant), "nbf": FOREVER}), "not_before")):
        assert error(me(trusting, token), 401, "unauthorized")["details"]["reason"] == reason


def test_a_rotated_key_works_after_one_refetch_and_an_old_one_no_longer(trusting, tenant, issuer):
    old = issuer.token(**claims_of(tenant))
    assert me(trusting, old).status_code == 200
    trusting.advance(31)
    issuer.do("rotate")
    fresh = issuer.token(**claims_of(tenant))
    assert me(trusting, fresh).status_code == 200
    for _ in range(8):  # whichever worker answers
        assert me(trusting, fresh).status_code == 200
    trusting.advance(601)
    for _ in range(8):
        assert error(me(trusting, old), 401, "unauthorized")["details"]["reason"] == "signature"
    # a stranger's key id asks again at most once in 30 s
    before = sum("unknown" in line for line in trusting.tail().splitlines())
    claims = pyjwt.decode(fresh, options={"verify_signature": False})
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    for n in range(5):
        token = pyjwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": f"unknown-{n}"})
        assert error(me(trusting, token), 401, "unauthorized")["details"]["reason"] == "signature"
    assert sum("unknown" in line for line in trusting.tail().splitlines()) == before


def test_an_issuer_that_is_down_is_served_from_the_cache_for_a_day(trusting, tenant, issuer):
    for _ in range(8):
        assert me(trusting, issuer.token(**claims_of(tenant))).status_code == 200
    tokens = [issuer.token(**claims_of(tenant)) for _ in range(2)]
    issuer.do("stop")
    trusting.advance(3600)
    for _ in range(8):
        assert me(trusting, tokens[0]).status_code == 200
    trusting.advance(24 * 3600)
    down = error(me(trusting, tokens[1]), 503, "unavailable")
    assert down["details"]["reason"] == "issuer_unreachable"
    issuer.do("start", port=int(issuer.url.rsplit(":", 1)[1]))
    trusting.advance(31)
    assert me(trusting, issuer.token(**claims_of(tenant))).status_code == 200


def test_a_token_without_a_tenant_touches_nothing(trusting, tenant, issuer):
    stranger = issuer.token(email="stranger@example.com", email_verified=True)
    for headers in ({}, {"x-client-id": tenant.id}):
        refused = error(me(trusting, stranger, **headers), 403, "forbidden")
        assert refused["details"]["reason"] == "no_tenant"
    answer = trusting.http.post("/api/v1/agents", json=GOOD_AGENT, headers={"Authorization": f"Bearer {stranger}", "x-client-id": tenant.id})
    error(answer, 403, "forbidden")
    elsewhere = issuer.token(**{**claims_of(tenant), "https://acme.example/agency": str(uuid.uuid4())})
    error(me(trusting, elsewhere), 403, "forbidden")
    assert trusting.sql("select count(*) from agents where client_id = %s", tenant.id) == [(0,)]


def test_an_invitation_binds_a_verified_email_once(trusting, tenant, issuer):
    email = f"{uuid.uuid4()}@Example.com"
    invited = tenant.post("/auth/users", {"email": email, "role": "client_user", "name": "Grace"})
    assert invited.status_code == 201 and invited.json()["data"]["joined"] is False
    error(me(trusting, issuer.token(email=email, email_verified=False)), 403, "forbidden")
    error(me(trusting, issuer.token(email=email)), 403, "forbidden")
    mine = issuer.token(sub="grace|1", email=email.lower(), email_verified="true", **{"cognito:groups": "owners"})
    data = me(trusting, mine).json()["data"]
    assert data["client"]["id"] == tenant.id and data["role"] == "client_user", "a claim never raises an invited role"
    error(me(trusting, issuer.token(sub="mallory|1", email=email, email_verified=True)), 403, "forbidden")
    listed = {u["id"]: u for u in tenant.get("/users").json()["data"]}
    assert listed[invited.json()["data"]["id"]]["joined"] is True
    conflict = error(tenant.post("/auth/users", {"email": email.upper(), "role": "client_user"}), 409, "conflict")
    assert conflict["details"]["id"] == invited.json()["data"]["id"]
    own = trusting.http.get("/api/v1/users", headers={"Authorization": f"Bearer {mine}"}).json()["data"]
    assert [u["email"] for u in own] == [email]


def test_first_sights_at_once_make_one_user_row(trusting, tenant, issuer):
    token = issuer.token(sub=f"crowd|{uuid.uuid4()}", **claims_of(tenant))
    clients = trusting.sql("select count(*) from clients")
    answers = []
    crowd = [threading.Thread(target=lambda: answers.append(me(trusting, token).status_code)) for _ in range(20)]
    [t.start() for t in crowd]
    [t.join() for t in crowd]
    subject = pyjwt.decode(token, options={"verify_signature": False})["sub"]
    assert set(answers) == {200}
    assert trusting.sql("select count(*), min(role) from users where subject = %s", subject) == [(1, "client_user")]
    assert trusting.sql("select count(*) from clients") == clients


def test_users_are_changed_by_their_admins(trusting, tenant, issuer):
    subject = f"worker|{uuid.uuid4()}"
    token = issuer.token(sub=subject, **claims_of(tenant, **{"cognito:groups": "admins"}))
    assert me(trusting, token).json()["data"]["role"] == "client_admin"
    user = str(trusting.sql("select id from users where subject = %s", subject)[0][0])
    assert tenant.request("PATCH", f"/auth/users/{user}", json={"role": "client_user", "name": "Ada"}).json()["data"]["role"] == "client_user"
    trusting.advance(6)
    assert me(trusting, token).json()["data"]["role"] == "client_user", "the claim says more, the row decides"
    error(tenant.request("PATCH", f"/auth/users/{user}", json={"role": "agency_admin"}), 403, "forbidden")
    assert tenant.request("DELETE", f"/auth/users/{user}").json()["data"] == {"id": user, "deleted": True}
    assert error(me(trusting, token), 401, "unauthorized")["details"]["reason"] == "deactivated", "on the very next request"
    tenant.request("PATCH", f"/auth/users/{user}", json={"is_active": True})
    assert me(trusting, token).status_code == 200
    mine = next(u["id"] for u in tenant.get("/auth/users").json()["data"] if u["role"] == "client_admin")
    assert "yourself" in error(tenant.request("DELETE", f"/auth/users/{mine}"), 422, "validation_error")["details"]["id"]


# Clients

def test_an_agency_manages_its_clients(server, client):
    admin = client.make_token("agency_admin")

    def ask(method, path, **more):
        return client.request(method, path, token=admin, **more)

    body = {"name": "Bakery", "email": f"{uuid.uuid4()}@example.com", "mode": "test", "price_per_minute": 3,
            "limits": {"concurrent_calls": 2}, "settings": {"timezone": "Europe/Berlin", "low_balance_threshold": 10}}
    made = ask("POST", "/auth/clients", json=body)
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    assert row["agency_id"] == client.agency and row["price_per_minute"] == 3 and row["credits_balance"] == 0
    assert made.headers["location"] == f"/api/v1/auth/clients/{row['id']}"
    conflict = error(ask("POST", "/clients", json=body), 409, "conflict")["details"]
    assert conflict == {"field": "email", "id": row["id"]}
    bad = {"limits": {"concurrent_calls": 0}}, {"limits": {"beer": 1}}, {"settings": {"timezone": "Mars/Olympus"}}, {"email": "nobody"}
    for change in bad:
        error(ask("PATCH", f"/clients/{row['id']}", json=change), 422, "validation_error")
    changed = ask("PATCH", f"/auth/clients/{row['id']}", json={"subscription_status": "suspended", "limits": {"calls_per_day": 5},
                                                               "settings": {"timezone": None}, "price_per_minute": None}).json()["data"]
    assert changed["subscription_status"] == "suspended" and changed["limits"] == {"concurrent_calls": 2, "calls_per_day": 5}
    assert changed["settings"] == {"low_balance_threshold": 10} and changed["price_per_minute"] == 3
    events = ask("GET", "/events", headers={"x-client-id": row["id"]}).json()["data"]
    assert [e["type"] for e in events] == ["client.created", "client.suspended", "client.updated"]
    assert {c["id"] for c in ask("GET", "/clients?q=Baker").json()["data"]} == {row["id"]}
    other = server.client()
    error(ask("PATCH", f"/clients/{other.id}", json={"name": "Mine"}), 404, "not_found")
    error(ask("GET", f"/clients/{other.id}"), 404, "not_found")


def test_a_client_admin_describes_but_does_not_bound_itself(client):
    assert client.request("PATCH", f"/clients/{client.id}", json={"name": "New name"}).json()["data"]["name"] == "New name"
    for change in ({"price_per_minute": 0}, {"limits": {}}, {"subscription_status": "active"}, {"credits_ceiling": 5}):
        refused = error(client.request("PATCH", f"/clients/{client.id}", json=change), 403, "forbidden")
        assert refused["details"] == {"reason": "role", "field": next(iter(change))}
    error(client.post("/clients", {"name": "x", "email": "x@example.com"}), 403, "forbidden")


def test_a_suspended_client_reads_but_cannot_spend(client):
    call = client.call().json()["data"]["id"]
    admin = client.make_token("agency_admin")
    client.request("PATCH", f"/clients/{client.id}", token=admin, json={"subscription_status": "suspended"})
    refused = error(client.call(), 402, "payment_required")
    assert refused["details"]["reason"] == "subscription_suspended"
    assert client.read(call)["id"] == call and client.get("/billing/balance").status_code == 200


# Platform keys

def key(client, token=None, headers=None, **body):
    answer = client.request("POST", "/auth/api-keys", token=token, json={"key_name": str(uuid.uuid4()), **body}, headers=headers or {})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


def test_a_platform_key_is_shown_once_and_stored_as_a_digest(server, client):
    made = key(client, role="client_admin")
    assert made["key"].startswith("tl_test_") and made["key"].startswith(made["key_prefix"]) and made["scopes"] == ["*"]
    for shown in (client.get("/auth/api-keys").text, client.get(f"/api-keys/{made['id']}").text):
        assert made["key"] not in shown and made["key"][25:] not in shown and made["key_prefix"] in shown
    stored = server.sql("select api_keys::text from api_keys where id = %s", made["id"])[0][0]
    assert made["key"][25:] not in stored
    data = client.request("GET", "/auth/me", token=made["key"]).json()["data"]
    assert data["auth"] == {"type": "api_key", "mode": "test", "key_id": made["id"]} and data["client"]["id"] == client.id
    live = server.client(mode="live")
    assert key(live)["key"].startswith("tl_live_")


def test_a_wrong_secret_of_a_known_key_is_no_key(client):
    made = key(client)["key"]
    flipped = made[:-1] + ("0" if made[-1] != "0" else "1")
    for bad in (flipped, made[:-1], "tl_live_" + made[8:], made + "0"):
        error(client.request("GET", "/auth/me", token=bad), 401, "unauthorized")


def test_revoking_is_felt_at_once_by_every_process(server, client):
    made = key(client)
    for _ in range(8):
        assert client.request("GET", "/calls", token=made["key"]).status_code == 200
    gone = client.request("DELETE", f"/auth/api-keys/{made['id']}").json()["data"]
    assert gone["deleted"] and gone["revoked_at"]
    for _ in range(8):
        assert error(client.request("GET", "/calls", token=made["key"]), 401, "unauthorized")["details"]["reason"] == "revoked"
    error(client.request("DELETE", f"/auth/api-keys/{made['id']}"), 404, "not_found")


def test_a_key_expires_and_may_be_paused(server, client):
    soon = server.sql("select to_char(to_timestamp(frozen_us / 1e6) at time zone 'UTC' + interval '1 hour', "
                      "'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from clock_state")
    at = soon[0][0] if soon else None
    if at is None:
        server.advance(1)
        return test_a_key_expires_and_may_be_paused(server, client)
    made = key(client, expires_at=at)
    assert client.request("GET", "/calls", token=made["key"]).status_code == 200
    client.request("PATCH", f"/api-keys/{made['id']}", json={"is_active": False})
    error(client.request("GET", "/calls", token=made["key"]), 401, "unauthorized")
    client.request("PATCH", f"/api-keys/{made['id']}", json={"is_active": True})
    assert client.request("GET", "/calls", token=made["key"]).status_code == 200
    server.advance(3700)
    assert error(client.request("GET", "/calls", token=made["key"]), 401, "unauthorized")["details"]["reason"] == "expired"
    error(client.post("/api-keys", {"key_name": "late", "expires_at": at}), 422, "validation_error")


def test_scopes_bound_a_key_and_what_it_may_give(client):
    made = key(client, role="client_admin", scopes=["calls:read", "accounts:write"])
    ask = dict(token=made["key"])
    assert client.request("GET", "/calls", **ask).status_code == 200
    assert error(client.request("GET", "/agents", **ask), 403, "forbidden")["details"]["reason"] == "scope"
    assert error(client.request("POST", "/calls", json={}, **ask), 403, "forbidden")["details"]["reason"] == "scope"
    assert client.request("GET", "/auth/me", **ask).json()["data"]["permissions"] == ["calls:read", "accounts:write"]
    for scopes in (["*"], ["calls:write"]):
        error(client.request("POST", "/api-keys", json={"key_name": "more", "scopes": scopes}, **ask), 403, "forbidden")
    assert client.request("POST", "/api-keys", json={"key_name": "same", "scopes": ["calls:read"]}, **ask).status_code == 201
    error(client.post("/api-keys", {"key_name": "odd", "scopes": ["beer:drink"]}), 422, "validation_error")
    user = key(client)
    assert user["role"] == "client_user"
    error(client.request("POST", "/api-keys", token=user["key"], json={"key_name": "x"}), 403, "forbidden")
    error(client.post("/api-keys", {"key_name": "x", "role": "agency_admin"}), 403, "forbidden")


def test_an_agency_key_spans_the_agency(server, client):
    mate, admin = server.client(agency=client.agency), client.make_token("agency_admin")
    made = key(client, token=admin)
    assert made["client_id"] is None and made["role"] == "agency_admin" and made["key"].startswith("tl_live_")
    assert {c["id"] for c in client.request("GET", "/clients", token=made["key"]).json()["data"]} == {client.id, mate.id}
    as_mate = client.request("POST", "/agents", token=made["key"], json=GOOD_AGENT, headers={"x-client-id": mate.id})
    assert as_mate.status_code == 201 and as_mate.json()["data"]["client_id"] == mate.id
    assert client.get(f"/api-keys/{made['id']}").status_code == 404, "a client does not see its agency's keys"


def test_last_used_is_written_lazily(server, client):
    made = key(client)
    client.request("GET", "/calls", token=made["key"])
    server.advance(1)
    first = client.get(f"/api-keys/{made['id']}").json()["data"]["last_used_at"]
    assert first
    server.advance(30)
    client.request("GET", "/calls", token=made["key"])
    server.advance(1)
    assert client.get(f"/api-keys/{made['id']}").json()["data"]["last_used_at"] == first
    server.advance(60)
    client.request("GET", "/calls", token=made["key"])
    server.advance(1)
    assert client.get(f"/api-keys/{made['id']}").json()["data"]["last_used_at"] > first


# Provider credentials

SECRET = "uv_secret_key_never_shown_0123456789"


def test_a_credential_is_sealed_and_never_comes_back(server, client):
    made = client.post("/auth/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET})
    assert made.status_code == 201 and "key" not in made.json()["data"], made.text
    row = made.json()["data"]
    shown = client.get("/auth/api-keys?service=ultravox").text + client.get(f"/api-keys/{row['id']}").text + made.text
    assert SECRET not in shown and SECRET[-8:] not in shown
    dump = server.sql("select sealed, api_keys::text from api_keys where id = %s", row["id"])[0]
    assert SECRET.encode() not in dump[0] and dump[0][0] == 2, "an envelope with a data key of its own"
    assert client.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET}).status_code == 409
    error(client.post("/api-keys", {"key_name": "x", "api_key": SECRET}), 422, "validation_error")
    error(client.post("/api-keys", {"service": "pigeon", "key_name": "x", "api_key": SECRET}), 422, "validation_error")
    error(client.post("/api-keys", {"service": "stripe", "key_name": "x"}), 422, "validation_error")
    client.request("DELETE", f"/api-keys/{row['id']}")
    assert server.sql("select sealed from api_keys where id = %s", row["id"]) == [(None,)]


def test_an_agent_lives_in_its_clients_own_account(server, client):
    made = client.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET}).json()["data"]
    agent = client.agent()
    server.advance(1)
    used = {r["headers"]["x-api-key"] for r in server.provider_requests("/api/agents") if r["method"] == "POST"}
    assert len(used) >= 1
    assert server.sql("select credential_id::text from agents where id = %s", agent) == [(made["id"],)]
    call = client.call(agent=agent).json()["data"]["id"]
    server.advance(120)
    assert client.read(call)["status"] == "completed"
    client.request("DELETE", f"/api-keys/{made['id']}")
    failed = client.call(agent=agent)
    assert failed.status_code == 502, failed.text
    assert client.balance()["held"] == 0


def test_a_tts_key_is_pushed_only_to_an_account_of_ones_own(server, client):
    body = {"provider": "google", "api_key": "google_secret_0123456789", "voice_id": "en-US-Chirp3"}
    stored = client.request("PATCH", "/auth/providers/tts", json=body)
    data = stored.json()["data"]
    assert stored.status_code == 200 and data["sync_status"] == "stored_only" and data["service"] == "google_cloud"
    assert data["key_name"] == "google_cloud TTS key" and stored.json()["meta"]["warnings"]
    client.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET})
    server.advance(1)
    since = len(server.provider_requests())
    pushed = client.request("PATCH", "/providers/tts", json={**body, "provider": "elevenlabs"})
    if pushed.status_code == 202:  # the test clock answers at once when the job had to wait
        server.advance(5)
    assert client.get(f"/api-keys/{pushed.json()['data']['id']}").json()["data"]["sync_status"] == "synced"
    sent = [r for r in server.provider_requests("/api/accounts/me/tts_api_keys") if r["method"] == "PATCH"]
    assert sent and "elevenLabs" in json.dumps(sent[-1]) and since >= 0
    refused = client.request("PATCH", "/providers/tts", json={"provider": "lmnt", "api_key": "broken_0123456789"})
    error(refused, 502, "provider_error")
    azure = client.request("PATCH", "/providers/tts", json={"provider": "azure", "api_key": "azure_0123456789"}).json()
    assert azure["data"]["sync_status"] == "stored_only" and azure["meta"]["warnings"]
