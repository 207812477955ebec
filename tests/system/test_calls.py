"""What a person does to a call: cancel, hang up, note, opt out, settle by word, delete, many at once; calls that come in; events again."""
import json

import httpx
import pytest

from test_bad_input import GOOD_AGENT, error

MISSING = "00000000-0000-7000-8000-000000000000"


def provider_call(server, call_id):
    return next(c for c in server.provider_calls() if c["metadata"].get("trunkline_call_id") == call_id)


def plant(server, match, mode, **more):
    assert httpx.post(server.sandbox + "/_sandbox/faults", json={"match": match, "mode": mode, **more}).status_code == 201


@pytest.fixture(autouse=True)
def no_faults(server):
    yield
    httpx.delete(server.sandbox + "/_sandbox/faults")


@pytest.fixture
def narrow(server):
    """A client with one line, and it is busy: the next call is queued."""
    client = server.client(limits='{"requests_per_second":100000,"burst":100000,"concurrent_calls":1}')
    client.first = client.call("+15555550102").json()["data"]["id"]
    return client


def test_a_queued_call_is_cancelled_at_once(server, narrow):
    queued = narrow.call().json()["data"]["id"]
    assert narrow.read(queued)["status"] == "queued" and narrow.balance()["held"] == 120
    cancelled = narrow.post(f"/calls/{queued}/cancel")
    assert cancelled.status_code == 200 and cancelled.json()["data"]["status"] == "cancelled", cancelled.text
    assert cancelled.json()["data"]["outcome"] == "cancelled" and narrow.balance()["held"] == 60
    error(narrow.post(f"/calls/{queued}/cancel"), 422, "validation_error")
    server.advance(700)
    assert not [c for c in server.provider_calls() if c["metadata"].get("trunkline_call_id") == queued]
    assert narrow.events().count("call.cancelled") == 1


def test_a_live_call_is_hung_up_and_billed_for_what_was_said(server, client):
    call = client.call("+15555550102").json()["data"]["id"]
    server.advance(30)
    user = client.make_token("client_user")
    assert client.request("POST", f"/calls/{call}/cancel", token=user).status_code == 202
    server.advance(60)
    row = client.read(call)
    assert row["status"] == "completed" and row["duration_seconds"] < 60 and row["credits_charged"] == 1
    assert provider_call(server, call)["reason"] == "agent_hangup"


def test_a_ringing_call_is_hung_up_as_soon_as_it_can_be(server, client):
    call = client.call("+15555550110").json()["data"]["id"]
    server.advance(2)
    assert client.post(f"/calls/{call}/cancel").status_code == 202
    server.advance(120)
    row = client.read(call)
    assert row["status"] in ("cancelled", "no_answer") and row["credits_charged"] == 0 and client.balance()["held"] == 0


def test_an_unknown_call_is_hung_up_when_it_is_found(server, client):
    plant(server, "POST /api/agents/*/calls", "drop_after", times=1)
    plant(server, "GET /api/calls", "status", status=503, times=1)
    call = client.call("+15555550102").json()["data"]["id"]
    assert client.read(call)["status"] in ("dialing", "unknown")  # the look-up may still be under way
    assert client.post(f"/calls/{call}/cancel").status_code == 202
    server.advance(300)
    row = client.read(call)
    assert row["status"] in ("completed", "cancelled") and (row["duration_seconds"] or 0) < 120 and row["credits_charged"] <= 2


def test_notes_tags_and_settings(server, narrow):
    queued = narrow.call(context={"name": "Anna", "tag": "new"}).json()["data"]["id"]
    changed = narrow.request("PATCH", f"/calls/{queued}", json={"context": {"tag": None, "note": "rang twice"},
                                                               "call_settings": {"max_duration_seconds": 30, "greeting": "Hi"}})
    assert changed.status_code == 200, changed.text
    data = changed.json()["data"]
    assert data["context"] == {"name": "Anna", "note": "rang twice"}
    assert data["call_settings"]["greeting"] == "Hi" and data["call_settings"]["recording_enabled"] is True
    error(narrow.request("PATCH", f"/calls/{narrow.first}", json={"call_settings": {"greeting": "x"}}), 422, "validation_error")
    error(narrow.request("PATCH", f"/calls/{queued}", json={"call_settings": {"ring_timeout_seconds": 1}}), 422, "validation_error")
    error(narrow.request("PATCH", f"/calls/{MISSING}", json={"context": {}}), 404, "not_found")
    assert narrow.request("PATCH", f"/calls/{narrow.first}", json={"context": {"note": "live"}}).json()["data"]["context"] == {"note": "live"}
    server.advance(900)


def test_who_opted_out_is_not_called_again(server, client):
    call = client.call("+15555550100").json()["data"]["id"]
    assert client.request("PATCH", f"/calls/{call}", json={"opt_out": True}).status_code == 200
    again = client.call("+15555550100")
    error(again, 422, "validation_error")
    assert "suppressed" in again.json()["error"]["details"]["phone_number"]
    assert client.events()[-1] == "contact.opted_out"
    assert server.client(agency=client.agency).call("+15555550100").status_code == 201, "another client's people are its own"
    row, = client.get("/suppressions").json()["data"]
    assert row["phone_number"] == "+15555550100" and row["source"] == "call" and row["call_id"] == call
    assert client.request("DELETE", f"/suppressions/{row['id']}").status_code == 200
    assert client.call("+15555550100").status_code == 201
    server.advance(120)


def test_an_agency_suppresses_for_all_its_clients(server, client):
    admin = client.make_token("agency_admin")
    made = client.request("POST", "/suppressions", token=admin, json={"phone_number": "+1 555 555 0101", "reason": "asked us"})
    assert made.status_code == 201 and made.json()["data"]["client_id"] is None, made.text
    error(client.call("+15555550101"), 422, "validation_error")
    error(server.client(agency=client.agency).call("+15555550101"), 422, "validation_error")
    assert server.client().call("+15555550101").status_code == 201
    soon = client.request("POST", "/suppressions", token=admin, headers={"x-client-id": client.id}, json={
        "phone_number": "+15555550102", "expires_at": server.http.get("/_test/clock").json()["now"]})
    assert soon.status_code == 201
    server.advance(1)
    assert client.call("+15555550102").status_code == 201, "expired"
    server.advance(900)


def test_a_persons_word_settles_an_unknown_call(server, client):
    plant(server, "POST /api/agents/*/calls", "drop_before", times=1)
    lost = client.call().json()["data"]["id"]
    assert client.read(lost)["status"] == "unknown" and client.balance()["held"] == 60
    assert [c["id"] for c in client.get("/calls", params={"status": "unknown"}).json()["data"]] == [lost]
    error(client.post(f"/calls/{lost}/resolve", {"outcome": "placed"}), 422, "validation_error")
    settled = client.post(f"/calls/{lost}/resolve", {"outcome": "not_placed"})
    assert settled.status_code == 200 and settled.json()["data"]["outcome"] == "not_placed" and client.balance()["held"] == 0, settled.text
    error(client.post(f"/calls/{lost}/resolve", {"outcome": "not_placed"}), 422, "validation_error")
    noted = client.get("/audit", params={"record_id": lost}).json()["data"]
    assert [n["action"] for n in noted] == ["resolve"] and noted[0]["actor"]["type"] == "user"


def test_a_call_settled_as_placed_is_followed(server, client):
    plant(server, "POST /api/agents/*/calls", "drop_after", times=1)
    plant(server, "GET /api/calls", "status", status=503, times=50)
    httpx.post(server.sandbox + "/_sandbox/events", json={"drop": 1, "seed": 1})  # nor does any event tell of it
    call = client.call("+15555550100").json()["data"]["id"]
    there = provider_call(server, call)["id"]
    other = client.call("+15555550100").json()["data"]
    taken = client.post(f"/calls/{call}/resolve", {"outcome": "placed", "ultravox_call_id": other["ultravox_call_id"]})
    error(taken, 422, "validation_error")
    assert client.post(f"/calls/{call}/resolve", {"outcome": "placed", "ultravox_call_id": there}).status_code == 200
    httpx.post(server.sandbox + "/_sandbox/events", json={"drop": 0})
    server.advance(120)
    assert client.read(call)["status"] == "completed" and client.read(call)["credits_charged"] == 1


def test_deleting_a_call_leaves_its_ledger(server, client):
    call = client.call("+15555550100", context={"name": "Anna"}).json()["data"]["id"]
    error(client.request("DELETE", f"/calls/{call}"), 422, "validation_error")
    server.advance(120)
    link = client.get(f"/calls/{call}/recording").json()["data"]["recording_url"]
    assert httpx.get(link).status_code == 200
    before = server.sql("select count(*), sum(delta) from credit_transactions where client_id = %s", client.id)
    assert client.request("DELETE", f"/calls/{call}").status_code == 200
    row = client.read(call)
    assert row["phone_number"] == "erased" and row["context"] == {} and row["credits_charged"] == 1
    for what in ("transcript", "recording"):
        answer = client.get(f"/calls/{call}/{what}")
        error(answer, 404, "not_found")
        assert answer.json()["error"]["details"]["reason"] == "deleted"
    server.advance(5)
    assert httpx.get(link).status_code == 404
    gone = httpx.get(f"{server.sandbox}/api/calls/{row['ultravox_call_id']}", headers={"X-API-Key": "k"})
    assert gone.status_code == 404
    assert server.sql("select count(*), sum(delta) from credit_transactions where client_id = %s", client.id) == before


def test_many_at_once(server, narrow):
    queued = [narrow.call().json()["data"]["id"] for _ in range(2)]
    done = narrow.post("/calls/bulk", {"action": "cancel", "ids": [*queued, narrow.first, MISSING]}).json()["data"]["calls"]
    assert [(c["ok"], c["status"]) for c in done] == [(True, "cancelled"), (True, "cancelled"), (True, "in_progress"), (False, None)] or \
        [(c["ok"], c["status"]) for c in done][:2] == [(True, "cancelled")] * 2 and done[2]["ok"] and not done[3]["ok"]
    server.advance(120)
    done = narrow.post("/calls/bulk", {"action": "delete", "ids": [queued[0], server.client().call().json()["data"]["id"]]}).json()["data"]["calls"]
    assert [c["ok"] for c in done] == [True, False]
    error(narrow.post("/calls/bulk", {"action": "redial", "ids": queued}), 422, "validation_error")
    assert narrow.balance()["held"] == 0
    server.advance(120)


def ring(server, client, agent, caller="+15551234567"):
    provider_id = server.sql("select ultravox_agent_id from agents where id = %s", agent)[0][0]
    rung = httpx.post(server.sandbox + "/_sandbox/inbound", json={"agent_id": provider_id, "from": caller, "to": "+15005550006"})
    assert rung.status_code == 201, rung.text
    return rung.json()["callId"]


def test_somebody_rings_one_of_our_agents(server, client):
    there = ring(server, client, client.agent())
    server.advance(3)
    row, = client.get("/calls", params={"direction": "inbound"}).json()["data"]
    assert row["ultravox_call_id"] == there and row["phone_number"] == "+15551234567" and row["from_number"] == "+15005550006"
    assert client.balance()["held"] == 60
    server.advance(120)
    row = client.read(row["id"])
    assert row["status"] == "completed" and row["credits_charged"] == 1 and client.balance()["held"] == 0
    assert client.get(f"/calls/{row['id']}/transcript").status_code == 200
    assert [e for e in client.events() if e.startswith("call.")][:2] == ["call.created", "call.started"]


def test_without_credits_the_caller_is_hung_up(server):
    client = server.client(credits=0)
    ring(server, client, client.agent())
    server.advance(300)
    row, = client.get("/calls").json()["data"]
    assert (row["status"], row["outcome"]) == ("cancelled", "no_funds") and row["credits_charged"] == 0
    ended = next(c for c in server.provider_calls() if c["id"] == row["ultravox_call_id"])
    assert ended["ended"] and ended["joined"] is None and client.balance()["balance"] == 0


def test_what_the_hold_pays_for_is_where_an_inbound_call_ends(server):
    client = server.client(credits=1)
    agent = client.agent()
    provider_id = server.sql("select ultravox_agent_id from agents where id = %s", agent)[0][0]
    httpx.post(server.sandbox + "/_sandbox/inbound", json={"agent_id": provider_id, "from": "", "to": ""})
    server.advance(400)
    row, = client.get("/calls").json()["data"]
    assert row["phone_number"] is None and row["credits_charged"] == 1 and client.balance()["balance"] == 0


def test_provider_events_are_listed_and_processed_again(server, client):
    call = client.call("+15555550100").json()["data"]["id"]
    server.advance(120)
    admin = client.make_token("agency_admin")
    listed = client.request("GET", "/inbound-events", token=admin, params={"provider": "ultravox"}).json()["data"]
    assert {e["type"] for e in listed} == {"call.started", "call.joined", "call.ended", "call.billed"} and {e["status"] for e in listed} == {"processed"}
    error(client.get("/inbound-events"), 403, "forbidden")
    stranger = server.client()
    assert stranger.request("GET", "/inbound-events", token=stranger.make_token("agency_admin")).json()["data"] == []
    billed = next(e for e in listed if e["type"] == "call.billed")
    error(stranger.request("POST", f"/inbound-events/{billed['id']}/reprocess", token=stranger.make_token("agency_admin")), 404, "not_found")
    before = client.balance(), client.read(call)
    again = client.request("POST", f"/inbound-events/{billed['id']}/reprocess", token=admin)
    assert again.status_code == 202, again.text
    server.advance(5)
    row = next(e for e in client.request("GET", "/inbound-events", token=admin).json()["data"] if e["id"] == billed["id"])
    assert row["status"] == "processed" and row["attempts"] == 2
    after = client.balance(), client.read(call)
    assert before[0]["balance"] == after[0]["balance"] and before[1]["credits_charged"] == after[1]["credits_charged"], "a second time changes nothing"


def test_events_of_calls_that_are_nobodys_are_kept(server, client):
    made = httpx.post(server.sandbox + "/api/agents", json={"name": "not ours"}, headers={"X-API-Key": "k"}).json()["agentId"]
    httpx.post(server.sandbox + "/_sandbox/inbound", json={"agent_id": made, "from": "+15551234567"})
    server.advance(120)
    kept = server.sql("select status, client_id from inbound_events where body like %s", f"%{made}%")
    assert kept and {s for s, _ in kept} == {"ignored"} and {c for _, c in kept} == {None}


def test_refresh_has_the_provider_asked(server, client):
    """All of the provider's events about these calls are lost; nothing but a look can tell that they are over before their time is."""
    httpx.post(server.sandbox + "/_sandbox/events", json={"drop": 1.0})
    calls = [client.call().json()["data"]["id"] for _ in range(3)]
    server.advance(200)
    httpx.post(server.sandbox + "/_sandbox/events", json={"drop": 0})
    assert [client.read(c)["status"] for c in calls] == ["ringing"] * 3
    assert client.get(f"/calls/{calls[0]}", params={"refresh": "true"}).json()["data"]["status"] == "ringing", "it answers what we know"
    server.advance(1)
    assert [client.read(c)["status"] for c in calls] == ["completed", "ringing", "ringing"]
    assert client.get("/calls", params={"refresh": "true", "status": "ringing"}).status_code == 200
    server.advance(1)
    assert [client.read(c)["status"] for c in calls] == ["completed"] * 3 and client.balance()["held"] == 0
    assert client.get(f"/calls/{calls[0]}", params={"refresh": "true"}).json()["data"]["status"] == "completed"
    for path in (f"/calls/{calls[0]}", "/calls?status=queued", "/voices"):
        answer = client.get(path + ("&" if "?" in path else "?") + "refresh=perhaps")
        assert answer.status_code == 422 and "refresh" in answer.json()["error"]["details"]


def test_calls_of_a_campaign(client):
    client.call()
    assert client.get("/calls", params={"campaign_id": MISSING}).json()["data"] == []
    assert "campaign_id" in client.get("/calls", params={"campaign_id": "spring"}).json()["error"]["details"]
