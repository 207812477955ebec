"""Every route x every role and scope x own, foreign, missing and malformed tenant x valid, expired and forged credential. What each
must answer is worked out from the route's own row (roles, scope, agency flag in /openapi.json), never from a list kept here."""
import itertools
import re
import uuid

import psycopg
import pytest

from conftest import Server, Tenant, ledger_is_right
from test_access import key
from test_billing import buy
from test_isolation import NOT_TENANT, tables
from test_knowledge import base
from test_tools import tool

ROLES = {"client_user": 1, "client_admin": 2, "agency_admin": 4}


class Who:
    def __init__(self, name, role, credential, scopes=None, state="valid"):
        self.name, self.role, self.credential, self.scopes, self.state = name, role, credential, scopes, state


@pytest.fixture(scope="module")
def server(folder):
    running = Server(folder / "matrix", "--workers", "2", "--set", "trusted_proxies=127.0.0.1")
    yield running
    ledger_is_right(running)
    assert running.stop() == 0


@pytest.fixture(scope="module")
def people(server):
    """One of each: roles by token, keys with one scope or with the wrong one, credentials that are no longer good."""
    client = Tenant(server)
    client.stranger, client.mate = Tenant(server), Tenant(server, agency=client.agency)
    admin = client.make_token("agency_admin")
    crowd = [Who(role, role, admin if role == "agency_admin" else client.make_token(role)) for role in ROLES]
    scopes = sorted({op["x-scope"] for _, _, op in routes(server) if not op["x-scope"].startswith("*")})
    for scope in scopes:
        crowd.append(Who(f"key of {scope}", "client_admin", key(client, role="client_admin", scopes=[scope])["key"], [scope]))
    short = server.command("token", "--role", "client_admin", "--agency", client.agency, "--client", client.id, "--ttl", "1")
    revoked = key(client)
    client.request("DELETE", f"/api-keys/{revoked['id']}")
    server.advance(90)
    crowd.append(Who("expired", "client_admin", short, state="bad"))
    crowd.append(Who("forged", "client_admin", client.token[:-8] + "AAAAAAAA", state="bad"))
    crowd.append(Who("revoked key", "client_admin", revoked["key"], state="bad"))
    crowd.append(Who("nobody", None, None, state="bad"))
    return client, crowd


def routes(server):
    for path, item in server.http.get("/openapi.json").json()["paths"].items():
        for method, operation in item.items():
            if operation.get("security") != []:
                yield method.upper(), path, operation


def expected(who, operation, method, tenant):
    """The contract's order: credential, tenant, role, scope; what comes after is another test's business."""
    if who.state == "bad":
        return {401}
    if tenant == "malformed":
        return {422}
    if tenant in ("foreign", "unknown") or (tenant == "mate" and who.role != "agency_admin"):
        return {403}
    if not ROLES[who.role] & operation["x-roles"]:
        return {403}
    if who.scopes and operation["x-scope"] not in who.scopes and not operation["x-scope"].startswith("*"):
        return {403}
    if who.role == "agency_admin" and tenant == "absent" and method != "GET" and not operation["x-agency"]:
        return {422}
    return None  # let in: anything but a refusal of who asks, and never a 500


def test_every_route_answers_every_caller_as_its_row_says(server, people):
    client, crowd = people
    tenants = {"absent": None, "own": client.id, "mate": client.mate.id, "foreign": client.stranger.id, "unknown": str(uuid.uuid4()),
               "malformed": "zebra"}
    wrong, tried = [], 0
    for n, ((method, path, operation), who, (tenant, header)) in enumerate(itertools.product(routes(server), crowd, tenants.items())):
        where = re.sub(r"{\w*id}", lambda _: str(uuid.uuid4()), path).removeprefix("/api/v1")
        # failed credentials charge an address, and one that is all used up answers 429: each comes from its own
        headers = {"X-Forwarded-For": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"}
        if header:
            headers["x-client-id"] = header
        if who.credential:
            headers["Authorization"] = f"Bearer {who.credential}"
        with server.http.stream(method, "/api/v1" + where, headers=headers, json={} if method in ("POST", "PUT", "PATCH") else None) as answer:
            if "event-stream" not in answer.headers.get("content-type", ""):  # one that has no end is left at its head
                answer.read()
        want, tried = expected(who, operation, method, tenant), tried + 1
        good = answer.status_code in want if want else answer.status_code not in (401, 403) and answer.status_code < 500
        if not good:
            wrong.append(f"{method} {path} by {who.name}, tenant {tenant}: {answer.status_code}, expected {want or 'to be let in'}")
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:40])
    assert tried > 2000


def fingerprint(server, tenant):
    """Of all that a tenant keeps."""
    kept = ("agents", "webhook_endpoints", "users", "api_keys", "voices", "tools", "knowledge_bases", "kb_documents", "phone_numbers", "agent_tools")
    return server.sql("select md5(string_agg(r, '' order by r)) from (" + " union all ".join(
        f"select t::text r from {table} t where client_id = %s" for table in kept) + ") x", *[tenant.id] * len(kept))


def test_no_route_shows_or_changes_a_strangers_row(server, people):
    """Ids of rows that exist answer like ids that do not, on every method, to every role of another tenant."""
    client, _ = people
    other = client.stranger
    theirs = {"agents": other.agent(), "clients": other.id}
    theirs["tools"], theirs["kb"] = tool(other)["id"], base(other)["id"]
    theirs["voices"] = other.post("/voices", {"name": "Theirs", "provider_overrides": {"provider": "lmnt", "voice_id": "v"}}).json()["data"]["id"]
    theirs["numbers"] = other.post("/telephony/numbers/import", {"phone_number": "+15005550012"}).json()["data"]["id"]
    document = other.post(f"/kb/{theirs['kb']}/urls", {"url": "https://example.com/"}).json()["data"]["id"]
    theirs["calls"] = other.call(agent=theirs["agents"]).json()["data"]["id"]
    server.advance(120)  # it has ended, and was told so
    theirs["webhooks"] = other.post("/webhooks", {"url": "https://example.com/x", "event_types": ["*"]}).json()["data"]["id"]
    theirs["users"] = other.post("/users", {"email": "s@example.com", "role": "client_user"}).json()["data"]["id"]
    theirs["api-keys"] = key(other)["id"]
    for kind, more in (("exports", {}), ("erasures", {"confirm": True})):
        asked = other.post(f"/privacy/{kind}", {"subject": {"type": "phone", "value": "+15550009999"}, **more})
        theirs[kind] = asked.json()["data"]["id"]
    admin = {"token": other.make_token("agency_admin"), "headers": {"x-client-id": other.id}}
    theirs["suppressions"] = other.request("POST", "/suppressions", json={"phone_number": "+15550008888", "reason": "asked"}, **admin).json()["data"]["id"]
    other.request("PATCH", f"/auth/clients/{other.id}", json={"settings": {"return_hosts": ["app.example.com"]}}, token=admin["token"])
    theirs["checkouts"] = buy(other).json()["data"]["id"]
    theirs["inbound-events"] = str(server.sql("select id from inbound_events where client_id = %s limit 1", other.id)[0][0])
    theirs["jobs"] = str(server.sql("select id from jobs where client_id = %s limit 1", other.id)[0][0])
    server.advance(2)  # what was begun comes to rest
    before = fingerprint(server, other)
    tried = 0
    for method, path, operation in routes(server):
        if "{id}" not in path:
            continue
        kind = path.split("/{id}")[0].split("/")[-1]
        for role, bit in ROLES.items():
            if not bit & operation["x-roles"]:
                continue
            token = client.make_token(role)
            headers = {"x-client-id": client.id} if role == "agency_admin" and not operation["x-agency"] else {}
            body = {"name": "Mine now", "key_name": "Mine now", "query": "x", "url": "https://example.com/", "document_ids": [str(uuid.uuid4())],
                    "files": [{"filename": "a.txt", "file_size": 1}], "outcome": "not_placed"} if method in ("PATCH", "PUT", "POST") else None
            seen, missing = (client.request(method, path.replace("{id}", i).replace("{doc_id}", document).removeprefix("/api/v1"), token=token, json=body, headers=headers)
                             for i in (theirs[kind], str(uuid.uuid4())))
            assert seen.status_code == missing.status_code == 404, (method, path, role, seen.text, missing.text)
            assert seen.json()["error"]["message"] == missing.json()["error"]["message"]
            tried += 1
    assert tried >= 40
    assert fingerprint(server, other) == before


def test_in_every_table_another_tenant_sees_and_changes_nothing(server, people):
    """Straight at the database, by the doors' own roles: no row read, none updated or deleted, whatever a statement tries."""
    client, _ = people
    client.call()
    other = client.stranger
    reached = 0
    for role, settings in (("tl_app", (other.id, other.agency)), ("tl_agency", ("", other.agency))):
        with server.connect(role) as db:
            db.execute("select set_config('tl.client', %s, false), set_config('tl.agency', %s, false)", settings)
            for table in tables(server):
                if table in NOT_TENANT:
                    continue
                for statement in (f"select count(*) from {table} where client_id = %s or agency_id = %s",
                                  f"update {table} set agency_id = agency_id where client_id = %s or agency_id = %s",
                                  f"delete from {table} where client_id = %s or agency_id = %s"):
                    try:
                        cursor = db.execute(statement, (client.id, client.agency))
                    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.GeneratedAlways):
                        continue
                    assert (cursor.fetchone()[0] if statement.startswith("select") else cursor.rowcount) == 0, (role, statement)
                    reached += 1
    assert reached > 60


def test_unique_keys_tell_a_stranger_nothing(server, people):
    """What another tenant has named, invited or registered may be named, invited and registered again."""
    client, _ = people
    other = client.stranger
    for tenant in (client, other):
        assert tenant.post("/users", {"email": "same@example.com", "role": "client_user"}).status_code == 201
        assert tenant.post("/api-keys", {"key_name": "the same"}).status_code == 201
        assert tenant.post("/agents", {"name": "Same", "system_prompt": "You are the front desk."},
                           headers={"Idempotency-Key": "same"}).status_code == 201
