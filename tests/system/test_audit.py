"""The audit: who changed what, from where, before and after; chained, append-only, and tampering is found."""
import threading

import psycopg
import pytest

from test_access import SECRET, key
from test_bad_input import GOOD_AGENT, error


def entries(client, token=None, **query):
    answer = client.get("/audit", params=query, token=token)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


def test_each_change_says_who_from_where_and_what(server, client):
    made = client.post("/agents", GOOD_AGENT, headers={"User-Agent": "curl/8", "X-Request-Id": "audit-test-1"}).json()["data"]
    client.request("PATCH", f"/agents/{made['id']}", json={"name": "Night desk"})
    client.request("DELETE", f"/agents/{made['id']}")
    found = entries(client, table_name="agents", record_id=made["id"])
    first, renamed = found[-1], next(e for e in found if (e["diff"]["after"] or {}).get("name") == "Night desk")
    user = server.sql("select id::text from users where client_id = %s", client.id)[0][0]
    assert first["action"] == "create" and first["actor"] == {"type": "user", "id": user} and first["request_id"] == "audit-test-1"
    assert first["ip_address"] == "127.0.0.1" and first["user_agent"] == "curl/8" and first["diff"]["after"]["name"] == "Desk"
    assert renamed["action"] == "update" and renamed["diff"]["before"]["name"] == "Desk" and "system_prompt" not in renamed["diff"]["after"]
    assert any(e["actor"]["type"] == "system" and e["diff"]["after"].get("ultravox_agent_id") for e in found), "the job's change too"
    assert all(e["diff"]["after"].get("deleted_at") for e in found[:1])


def test_secrets_are_masked(server, client):
    made = key(client)
    credential = client.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET}).json()["data"]
    client.post("/webhooks", {"url": "https://example.com/x", "event_types": ["*"]})
    client.agent()
    text = client.get("/audit").text
    assert SECRET not in text and made["key"] not in text and "whsec_" not in text
    assert next(e for e in entries(client, record_id=made["id"]))["diff"]["after"]["secret_hash"] == "changed"
    used = entries(client, record_id=credential["id"], action="use")
    assert used and used[0]["diff"] == {"service": "ultravox"}


def test_the_audit_is_read_by_admins_of_its_scope_alone(server, client):
    other = server.client()
    error(client.request("GET", "/audit", token=client.make_token("client_user")), 403, "forbidden")
    mine = {e["client_id"] for e in entries(client)}
    assert mine == {client.id} and other.id not in client.get("/audit").text
    admin = client.make_token("agency_admin")
    body = {"name": "B", "email": "b@example.com", "mode": "test"}
    made = client.request("POST", "/clients", token=admin, json=body).json()["data"]
    wide = entries(client, token=admin)
    assert {client.id, made["id"]} <= {e["client_id"] for e in wide}
    assert client.get("/audit/verify", token=admin).json()["data"]["ok"]


def test_credits_stand_in_the_audit(client):
    granted = entries(client, table_name="credit_transactions")
    assert granted[-1]["diff"]["after"]["delta"] == 1000 and granted[-1]["actor"]["type"] == "operator"


def test_nobody_rewrites_it(server, client):
    client.agent()
    for door in ("tl_app", "tl_agency", "tl_system"):
        with server.connect(door) as db:
            db.execute("select set_config('tl.client', %s, false), set_config('tl.agency', %s, false)", (client.id, client.agency))
            for statement in ("update audit_log set action = 'use'", "delete from audit_log", "update audit_chains set last_seq = 0",
                              "insert into audit_log select * from audit_log limit 1"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.execute(statement)
    with server.connect() as db, pytest.raises(psycopg.errors.RaiseException):
        db.execute("update audit_log set action = 'use' where client_id = %s", (client.id,))


TAMPERING = [
    ("update audit_log set user_agent = 'nobody' where seq = 3", 3, "fields"),
    ("update audit_log set diff = jsonb_set(diff, '{after}', '{}') where seq = 3", 3, "diff"),
    ("delete from audit_log where seq = 3", 4, "missing"),
    ("delete from audit_log where seq >= 3", 3, "end"),
    ("update audit_log set prev_hash = '\\x00', hash = '\\x00' where seq = 2", 2, "follow"),
]


@pytest.mark.parametrize("statement, at, what", TAMPERING, ids=[t[2] for t in TAMPERING])
def test_tampering_is_found_and_where(server, client, statement, at, what):
    """A superuser who switches the guard off still leaves a trace."""
    for n in range(3):
        client.post("/webhooks", {"url": f"https://example.com/{n}", "event_types": ["*"]})
    assert client.get("/audit/verify").json()["data"]["ok"]
    with server.connect() as db:
        db.execute("alter table audit_log disable trigger guard")
        db.execute(statement + (" and" if "where" in statement else " where") + " client_id = %s", (client.id,))
        db.execute("alter table audit_log enable trigger guard")
    verdict = client.get("/audit/verify").json()["data"]
    assert verdict["ok"] is False and verdict["first_bad_seq"] == at and what in verdict["problem"], verdict
    assert verdict["bad_client_id"] == client.id
    done = server.command("audit", "verify", "--client", client.id, check=False)
    assert done.returncode == 1 and "BROKEN" in done.stdout and f"entry {at}" in done.stdout
    assert server.client().get("/audit/verify").json()["data"]["ok"], "a chain of its own"


def test_an_entry_forged_with_its_hash_betrays_the_next(server, client):
    """Whoever recomputes one hash and mends the link after it still breaks the entry that the link is part of."""
    for n in range(3):
        client.post("/webhooks", {"url": f"https://example.com/{n}", "event_types": ["*"]})
    with server.connect() as db:
        db.execute("alter table audit_log disable trigger guard")
        db.execute("update audit_log set user_agent = 'nobody' where seq = 3 and client_id = %s", (client.id,))
        db.execute("update audit_log l set hash = audit_hash(l) where seq = 3 and client_id = %s", (client.id,))
        db.execute("update audit_log set prev_hash = (select hash from audit_log where seq = 3 and client_id = %s) "
                   "where seq = 4 and client_id = %s", (client.id, client.id))
        db.execute("alter table audit_log enable trigger guard")
    verdict = client.get("/audit/verify").json()["data"]
    assert verdict["first_bad_seq"] == 4 and "fields" in verdict["problem"]


def test_an_erased_diff_does_not_break_the_chain(server, client):
    client.agent()
    server.sql("update audit_log set diff = null where client_id = %s", client.id)
    verdict = client.get("/audit/verify").json()["data"]
    assert verdict["ok"] and verdict["erased"] == verdict["checked"] > 0
    assert "0 broken" in server.command("audit", "verify", "--client", client.id)


def test_concurrent_changes_make_one_chain(server, client):
    threads = [threading.Thread(target=lambda n=n: client.post("/webhooks", {"url": f"https://example.com/{n}", "event_types": ["*"]}))
               for n in range(24)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    verdict = client.get("/audit/verify").json()["data"]
    assert verdict["ok"] and len(entries(client, table_name="webhook_endpoints", limit=100)) == 24
