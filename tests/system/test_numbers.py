"""The sandbox's number table, end to end: what each ending does to the call, the money and the provider."""
import pytest

#      ending  answer  after   status       outcome          billed charged artifacts
ROWS = [
    ("00", 201, 120, "completed", "completed", 30, 1, True),
    ("01", 201, 200, "completed", "completed", 96, 2, True),
    ("02", 201, 800, "completed", "completed", 600, 10, True),
    ("10", 201, 120, "no_answer", "no_answer", 0, 0, False),
    ("11", 201, 120, "busy", "busy", 0, 0, False),
    ("12", 201, 120, "voicemail", "voicemail", 12, 1, True),
    ("13", 201, 120, "failed", "declined", 0, 0, False),
    ("14", 201, 120, "voicemail", "call_screened", 18, 1, True),
    ("20", 202, 200, "completed", "completed", 30, 1, True),
    ("21", 202, 200, "completed", "completed", 30, 1, True),
    ("22", 202, 120, "completed", "completed", 30, 1, True),
    ("31", 201, 120, "completed", "completed", 30, 1, True),
    ("32", 201, 120, "completed", "completed", 30, 1, True),
]


@pytest.mark.parametrize("ending, answered, after, status, outcome, billed, charged, artifacts", ROWS, ids=[r[0] for r in ROWS])
def test_number(server, client, ending, answered, after, status, outcome, billed, charged, artifacts):
    agent = client.agent()
    since = len(server.provider_requests())
    answer = client.call("+155555501" + ending, agent=agent)
    assert answer.status_code == answered, answer.text
    call_id = answer.json()["data"]["id"]
    server.advance(after)
    call = client.read(call_id)
    assert (call["status"], call["outcome"], call["billed_seconds"], call["credits_charged"]) == (status, outcome, billed, charged)
    assert client.balance()["held"] == 0 and client.balance()["balance"] == 1000 - charged
    assert client.get(f"/calls/{call_id}/transcript").status_code == (200 if artifacts else 404)
    assert client.get(f"/calls/{call_id}/recording").status_code == (200 if artifacts else 404)
    placed = [c for c in server.provider_calls() if c["metadata"].get("trunkline_call_id") == call_id]
    assert len(placed) == 1 and placed[0]["id"] == call["ultravox_call_id"]
    posts = [r for r in server.provider_requests("/api/agents/*/calls", since) if call_id in r["body"]]
    assert len(posts) == {"20": 3, "22": 2}.get(ending, 1)
    ended = [t for t in client.events() if t == f"call.{status}"]
    assert len(ended) == 1 and client.events().count("call.billed") == 1


def test_max_duration_ends_the_call_first(server, client):
    call_id = client.call("+15555550102", call_settings={"max_duration_seconds": 60}).json()["data"]["id"]
    server.advance(300)
    call = client.read(call_id)
    assert (call["end_reason_raw"], call["billed_seconds"], call["credits_held"], call["credits_charged"]) == ("timeout", 60, 1, 1)


def test_a_call_costs_at_most_what_was_held(server):
    """On 1 credit a long call is cut at the held minute; available is never below zero."""
    poor = server.client(credits=1)
    call_id = poor.call("+15555550102").json()["data"]["id"]
    assert poor.balance()["available"] == 0
    refused = poor.call("+15555550100")
    assert refused.status_code == 402 and refused.json()["error"]["details"] == {"required": 1, "available": 0}
    server.advance(900)
    call = poor.read(call_id)
    assert (call["billed_seconds"], call["credits_charged"]) == (60, 1)
    assert (poor.balance()["balance"], poor.balance()["held"]) == (0, 0)


def test_23_hangs_and_ends_not_placed_after_a_day(server, client):
    """Our deadline passes with no answer: unknown at once, looked up for a day, then released."""
    answer = client.call("+15555550123", headers={"Prefer": "respond-async"})
    assert answer.status_code == 202 and answer.headers["preference-applied"] == "respond-async"
    call_id = answer.json()["data"]["id"]
    server.advance(1)
    assert client.read(call_id)["status"] == "unknown" and client.balance()["held"] == 60
    server.advance(86400 - 10)
    assert client.read(call_id)["status"] == "unknown"
    server.advance(3600)
    call = client.read(call_id)
    assert (call["status"], call["outcome"], call["ultravox_call_id"]) == ("failed", "not_placed", None)
    assert call["error"]["code"] == "not_placed" and client.balance()["held"] == 0
    posts = [r for r in server.provider_requests("/api/agents/*/calls") if call_id in r["body"]]
    assert len(posts) == 1


def test_30_unbilled_is_settled_by_asking(server, client):
    call_id = client.call("+15555550130").json()["data"]["id"]
    server.advance(120)
    assert client.read(call_id)["billed_seconds"] is None and client.balance()["held"] == 60
    server.advance(7200)
    call = client.read(call_id)
    assert (call["billed_seconds"], call["credits_charged"]) == (30, 1) and client.balance()["held"] == 0


def test_33_recording_comes_later(server, client):
    call_id = client.call("+15555550133").json()["data"]["id"]
    server.advance(120)
    refused = client.get(f"/calls/{call_id}/recording")
    assert refused.status_code == 404 and refused.json()["error"]["details"]["reason"] == "pending"
    assert client.get(f"/calls/{call_id}/transcript").status_code == 200
    server.advance(1500)
    assert client.get(f"/calls/{call_id}/recording").status_code == 200


def test_other_numbers_are_drawn_from_themselves(server, client):
    agent = client.agent()
    ids = [client.call(f"+1202456{n:04d}", agent=agent, call_settings={"max_duration_seconds": 300}).json()["data"]["id"]
           for n in range(12)]
    server.advance(900)
    outcomes = {client.read(i)["outcome"] for i in ids}
    assert len(outcomes) >= 2 and None not in outcomes
    assert client.balance()["held"] == 0
