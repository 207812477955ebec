"""Credits and the till: transactions, adjustments, purchases told of by many events and granted once, refunds, disputes, subscriptions."""
import json
import pathlib
import subprocess
import sys
import threading
import uuid

import httpx
import pytest
import stripe

from conftest import Server, free_port, ledger_is_right
from test_bad_input import error

SECRET = "whsec_sandbox_of_the_till"


def now(server):
    return server.http.get("/_test/clock").json()["now"]


def stamp(server):
    from datetime import datetime
    return int(datetime.fromisoformat(now(server).replace("Z", "+00:00")).timestamp())


def tell(server, kind, obj, live=False, event_id=None, secret=SECRET, at=None, header=None, created=None):
    """An event signed by Stripe's own library."""
    body = json.dumps({"id": event_id or f"evt_{uuid.uuid4().hex}", "object": "event", "api_version": "2026-09-30.endive", "type": kind,
                       "created": stamp(server) if created is None else created, "livemode": live, "data": {"object": obj}})
    t = at or stamp(server)
    signature = stripe.WebhookSignature._compute_signature(f"{t}.{body}", secret)
    if at is None and header is None:
        assert stripe.WebhookSignature.verify_header(body, f"t={t},v1={signature}", secret)
    answer = server.http.post("/api/v1/webhooks/stripe", content=body, headers={"Stripe-Signature": header or f"t={t},v1={signature}"})
    server.advance(1)
    return answer


def rich(server, credits=0):
    server.advance(1)  # the till has learned where to tell its events
    client = server.client(credits=credits)
    client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {"return_hosts": ["app.example.com"]}})
    return client


def buy(client, credits=20):
    return client.post("/billing/checkout", {"credits": credits, "success_url": "https://app.example.com/ok", "cancel_url": "https://app.example.com/no"})


def pay(server, checkout):
    assert httpx.post(f"{server.sandbox}/_sandbox/stripe/checkout/{checkout['session_id']}/pay").status_code == 200
    server.advance(2)


def control(server, what, **body):
    assert httpx.post(f"{server.sandbox}/_sandbox/stripe/{what}", json=body).status_code == 200
    server.advance(2)


def lines(client, **query):
    return [(t["type"], t["delta"], t["reference_type"]) for t in client.get("/billing/transactions", params=query).json()["data"]]


def test_a_purchase_from_page_to_credits(server):
    client = rich(server)
    since = len(server.provider_requests())
    opened = buy(client)
    assert opened.status_code == 201, opened.text
    data = opened.json()["data"]
    assert data["status"] == "open" and data["url"].startswith("https://") and data["amount_cents"] == 2000 and data["currency"] == "usd"
    sent = {r["path"]: r for r in server.provider_requests("/v1/*", since)}
    form = dict(p.split("=", 1) for p in sent["/v1/checkout/sessions"]["body"].split("&"))
    assert form["payment_intent_data%5Bmetadata%5D%5Bclient_id%5D"] == client.id and form["line_items%5B0%5D%5Bprice_data%5D%5Bunit_amount%5D"] == "2000"
    assert sent["/v1/checkout/sessions"]["headers"]["idempotency-key"] == data["id"] and sent["/v1/customers"]["headers"]["stripe-version"]
    pay(server, data)
    assert client.get(f"/billing/checkouts/{data['id']}").json()["data"]["status"] == "paid"
    assert client.balance()["balance"] == 20 and lines(client) == [("purchased", 20, "stripe_payment")]
    assert client.events().count("credits.purchased") == 1, "two events told of it"
    again = buy(client).json()["data"]
    assert len(server.provider_requests("/v1/customers", since)) == 1, "a customer is made once"
    pay(server, again)
    assert client.balance()["balance"] == 40


@pytest.mark.parametrize("mode, options", [("status", {"status": 500}), ("drop_after", {}), ("drop_before", {}), ("status", {"status": 429})])
@pytest.mark.parametrize("match", ["POST /v1/customers", "POST /v1/checkout/sessions"])
def test_a_till_that_stumbles_makes_one_session(server, match, mode, options):
    client = rich(server)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": match, "mode": mode, "times": 1, **options})
    data = buy(client).json()["data"]
    server.advance(60)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    row = client.get(f"/billing/checkouts/{data['id']}").json()["data"]
    assert row["status"] == "open" and row["session_id"]
    keys = {r["headers"]["idempotency-key"] for r in server.provider_requests("/v1/checkout/sessions") if data["id"] in r["body"]}
    assert keys == {data["id"]}


def test_a_refused_purchase_says_so(server):
    client = rich(server)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /v1/checkout/sessions", "mode": "status", "status": 400, "times": 1})
    refused = buy(client)
    error(refused, 502, "provider_error")
    assert client.get(f"/billing/checkouts/{refused.json()['error']['details']['checkout_id']}").json()["data"]["status"] == "failed"


def test_where_payers_may_be_sent_and_how_much(server):
    client = rich(server)
    for change, field in (({"success_url": "https://evil.example.com/"}, "success_url"), ({"cancel_url": "https://app.example.com.evil.com/"}, "cancel_url"),
                          ({"credits": 4}, "credits"), ({"credits": 10001}, "credits")):
        answer = client.post("/billing/checkout", {"credits": 20, "success_url": "https://app.example.com/ok", "cancel_url": "https://app.example.com/no",
                                                   **change})
        error(answer, 422, "validation_error")
        assert list(answer.json()["error"]["details"]) == [field]
    live = server.client(mode="live")
    error(live.post("/billing/checkout", {"credits": 20, "success_url": "https://app.example.com/", "cancel_url": "https://app.example.com/"}), 503, "unavailable")


def customer_of(server, client):
    return server.sql("select stripe_customer_id from clients where id = %s", client.id)[0][0]


def test_one_grant_however_often_and_in_whatever_order_it_is_told(server):
    client = rich(server)
    data = buy(client).json()["data"]
    intent = f"pi_{uuid.uuid4().hex}"
    metadata, customer = {"client_id": client.id, "checkout_id": data["id"]}, customer_of(server, client)
    session = {"id": data["session_id"], "mode": "payment", "payment_status": "paid", "payment_intent": intent, "amount_total": 2000, "currency": "usd",
               "customer": customer, "metadata": metadata}
    paid = {"id": intent, "amount_received": 2000, "currency": "usd", "customer": customer, "metadata": metadata}
    for kind, obj, event in (("checkout.session.completed", session, "evt_a" + intent), ("checkout.session.completed", session, "evt_a" + intent),
                             ("payment_intent.succeeded", paid, None), ("checkout.session.async_payment_succeeded", session, None),
                             ("checkout.session.expired", session, None)):
        assert tell(server, kind, obj, event_id=event).status_code == 200
    assert client.balance()["balance"] == 20 and lines(client) == [("purchased", 20, "stripe_payment")]
    assert client.get(f"/billing/checkouts/{data['id']}").json()["data"]["status"] == "paid"


def unresolved(server, event_type):
    return server.sql("select status, error from inbound_events where provider = 'stripe' and type = %s order by created_at desc, id desc limit 1", event_type)[0]


def test_what_cannot_be_believed_is_kept_for_a_person(server):
    client, other = rich(server), rich(server)
    customer = f"cus_{uuid.uuid4().hex}"
    server.sql("update clients set stripe_customer_id = %s where id = %s", customer, client.id)
    paid = {"id": f"pi_{uuid.uuid4().hex}", "amount_received": 2000, "currency": "usd", "customer": customer, "metadata": {"client_id": client.id}}
    for change, live in (({"metadata": {"client_id": other.id}}, False), ({"metadata": {"client_id": str(uuid.uuid4())}, "customer": "cus_x"}, False),
                         ({"currency": "eur"}, False), ({"amount_received": 50}, False), ({}, True), ({"metadata": {"client_id": "zebra"}}, False),
                         ({"customer": None}, False), ({"customer": None, "metadata": {"client_id": other.id}}, False),
                         ({"customer": "cus_unknown", "metadata": {"client_id": other.id}}, False)):
        assert tell(server, "payment_intent.succeeded", {**paid, **change}, live=live).status_code == 200
        status, why = unresolved(server, "payment_intent.succeeded")
        assert status == "unresolved" and why, (change, live)
    assert client.balance()["balance"] == 0 and other.balance()["balance"] == 0
    assert tell(server, "payment_intent.succeeded", paid).status_code == 200
    assert client.balance()["balance"] == 20


def test_an_unresolved_payment_is_granted_after_a_fix(server):
    client = rich(server)
    customer = f"cus_{uuid.uuid4().hex}"
    tell(server, "invoice.paid", {"id": f"in_{uuid.uuid4().hex}", "customer": customer, "amount_paid": 3000, "currency": "usd"})
    event, = server.sql("select id, status from inbound_events where body like %s", f"%{customer}%")
    assert event[1] == "unresolved"
    server.sql("update clients set stripe_customer_id = %s where id = %s", customer, client.id)
    server.sql("update inbound_events set agency_id = %s where id = %s", client.agency, event[0])
    admin = client.make_token("agency_admin")
    assert client.request("POST", f"/inbound-events/{event[0]}/reprocess", token=admin).status_code == 202
    server.advance(2)
    assert client.balance()["balance"] == 30


def test_refunds_take_back_once_and_cumulatively(server):
    client = rich(server)
    data = buy(client, 40).json()["data"]
    pay(server, data)
    control(server, "refund", session=data["session_id"], amount=1000)
    assert client.balance()["balance"] == 30
    control(server, "refund", session=data["session_id"])
    assert client.balance()["balance"] == 0 and client.balance()["debt"] == 0
    assert lines(client, type="reversed") == [("reversed", -30, "stripe_refund"), ("reversed", -10, "stripe_refund")]
    assert client.events().count("credits.refunded") == 2
    assert client.get(f"/billing/checkouts/{data['id']}").json()["data"]["status"] == "reversed"


def test_what_was_spent_already_becomes_debt_and_is_paid_first(server):
    client = rich(server)
    data = buy(client, 10).json()["data"]
    pay(server, data)
    client.call("+15555550101", call_settings={"max_duration_seconds": 120})
    server.advance(200)
    assert client.balance()["balance"] == 8
    control(server, "refund", session=data["session_id"])
    assert (client.balance()["balance"], client.balance()["debt"]) == (0, 2)
    pay(server, buy(client, 10).json()["data"])
    assert (client.balance()["balance"], client.balance()["debt"]) == (8, 0)
    ledger_is_right(server)


def test_a_dispute_withholds_and_a_won_one_gives_back(server):
    client = rich(server)
    data = buy(client, 20).json()["data"]
    pay(server, data)
    control(server, "refund", session=data["session_id"], amount=500)
    control(server, "dispute", session=data["session_id"], amount=1500)
    assert client.balance()["balance"] == 0
    control(server, "dispute", session=data["session_id"], amount=1500, won=True)
    assert client.balance()["balance"] == 15, "the refund stays"
    assert client.events().count("credits.reversed") == 2
    assert lines(client)[0] == ("reversed", 15, "stripe_dispute")


def test_a_refund_told_before_its_payment_waits(server):
    client = rich(server)
    data = buy(client).json()["data"]
    intent = f"pi_{uuid.uuid4().hex}"
    tell(server, "charge.refunded", {"id": "ch_1", "payment_intent": intent, "amount": 2000, "amount_refunded": 500})
    assert unresolved(server, "charge.refunded")[0] == "received" and client.balance()["balance"] == 0
    tell(server, "payment_intent.succeeded", {"id": intent, "amount_received": 2000, "currency": "usd", "customer": customer_of(server, client),
                                              "metadata": {"client_id": client.id, "checkout_id": data["id"]}})
    server.advance(120)
    assert unresolved(server, "charge.refunded")[0] == "processed"
    assert client.balance()["balance"] == 15 and lines(client)[0] == ("reversed", -5, "stripe_refund")


def test_a_refund_of_nothing_we_know_is_kept_for_a_person(server):
    tell(server, "charge.refunded", {"id": "ch_1", "payment_intent": f"pi_{uuid.uuid4().hex}", "amount": 2000, "amount_refunded": 2000})
    server.advance(3 * 86400)
    assert unresolved(server, "charge.refunded") == ("unresolved", "no purchase of ours was paid by it")


def test_an_older_word_never_undoes_a_newer_one(server):
    client = rich(server)
    data = buy(client).json()["data"]
    pay(server, data)
    intent, t = server.sql("select payment_intent from checkouts where id = %s", data["id"])[0][0], stamp(server)
    dispute = {"id": "dp_2", "payment_intent": intent, "amount": 2000}
    tell(server, "charge.dispute.funds_reinstated", dispute, created=t + 60)
    tell(server, "charge.dispute.funds_withdrawn", dispute, created=t)
    assert client.balance()["balance"] == 20
    subscription = {"id": "sub_2", "customer": customer_of(server, client)}
    for kind, status, created in (("updated", "active", t), ("created", "incomplete", t), ("deleted", "canceled", t + 90), ("updated", "active", t + 30)):
        tell(server, f"customer.subscription.{kind}", {**subscription, "status": status}, created=created)
        told = client.get(f"/auth/clients/{client.id}").json()["data"]["subscription_status"]
        assert told == ("cancelled" if created > t else "active"), (kind, created)


def test_subscriptions_open_and_close_spending(server):
    client = rich(server, credits=1000)
    customer = f"cus_{uuid.uuid4().hex}"
    server.sql("update clients set stripe_customer_id = %s where id = %s", customer, client.id)
    agent = client.agent()
    status = lambda: client.get(f"/auth/clients/{client.id}").json()["data"]["subscription_status"]
    for theirs, ours in (("past_due", "suspended"), ("active", "active"), ("unpaid", "suspended"), ("trialing", "active"), ("newly_invented", "active"),
                         ("canceled", "cancelled")):
        tell(server, "customer.subscription.updated", {"id": "sub_1", "customer": customer, "status": theirs})
        assert status() == ours, theirs
        assert client.call(agent=agent).status_code == (201 if ours == "active" else 402)
    assert unresolved(server, "customer.subscription.updated")[0] in ("processed", "unresolved")
    assert client.events().count("client.suspended") == 2
    server.advance(200)


@pytest.mark.parametrize("header", ["", "t=1,v1=00", "v1=00", "t=soon,v1=00", "t={now},v0={good}", "t={now},v1=zz"])
def test_bad_signatures(server, header):
    body = {"id": "pi_1"}
    answer = tell(server, "payment_intent.succeeded", body, at=stamp(server), header=header.replace("{now}", str(stamp(server))).replace("{good}", "00") or "x")
    error(answer, 401, "unauthorized")


def test_old_and_rotated_signatures(server):
    assert tell(server, "ping", {}, at=stamp(server) - 400).status_code == 401
    assert tell(server, "ping", {}, at=stamp(server) + 400).status_code == 401
    t, body = stamp(server), json.dumps({"id": f"evt_{uuid.uuid4().hex}", "type": "ping", "data": {"object": {}}})
    good = stripe.WebhookSignature._compute_signature(f"{t}.{body}", SECRET)
    assert server.http.post("/api/v1/webhooks/stripe", content=body, headers={"Stripe-Signature": f"t={t},v1={'0' * 64},v1={good}"}).status_code == 200


def test_adjustments_are_the_agencys_alone(server, client):
    admin = client.make_token("agency_admin")
    adjust = lambda amount, **more: client.request("POST", "/billing/adjustments", token=admin, headers={"x-client-id": client.id},
                                                   json={"amount": amount, "reason": "goodwill", **more})
    server.advance(1)
    made = adjust(25)
    assert made.status_code == 201 and made.json()["data"]["delta"] == 25 and made.json()["data"]["type"] == "adjusted", made.text
    assert client.balance()["balance"] == 1025
    server.advance(1)
    assert adjust(-1025).status_code == 201
    error(adjust(-1), 402, "payment_required")
    error(adjust(0), 422, "validation_error")
    error(client.post("/billing/adjustments", {"amount": 5, "reason": "for me"}), 403, "forbidden")
    assert client.events().count("credits.adjusted") == 2
    assert [t["delta"] for t in client.get("/billing/transactions", params={"type": "adjusted"}).json()["data"]] == [-1025, 25, 1000]


def test_a_low_balance_is_told_once_each_time(server):
    client = server.client(credits=3)
    client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {"low_balance_threshold": 3}})
    agent = client.agent()
    for _ in range(2):
        client.call(agent=agent, call_settings={"max_duration_seconds": 60})
    assert client.events().count("credits.low") == 1
    server.advance(200)
    client.request("POST", "/billing/adjustments", token=client.make_token("agency_admin"), headers={"x-client-id": client.id},
                   json={"amount": 10, "reason": "more"})
    client.call(agent=agent)
    assert client.events().count("credits.low") == 2
    server.advance(200)


def test_the_last_credit_is_spent_once(server):
    client = server.client(credits=1)
    agent = client.agent()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(client.call(agent=agent).status_code)) for _ in range(12)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(answers) == [201] + [402] * 11
    server.advance(200)
    assert client.balance()["balance"] == 0


def frugal(server, **more):
    """A client that recharges 20 credits when less than 5 are left, and has paid on a page once, so that its card is known."""
    client = rich(server)
    answer = client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {
        "return_hosts": ["app.example.com"], "low_balance_threshold": 5, "auto_recharge": {"enabled": True, "credits": 20, **more}}})
    assert answer.status_code == 200, answer.text
    pay(server, buy(client, 5).json()["data"])
    assert client.balance()["balance"] == 5
    return client


def spend(client, amount):
    answer = client.post("/billing/adjustments", {"amount": -amount, "reason": "spent"}, token=client.make_token("agency_admin"),
                         headers={"x-client-id": client.id})
    assert answer.status_code == 201, answer.text
    client.server.advance(30)


def automatic(server, client):
    return server.sql("select status, last_error from checkouts where client_id = %s and origin = 'auto' order by created_at", client.id)


def test_the_saved_card_pays_when_the_balance_is_low(server):
    client = frugal(server)
    since = len(server.provider_requests())
    spend(client, 1)
    assert client.balance()["balance"] == 24 and automatic(server, client) == [("paid", None)]
    asked, = server.provider_requests("/v1/payment_intents", since)
    form = dict(p.split("=", 1) for p in asked["body"].split("&"))
    assert form["amount"] == "2000" and form["off_session"] == form["confirm"] == "true" and form["metadata%5Bclient_id%5D"] == client.id
    assert client.events()[-3:] == ["credits.adjusted", "credits.low", "credits.purchased"] or client.events()[-1] == "credits.purchased"
    spend(client, 15)
    assert client.balance()["balance"] == 9 and len(automatic(server, client)) == 1, "nothing is bought above the threshold"


def test_without_a_word_nothing_is_recharged(server):
    client = rich(server)
    client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {"return_hosts": ["app.example.com"], "low_balance_threshold": 5}})
    pay(server, buy(client, 5).json()["data"])
    spend(client, 3)
    assert "credits.low" in client.events() and automatic(server, client) == [] and client.balance()["balance"] == 2
    for bad in ({"enabled": True}, {"enabled": "yes", "credits": 20}, {"enabled": True, "credits": 4}, {"enabled": True, "credits": 20, "most_per_day": 21},
                {"enabled": True, "credits": 20, "card": "pm_1"}, []):
        answer = client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {"auto_recharge": bad}})
        error(answer, 422, "validation_error")
        assert "settings.auto_recharge" in answer.json()["error"]["details"]


def test_a_refused_card_is_told_of_and_not_tried_again_at_once(server):
    client = frugal(server)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /v1/payment_intents", "mode": "status", "status": 402, "times": 9})
    try:
        spend(client, 1)
        (status, why), = automatic(server, client)
        assert status == "failed" and "402" in why and client.events()[-1] == "credits.recharge.failed" and client.balance()["balance"] == 4
        spend(client, 1)
        assert len(automatic(server, client)) == 1, "not before the balance has been above the threshold"
    finally:
        httpx.delete(server.sandbox + "/_sandbox/faults")


@pytest.mark.parametrize("mode, options", [("drop_after", {}), ("drop_before", {}), ("status", {"status": 500}), ("garbage", {})])
def test_a_recharge_in_doubt_is_paid_once(server, mode, options):
    client = frugal(server)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /v1/payment_intents", "mode": mode, "times": 1, **options})
    try:
        spend(client, 1)
        server.advance(60)
        assert client.balance()["balance"] == 24 and automatic(server, client) == [("paid", None)]
        assert len([x for x in lines(client) if x[0] == "purchased"]) == 2
    finally:
        httpx.delete(server.sandbox + "/_sandbox/faults")


def test_recharges_of_a_day_are_counted(server):
    client = frugal(server, most_per_day=1)
    spend(client, 1)
    spend(client, 20)
    assert client.balance()["balance"] == 4 and len(automatic(server, client)) == 1 and client.events()[-1] == "credits.recharge.failed"
    client = rich(server)
    client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {
        "low_balance_threshold": 5, "auto_recharge": {"enabled": True, "credits": 20}}})
    client.post("/billing/adjustments", {"amount": 6, "reason": "a gift"}, token=client.make_token("agency_admin"), headers={"x-client-id": client.id})
    spend(client, 2)
    assert automatic(server, client) == [] and client.events()[-1] == "credits.recharge.failed", "there is no card"


def test_stripes_own_mock_takes_our_requests(folder):
    """stripe-mock judges every field by Stripe's own API description; a misspelt one is refused."""
    binary = pathlib.Path(sys.executable).parent / "stripe-mock"
    if not binary.exists():
        pytest.skip("stripe-mock is not at hand: no Go to build it")
    port = free_port()
    mock = subprocess.Popen([binary, "-http-addr", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    for line in mock.stdout:
        if "Listening" in line:
            break
    server = Server(folder / "mock", "--workers", "1", "--set", f"stripe_base_url=http://127.0.0.1:{port}")
    try:
        misspelt = httpx.post(f"http://127.0.0.1:{port}/v1/customers", auth=("sk_test_123", ""), data={"nmae": "x"})
        assert misspelt.status_code == 400, "the mock judges"
        client = rich(server)
        opened = buy(client)
        assert opened.status_code == 201, opened.text
        data = opened.json()["data"]
        assert data["status"] == "open" and data["session_id"].startswith("cs_") and data["url"]
        assert server.sql("select stripe_customer_id from clients where id = %s", client.id)[0][0].startswith("cus_")
        # a refund names its charge: the till is asked which payment that was
        assert tell(server, "refund.created", {"id": "re_1", "object": "refund", "charge": "ch_123", "status": "succeeded"}).status_code == 200
        client.request("PATCH", f"/auth/clients/{client.id}", json={"settings": {
            "return_hosts": ["app.example.com"], "low_balance_threshold": 5, "auto_recharge": {"enabled": True, "credits": 20}}})
        assert buy(client).status_code == 201, "with the card to be saved"
        client.post("/billing/adjustments", {"amount": 5, "reason": "a gift"}, token=client.make_token("agency_admin"), headers={"x-client-id": client.id})
        spend(client, 1)
        (status, why), = automatic(server, client)
        assert status == "open" or "needs its payer" in why, "the mock's payment is never paid, but what we sent is good"
    finally:
        server.stop()
        mock.kill()
