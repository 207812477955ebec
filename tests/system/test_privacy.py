"""Privacy: what is kept about somebody can be had and can be erased; the rest goes in its time; logs tell nothing."""
import json

import httpx
import pytest

from conftest import ledger_is_right
from test_access import SECRET, key
from test_bad_input import error

DAY = 86400
NUMBER, OTHER = "+15555550100", "+15555559900"


def ask(client, kind, type_, value, token=None, **more):
    answer = client.request("POST", f"/privacy/{kind}", token=token, json={"subject": {"type": type_, "value": value}, **more})
    assert answer.status_code == 202, answer.text
    return answer.json()["data"]["id"]


def everything_of(server, client):
    """Every row that belongs to the client, as text, but for the request that is still under way."""
    text = ""
    for table, in server.sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'"):
        columns = {c for c, in server.sql("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", table)}
        if "client_id" in columns:
            open_ = " and status <> 'running'" if table == "privacy_requests" else ""
            text += str(server.sql(f"select t::text from {table} t where client_id = %s" + open_, client.id))
    return text


def export_of(server, client, request, token=None):
    server.advance(1)
    row = client.get(f"/privacy/exports/{request}", token=token).json()["data"]
    assert row["status"] == "done" and row["bytes"] > 0, row
    return httpx.get(row["url"]).json()


def test_an_export_of_a_client_holds_its_rows_and_no_secret(server, client):
    call = client.call(NUMBER, context={"order": "4711"}).json()["data"]["id"]
    server.advance(120)
    client.post("/webhooks", {"url": "https://example.com/x", "event_types": ["*"]})
    client.post("/api-keys", {"service": "stripe", "key_name": "mine", "api_key": SECRET})
    made = key(client)
    admin = client.make_token("agency_admin")
    got = export_of(server, client, ask(client, "exports", "client", client.id, token=admin), token=admin)
    assert got["client"][0]["id"] == client.id and [c["id"] for c in got["calls"]] == [call]
    assert got["calls"][0]["context"] == {"order": "4711"} and len(got["calls"][0]["transitions"]) >= 3
    assert any(a["kind"] == "transcript" and a["items"] for a in got["calls"][0]["artifacts"])
    assert {"call.created", "call.completed"} <= {e["type"] for e in got["events"]} and got["audit"] and got["credit_transactions"]
    text = json.dumps(got)
    assert SECRET not in text and made["key"][25:] not in text
    assert all("sealed" not in row and "secret_hash" not in row and "secret_sealed" not in row for row in got["api_keys"] + got["webhooks"])
    error(client.post("/privacy/exports", {"subject": {"type": "client", "value": client.id}}), 403, "forbidden")


def test_an_export_streams_many_rows(server, client):
    agent = client.agent()
    server.sql("insert into calls (id, agency_id, client_id, agent_id, phone_number, direction, status, price_per_minute, ended_at) "
               "select gen_random_uuid(), %s, %s, %s, '+15550001111', 'outbound', 'completed', 1, tl_now() from generate_series(1, 1001)",
               client.agency, client.id, agent)
    got = export_of(server, client, ask(client, "exports", "phone", "+1 (555) 000-1111"))
    assert len(got["calls"]) == 1001 and len({c["id"] for c in got["calls"]}) == 1001 and got["agents"] == []


def test_an_export_belongs_to_its_tenant(server, client):
    request = ask(client, "exports", "phone", NUMBER)
    other = server.client()
    assert other.get(f"/privacy/exports/{request}").status_code == 404
    assert other.get("/privacy/exports").json()["data"] == []
    error(client.request("POST", "/privacy/exports", token=client.make_token("client_user"), json={}), 403, "forbidden")
    error(client.post("/privacy/exports", {"subject": {"type": "phone", "value": "zebra"}}), 422, "validation_error")
    error(client.post("/privacy/exports", {"subject": {"type": "user", "value": "nobody@example.com"}}), 404, "not_found")


def test_a_number_is_masked_at_once_and_deleted_after_thirty_days(server, client):
    gone = client.call(NUMBER, context={"name": "Ada Lovelace"}, external_ref="ada-1").json()["data"]["id"]
    kept = client.call(OTHER, agent=client._agent).json()["data"]["id"]
    server.advance(400)
    balance = client.balance()
    assert NUMBER in everything_of(server, client)
    error(client.post("/privacy/erasures", {"subject": {"type": "phone", "value": NUMBER}}), 422, "validation_error")
    request = ask(client, "erasures", "phone", NUMBER, confirm=True)
    server.advance(1)
    masked = client.read(gone)
    assert masked["phone_number"] == "erased" and masked["context"] == {} and masked["external_ref"] is None and masked["summary"] is None
    assert client.get(f"/calls/{gone}/recording").json()["error"]["details"]["reason"] == "deleted"
    assert client.get(f"/calls/{gone}/transcript").status_code == 404 and client.read(kept)["phone_number"] == OTHER
    assert not list((server.data / "objects").rglob(f"{gone}.*")) and list((server.data / "objects").rglob(f"{kept}.*"))
    left = everything_of(server, client)
    assert NUMBER not in left and "Ada" not in left and "ada-1" not in left
    row = client.get(f"/privacy/erasures/{request}").json()["data"]
    assert row["status"] == "running" and row["due_at"]
    server.advance(31 * DAY)
    assert client.get(f"/calls/{gone}").status_code == 404 and client.read(kept)["id"] == kept
    done = client.get(f"/privacy/erasures/{request}").json()["data"]
    assert done["status"] == "done" and NUMBER not in json.dumps(done)
    assert NUMBER not in everything_of(server, client)
    assert "privacy.completed" in client.events()
    assert client.balance()["balance"] == balance["balance"], "the ledger stays"
    there = {c["metadata"].get("trunkline_call_id"): c["id"] for c in server.provider_calls()}
    found = [httpx.get(f"{server.sandbox}/api/calls/{there[c]}", headers={"X-API-Key": "any"}).status_code for c in (gone, kept)]
    assert found == [404, 200], "the provider's copy went as well"
    assert client.get("/audit/verify").json()["data"]["ok"]


def test_a_user_is_forgotten(server, client):
    email = "grace.hopper@example.com"
    user = client.post("/users", {"email": email, "role": "client_user", "name": "Grace Hopper"}).json()["data"]["id"]
    admin = client.make_token("agency_admin")
    shown = client.get(f"/admin/users/{user}/export", token=admin).json()["data"]
    assert shown["users"][0]["email"] == email and shown["audit"]
    answer = client.request("DELETE", f"/admin/users/{user}", token=admin)
    assert answer.status_code == 202, answer.text
    server.advance(1)
    assert user not in {u["id"] for u in client.get("/users").json()["data"]}
    assert email not in everything_of(server, client) and "Hopper" not in everything_of(server, client)
    assert client.get("/audit/verify").json()["data"]["ok"], "hashes stay, the words are gone"
    server.advance(31 * DAY)
    assert server.sql("select count(*) from users where id = %s", user) == [(0,)]
    assert client.post("/users", {"email": email, "role": "client_user"}).status_code == 201


def test_a_client_is_closed_at_once_and_purged_later(server, client):
    call = client.call(NUMBER).json()["data"]["id"]
    made = key(client)
    server.advance(120)
    name = server.sql("select name from clients where id = %s", client.id)[0][0]
    admin = client.make_token("agency_admin")
    spent = server.sql("select sum(amount) from ledger_entries where client_id = %s and amount > 0", client.id)
    request = ask(client, "erasures", "client", client.id, token=admin, confirm=True)
    server.advance(1)
    for token in (client.token, made["key"]):
        assert client.request("GET", "/calls", token=token).status_code in (401, 403)
    assert client.id not in {c["id"] for c in client.get("/clients", token=admin).json()["data"]}
    server.advance(31 * DAY)
    row = client.get(f"/privacy/erasures/{request}", token=admin).json()["data"]
    assert row["status"] == "done"
    left = everything_of(server, client)
    assert NUMBER not in left and name not in left and call not in str(server.sql("select id from calls where client_id = %s", client.id))
    assert server.sql("select count(*) from calls where client_id = %s", client.id) == [(0,)]
    assert server.sql("select sum(amount) from ledger_entries where client_id = %s and amount > 0", client.id) == spent
    assert "0 broken" in server.command("audit", "verify", "--client", client.id)
    ledger_is_right(server)


@pytest.fixture
def short(server):
    client = server.client()
    client.request("PATCH", f"/clients/{client.id}", json={"settings": {"retention_days": {"calls": 10, "recordings": 5, "transcripts": 20}}})
    return client


def test_retention_runs_by_schedule(server, short):
    call = short.call(NUMBER, context={"name": "Ada"}).json()["data"]["id"]
    server.advance(400)
    assert short.read(call)["recording_available"]

    def state():
        kinds = dict(server.sql("select kind, status from call_artifacts where call_id = %s", call))
        return kinds["recording"], kinds["transcript"], short.read(call)["phone_number"]

    def provider_knows():
        return httpx.get(f"{server.sandbox}/api/calls/{short.read(call)['ultravox_call_id']}", headers={"X-API-Key": "k"}).status_code

    server.advance(4 * DAY)
    assert state() == ("ready", "ready", NUMBER) and provider_knows() == 200
    server.advance(2 * DAY)
    assert state() == ("deleted", "ready", NUMBER)
    server.advance(6 * DAY)
    assert state() == ("deleted", "ready", "erased") and short.read(call)["context"] == {}
    assert provider_knows() == 404, "nor does the provider keep it"
    server.advance(10 * DAY)
    assert state() == ("deleted", "deleted", "erased")
    assert short.events()
    server.advance(12 * DAY)
    assert short.events() == [], "events go after 30 days"
    assert short.get("/audit").json()["data"], "the audit stays two years"


def test_the_audit_keeps_two_years_and_its_anchor(server, client):
    client.post("/webhooks", {"url": "https://example.com/x", "event_types": ["*"]})
    before = client.get("/audit").json()["data"]
    server.sql("alter table audit_log disable trigger guard")
    server.sql("update audit_log l set created_at = created_at - interval '3 years' where client_id = %s and seq <= 2", client.id)
    for seq in (1, 2):  # as if written then: hashes and links follow
        server.sql("update audit_log l set hash = audit_hash(l) where client_id = %s and seq = %s", client.id, seq)
        server.sql("update audit_log set prev_hash = (select hash from audit_log where client_id = %s and seq = %s) where client_id = %s and seq = %s",
                   client.id, seq, client.id, seq + 1)
    for seq in range(3, len(before) + 1):
        server.sql("update audit_log l set hash = audit_hash(l) where client_id = %s and seq = %s", client.id, seq)
        server.sql("update audit_log set prev_hash = (select hash from audit_log where client_id = %s and seq = %s) where client_id = %s and seq = %s",
                   client.id, seq, client.id, seq + 1)
    server.sql("update audit_chains c set last_hash = (select hash from audit_log l where l.client_id = c.client_id and l.seq = c.last_seq) "
               "where client_id = %s", client.id)
    server.sql("alter table audit_log enable trigger guard")
    assert client.get("/audit/verify").json()["data"]["ok"]
    server.advance(DAY)
    left = {e["seq"] for e in client.get("/audit").json()["data"]}
    assert not left & {1, 2} and left
    assert client.get("/audit/verify").json()["data"]["ok"], "the chain begins at its anchor"
