"""Numbers: searched, bought (an order is not a number yet), imported, given to agents, given back; which number a call is made from."""
import json

import httpx

from test_bad_input import GOOD_AGENT, error


def orders(server):
    return httpx.get(server.sandbox + "/v2/number_orders", headers={"Authorization": "Bearer k"}).json()["data"]


def owned(server, number):
    return httpx.get(server.sandbox + "/v2/phone_numbers", params={"filter[phone_number]": number}, headers={"Authorization": "Bearer k"}).json()["data"]


def offer(client, n=0, **more):
    return client.post("/telephony/numbers/search", {"limit": 40, **more}).json()["data"]["numbers"][n]["phone_number"]


def buy(server, client, number=None):
    asked = client.post("/telephony/numbers/purchase", {"phone_number": number or offer(client), "label": "Front"})
    assert asked.status_code == 202, asked.text
    return asked.json()["data"]["id"]


def number(client, number_id):
    return client.get(f"/telephony/numbers/{number_id}").json()["data"]


def test_configuration_tells_no_secret(server, client):
    data = client.get("/telephony/config").json()["data"]
    assert data["configured"] and data["provider"] == "telnyx" and data["status_webhook_url"] == server.url + "/api/v1/webhooks/telnyx"
    live = server.client(mode="live")
    assert not live.get("/telephony/config").json()["data"]["configured"]
    error(live.post("/telephony/numbers/search"), 503, "unavailable")
    error(live.post("/telephony/numbers/purchase", {"phone_number": "+13125550200"}), 503, "unavailable")


def test_a_search(client):
    found = client.post("/telephony/numbers/search", {"area_code": "415", "contains": "5550", "limit": 3}).json()["data"]["numbers"]
    assert len(found) == 3 and all(n["phone_number"].startswith("+1415") for n in found)
    assert found[0] | {"phone_number": ""} == {"phone_number": "", "features": ["voice", "sms"], "upfront_cost": 1, "monthly_cost": 1, "currency": "USD"}
    error(client.post("/telephony/numbers/search", {"limit": 101}), 422, "validation_error")


def test_an_order_is_not_a_number_yet(server, client):
    bought = buy(server, client)
    server.advance(1)
    assert number(client, bought)["status"] == "pending"
    server.advance(60)
    row = number(client, bought)
    assert row["status"] == "active" and row["sync_status"] == "synced" and row["features"] == ["voice"] and row["label"] == "Front"
    assert [o["customer_reference"] for o in orders(server)].count(bought) == 1
    assert client.events().count("number.active") == 1, "told once, though event and poll both found it"
    again = client.post("/telephony/numbers/purchase", {"phone_number": row["phone_number"]})
    error(again, 409, "conflict")
    assert again.json()["error"]["details"]["id"] == bought
    renamed = client.request("PATCH", f"/telephony/numbers/{bought}", json={"label": None}).json()["data"]
    assert renamed["label"] is None


def test_the_carriers_event_is_enough(server, client):
    """With polling away, number_order.complete alone makes the number active."""
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "GET /v2/number_orders/*", "mode": "status", "status": 500, "times": 1})
    bought = buy(server, client)
    server.advance(20)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    server.advance(5)
    assert number(client, bought)["status"] == "active"


def test_a_number_that_cannot_be_had(server, client):
    bought = buy(server, client, "+13125550299")
    server.advance(120)
    row = number(client, bought)
    assert row["status"] == "failed" and "failure" in row["last_error"] and client.events().count("number.failed") == 1
    assert client.post("/telephony/numbers/purchase", {"phone_number": "+13125550299"}).status_code == 202, "may be tried again"
    server.advance(120)


def test_an_order_whose_answer_was_lost_is_found_again(server, client):
    wanted = offer(client)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /v2/number_orders", "mode": "drop_after", "times": 1})
    bought = buy(server, client, wanted)
    server.advance(120)
    assert number(client, bought)["status"] == "active"
    assert [o["customer_reference"] for o in orders(server)].count(bought) == 1


def test_an_import(server, client):
    made = client.post("/telephony/numbers/import", {"phone_number": "+15005550007", "label": "Old"})
    assert made.status_code == 201, made.text
    row = made.json()["data"]
    assert row["status"] == "active" and row["origin"] == "import"
    error(client.post("/telephony/numbers/import", {"phone_number": "+15005550007"}), 409, "conflict")
    stranger = server.client()
    taken = stranger.post("/telephony/numbers/import", {"phone_number": "+15005550007"})
    error(taken, 422, "validation_error")
    absent = client.post("/telephony/numbers/import", {"phone_number": "+14155550000"})
    error(absent, 422, "validation_error")
    assert "does not own" in absent.json()["error"]["details"]["phone_number"] and stranger.get("/telephony/numbers").json()["data"] == []
    released = client.post(f"/telephony/numbers/{row['id']}/release").json()["data"]
    assert released["status"] == "released" and owned(server, "+15005550007"), "an imported number stays with its owner"
    assert stranger.post("/telephony/numbers/import", {"phone_number": "+15005550007"}).status_code == 201


def test_numbers_and_agents(server, client):
    agent, other = client.agent(), client.agent()
    bought = buy(server, client)
    given = {"number_id": bought, "agent_id": agent, "assignment_type": "outbound"}
    error(client.post("/telephony/numbers/assign", given), 422, "validation_error")
    server.advance(60)
    assigned = client.post("/telephony/numbers/assign", given)
    assert assigned.status_code == 200 and assigned.json()["data"]["outbound_agent_id"] == agent, assigned.text
    client.post("/telephony/numbers/assign", {**given, "agent_id": other, "assignment_type": "inbound"})
    row = number(client, bought)
    assert row["agent_id"] == other and row["outbound_agent_id"] == agent and row["sync_status"] == "synced"
    sent = [r for r in server.provider_requests("/v2/phone_numbers/*") if r["method"] == "PATCH" and bought in r["body"]]
    assert json.loads(sent[-1]["body"])["tags"] == ["trunkline", "inbound", "outbound"]
    assert [n["id"] for n in client.get("/telephony/numbers", params={"agent_id": agent, "status": "active"}).json()["data"]] == [bought]
    assert client.call(agent=agent).json()["data"]["from_number"] == row["phone_number"]
    error(client.request("DELETE", f"/agents/{agent}"), 409, "conflict")
    error(client.post("/telephony/numbers/unassign", {**given, "agent_id": other}), 422, "validation_error")
    assert client.post("/telephony/numbers/unassign", given).json()["data"]["outbound_agent_id"] is None
    assert client.call(agent=agent).json()["data"]["from_number"] != row["phone_number"]
    assert client.request("DELETE", f"/agents/{agent}").status_code == 200
    for bad, status in (({**given, "agent_id": agent}, 404), ({**given, "agent_id": server.client().agent()}, 404), ({**given, "number_id": agent}, 404),
                        ({**given, "assignment_type": "both"}, 422)):
        assert client.post("/telephony/numbers/assign", bad).status_code == status
    server.advance(60)


def test_the_order_of_caller_numbers(server, client):
    """Request, the agent's number, the agent's setting, the client's, the installation's."""
    agent = client.post("/agents", {**GOOD_AGENT, "settings": {"from_number": "+15550000001"}}).json()["data"]["id"]
    assert client.call(agent=agent, from_number="+15550000009").json()["data"]["from_number"] == "+15550000009"
    assert client.call(agent=agent).json()["data"]["from_number"] == "+15550000001"
    plain = client.agent()
    server.sql("update clients set settings = '{\"from_number\": \"+15550000002\"}' where id = %s", client.id)
    assert client.call(agent=plain).json()["data"]["from_number"] == "+15550000002"
    imported = client.post("/telephony/numbers/import", {"phone_number": "+15005550009"}).json()["data"]["id"]
    client.post("/telephony/numbers/assign", {"number_id": imported, "agent_id": agent, "assignment_type": "outbound"})
    assert client.call(agent=agent).json()["data"]["from_number"] == "+15005550009"
    server.advance(120)


def test_a_bought_number_goes_back(server, client):
    bought = buy(server, client)
    server.advance(60)
    e164 = number(client, bought)["phone_number"]
    assert owned(server, e164)
    released = client.post(f"/telephony/numbers/{bought}/release")
    assert released.status_code == 200 and released.json()["data"]["status"] == "released", released.text
    assert not owned(server, e164) and client.events()[-1] == "number.released"
    error(client.post(f"/telephony/numbers/{bought}/release"), 422, "validation_error")
