"""What we do with every answer of the provider to a creation, and that what we send fits its own schema."""
import json
import os

import httpx
import jsonschema
import pytest
import referencing
import referencing.jsonschema
import yaml

from test_knowledge import base, upload
from test_tools import WEATHER, tool
from test_voices import clone

CREATE = "POST /api/agents/*/calls"


def plan(server, match, mode, **more):
    assert httpx.post(server.sandbox + "/_sandbox/faults", json={"match": match, "mode": mode, **more}).status_code == 201


@pytest.fixture(autouse=True)
def no_faults(server):
    yield
    httpx.delete(server.sandbox + "/_sandbox/faults")


def placed(server, call_id):
    return [c for c in server.provider_calls() if c["metadata"].get("trunkline_call_id") == call_id]


def posts(server, call_id):
    return [r for r in server.provider_requests("/api/agents/*/calls") if call_id in r["body"]]


#        mode           options                 answered  final        placed  posts
LADDER = [
    ("status",      {"status": 503, "times": 1}, 202, "completed", 1, 2),
    ("status",      {"status": 429, "times": 9}, 202, "failed",    0, 5),
    ("status",      {"status": 400, "times": 1}, 502, "failed",    0, 1),
    ("status",      {"status": 402, "times": 1}, 502, "failed",    0, 1),
    ("status",      {"status": 500, "times": 1}, 202, "completed", 1, 2),
    ("status",      {"status": 500, "times": 9}, 202, "failed",    0, 3),
    ("status",      {"status": 502, "times": 1}, 202, "failed",    0, 1),
    ("status",      {"status": 504, "times": 1}, 202, "failed",    0, 1),
    ("garbage",     {"times": 1},                202, "completed", 1, 1),
    ("drop_before", {"times": 1},                202, "failed",    0, 1),
    ("drop_after",  {"times": 1},                202, "completed", 1, 1),
]


@pytest.mark.parametrize("mode, options, answered, final, there, sent", LADDER, ids=[f"{r[0]}-{r[1].get('status', '')}-{r[1]['times']}" for r in LADDER])
def test_each_answer_leaves_the_truth(server, client, mode, options, answered, final, there, sent):
    agent = client.agent()
    plan(server, CREATE, mode, **options)
    answer = client.call(agent=agent)
    assert answer.status_code == answered, answer.text
    if answered == 502:
        error = answer.json()["error"]
        assert error["code"] == "provider_error"
        call_id = error["details"]["call_id"]
    else:
        call_id = answer.json()["data"]["id"]
    server.advance(90000)
    call = client.read(call_id)
    assert call["status"] == final
    if final == "failed":
        assert call["error"]["message"] and call["outcome"] in ("failed", "not_placed")
    assert len(placed(server, call_id)) == there
    assert len(posts(server, call_id)) == sent
    assert client.balance()["held"] == 0
    assert client.balance()["balance"] == 1000 - (1 if final == "completed" else 0)


@pytest.mark.parametrize("mode, options", [("status", {"status": 500}), ("status", {"status": 503}), ("garbage", {}), ("drop_before", {}),
                                           ("drop_after", {})])
def test_an_agent_is_made_once(server, client, mode, options):
    plan(server, "POST /api/agents", mode, times=1, **options)
    answer = client.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk."})
    assert answer.status_code == 202, answer.text
    agent = answer.json()["data"]["id"]
    server.advance(60)
    row = client.get(f"/agents/{agent}").json()["data"]
    assert (row["status"], row["sync_status"]) == ("active", "synced")
    listed = httpx.get(server.sandbox + "/api/agents", params={"search": agent}, headers={"X-API-Key": "k"}).json()["results"]
    assert [a["agentId"] for a in listed] == [row["ultravox_agent_id"]]


def test_a_refused_agent_says_so(server, client):
    plan(server, "POST /api/agents", "status", status=400)
    answer = client.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk."})
    assert answer.status_code == 502 and answer.json()["error"]["details"]["provider"] == "ultravox"
    row = client.get(f"/agents/{answer.json()['error']['details']['agent_id']}").json()["data"]
    assert row["status"] == "failed" and "400" in row["last_error"]
    refused = client.call(agent=row["id"])
    assert refused.status_code == 422 and "agent_id" in refused.json()["error"]["details"]


def test_lost_tripled_and_shuffled_events(server, client):
    agent = client.agent()
    chaos = {"duplicate": 3, "shuffle": True, "drop": 0.2, "seed": 7}
    httpx.post(server.sandbox + "/_sandbox/events", json=chaos)
    ids = [client.call(f"+155555501{n:02d}", agent=agent, call_settings={"max_duration_seconds": 120}).json()["data"]["id"]
           for n in (0, 1, 10, 11, 12, 13, 14) * 4]
    server.advance(100000)
    httpx.post(server.sandbox + "/_sandbox/events", json={"duplicate": 1, "shuffle": False, "drop": 0, "seed": 0})
    calls = [client.read(i) for i in ids]
    assert {c["status"] for c in calls} <= {"completed", "busy", "no_answer", "voicemail", "failed"}
    assert all(c["ended_at"] and c["billed_seconds"] is not None for c in calls)
    assert client.balance()["held"] == 0
    assert client.balance()["balance"] == 1000 - sum(c["credits_charged"] for c in calls)


def test_a_live_client_never_uses_the_sandbox(server):
    """Without a real key a live client is told so; a test client never reaches a real provider."""
    live = server.client(mode="live")
    answer = live.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk."})
    assert answer.status_code == 503 and answer.json()["error"]["details"]["reason"] == "not_configured"
    assert live.get("/agents").json()["data"] == [] and server.sql("select count(*) from jobs where client_id = %s", live.id) == [(0,)]


def test_the_providers_own_limits_are_waited_out(server, client):
    """A plan of two calls a second: throttled creations are repeated, each call is placed once."""
    agent = client.agent()
    httpx.post(server.sandbox + "/_sandbox/limits", json={"calls_per_second": 2})
    answers = [client.call("+15555550111", agent=agent) for _ in range(4)]
    assert [a.status_code for a in answers] == [201, 201, 202, 202]
    server.advance(120)
    httpx.post(server.sandbox + "/_sandbox/limits", json={})
    for answer in answers:
        call_id = answer.json()["data"]["id"]
        assert client.read(call_id)["status"] == "busy" and len(placed(server, call_id)) == 1


# what we send, and what the sandbox answers, against the provider's own schema

USED = {
    ("GET", "/api/agents"), ("POST", "/api/agents"), ("GET", "/api/agents/{agent_id}"), ("PATCH", "/api/agents/{agent_id}"),
    ("DELETE", "/api/agents/{agent_id}"), ("POST", "/api/agents/{agent_id}/calls"), ("GET", "/api/calls"), ("GET", "/api/calls/{call_id}"),
    ("GET", "/api/calls/{call_id}/messages"), ("GET", "/api/calls/{call_id}/recording"), ("GET", "/api/webhooks"), ("POST", "/api/webhooks"),
    ("GET", "/api/tools"), ("POST", "/api/tools"), ("PUT", "/api/tools/{tool_id}"), ("DELETE", "/api/tools/{tool_id}"),
    ("GET", "/api/corpora"), ("POST", "/api/corpora"), ("PATCH", "/api/corpora/{corpus_id}"), ("DELETE", "/api/corpora/{corpus_id}"),
    ("POST", "/api/corpora/{corpus_id}/uploads"), ("POST", "/api/corpora/{corpus_id}/sources"), ("GET", "/api/corpora/{corpus_id}/sources"),
    ("GET", "/api/corpora/{corpus_id}/sources/{source_id}"), ("DELETE", "/api/corpora/{corpus_id}/sources/{source_id}"),
    ("POST", "/api/corpora/{corpus_id}/query"), ("GET", "/api/voices"), ("POST", "/api/voices"), ("GET", "/api/voices/{voice_id}"),
    ("PATCH", "/api/voices/{voice_id}"), ("DELETE", "/api/voices/{voice_id}"), ("GET", "/api/voices/{voice_id}/preview"),
}


class Schema:
    """The provider's OpenAPI, made strict: where it names properties, others are forbidden."""

    def __init__(self, path):
        self.doc = yaml.safe_load(open(path))
        for schema in self.doc["components"]["schemas"].values():
            self.strict(schema)

    def strict(self, schema):
        if isinstance(schema, list):
            for s in schema:
                self.strict(s)
        if not isinstance(schema, dict):
            return
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        if schema.pop("nullable", False):
            rest = dict(schema)
            schema.clear()
            schema["anyOf"] = [{"type": "null"}, rest]
        for value in list(schema.values()):
            self.strict(value)

    def operation(self, method, path):
        for template, item in self.doc["paths"].items():
            parts, want = path.split("?")[0].strip("/").split("/"), template.strip("/").split("/")
            if len(parts) == len(want) and all(w.startswith("{") or w == p for p, w in zip(parts, want)) and method.lower() in item:
                if not any(p in ("calls", "messages") and w.startswith("{") for p, w in zip(parts, want)):
                    return template, item[method.lower()]
        raise AssertionError(f"the provider has no {method} {path}")

    def check(self, name, value):
        registry = referencing.Registry().with_resource("urn:provider", referencing.Resource(self.doc, referencing.jsonschema.DRAFT7))
        jsonschema.Draft7Validator({"$ref": f"urn:provider#/components/schemas/{name}"}, registry=registry).validate(value)

    def request(self, entry):
        template, operation = self.operation(entry["method"], entry["path"])
        content = operation.get("requestBody", {}).get("content", {})
        body = content.get("application/json", {}).get("schema")
        if entry["headers"].get("content-type", "").startswith("multipart/form-data"):
            form, names = content["multipart/form-data"]["schema"], set(entry["body"].split(","))  # the sandbox logs the parts' names
            assert set(form["required"]) <= names <= set(form["properties"]), names
        elif body is not None:
            # readOnly fields are required of answers, not of requests
            sent = json.loads(entry["body"])
            name = body["$ref"].rsplit("/", 1)[1]
            schema = dict(self.doc["components"]["schemas"][name])
            schema["required"] = [r for r in schema.get("required", [])
                                  if not schema["properties"][r].get("readOnly") and "anyOf" not in schema["properties"][r]]
            self.doc["components"]["schemas"]["sent." + name] = schema
            self.check("sent." + name, sent)
        elif entry["body"]:
            raise AssertionError(f"{template} takes no body")
        answer = operation["responses"].get(str(entry["status"]), {}).get("content", {}).get("application/json", {}).get("schema")
        if answer is not None and entry["answer"] and entry["status"] < 300:
            said = json.loads(entry["answer"])
            for one in said if answer.get("type") == "array" else [said]:
                self.check((answer["items"] if answer.get("type") == "array" else answer)["$ref"].rsplit("/", 1)[1], one)
        return entry["method"], template


@pytest.fixture(scope="module")
def schema():
    path = os.environ.get("TRUNKLINE_ULTRAVOX_SCHEMA")
    if not path:
        print("the provider's schema is not at hand (TRUNKLINE_ULTRAVOX_SCHEMA): this check was not made")
        return None
    return Schema(path)


def use_everything(server, client):
    """Tools, knowledge bases and voices of every kind, each made once after a doubt, changed, used and deleted."""
    made = [tool(client, authentication=how) for how in ({"type": "bearer", "secret": "a_secret_1"}, {"type": "basic", "secret": "me:a_secret_2"},
                                                         {"type": "api_key", "name": "k", "location": "query", "secret": "a_secret_3"})]
    client.request("PATCH", f"/tools/{made[0]['id']}", json={"method": "GET"})
    kb = base(client, description="All")["id"]
    client.request("PATCH", f"/kb/{kb}", json={"name": "Other"})
    doc, = upload(client, kb, ("a.txt", b"words of the base"))
    plan(server, "POST /api/corpora/*/sources", "drop_after", times=1)
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [doc]})
    client.post(f"/kb/{kb}/urls", {"url": "https://example.com/", "max_depth": 2})
    voice = clone(client).json()["data"]["id"]
    client.request("PATCH", f"/voices/{voice}", json={"name": "Other", "language": "de"})
    client.get(f"/voices/{voice}/preview")
    for provider, settings in (("elevenlabs", {"stability": 0.5, "use_speaker_boost": True}), ("cartesia", {}), ("lmnt", {"speed": 1.1}),
                               ("google_cloud", {"speaking_rate": 1.1}), ("inworld", {"temperature": 0.7}), ("respeecher", {"temperature": 0.2})):
        reference = client.post("/voices", {"name": provider, "provider_overrides": {"provider": provider, "voice_id": "v1", "model": "m", "settings": settings}})
        assert reference.status_code == 201, reference.text
    for path, kind in (("/tools", "POST /api/tools"), ("/kb", "POST /api/corpora"), ("/voices", "POST /api/voices")):
        plan(server, kind, "status", status=500, times=1)
    client.post("/tools", WEATHER)
    client.post("/kb", {"name": "Doubt"})
    client.post("/voices", {"name": "Doubt", "source": {"provider_voice_id": "v2"}, "provider_overrides": {"provider": "lmnt"}})
    server.advance(120)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    assert client.post(f"/kb/{kb}/query", {"query": "words"}).json()["data"]["results"]
    agent = client.post("/agents", {"name": "All", "system_prompt": "You are the front desk.", "voice_id": voice, "knowledge_bases": [kb],
                                    "tools": [{"tool_id": t["id"], "parameters": {"city": "Bonn"}} for t in made[:1]]}).json()["data"]["id"]
    for path in (f"/agents/{agent}", f"/kb/{kb}/documents/{doc}", f"/kb/{kb}", f"/voices/{voice}", f"/tools/{made[0]['id']}"):
        gone = client.request("DELETE", path)
        assert gone.status_code == 200, gone.text
        server.advance(10)


def test_every_exchange_fits_the_providers_schema(server, client, schema):
    if schema is None:
        return
    since = len(server.provider_requests())
    agent = client.agent()
    client.request("PATCH", f"/agents/{agent}", json={"settings": {"temperature": 0.3, "agent_language": "de", "first_message": "Hallo",
                                                                      "max_conversation_duration": 900, "time_exceeded_message": "Bye", "initial_output_medium": "voice",
                                                                      "inactivity_messages": [{"message": "Still there?", "after_seconds": 8}]}})
    plan(server, "POST /api/agents", "status", status=500)
    client.post("/agents", {"name": "Other", "system_prompt": "You are the front desk."})
    client.call("+15555550100", agent=agent, call_settings={"greeting": "Hi", "ring_timeout_seconds": 20}, context={"name": "Anna"})
    client.call("+15555550120", agent=agent)
    client.call("+15555550130", agent=agent)
    client.get(f"/agents/{agent}", params={"refresh": "true"})
    use_everything(server, client)
    client.request("DELETE", f"/agents/{agent}")
    server.advance(7200)
    seen = set()
    for entry in server.provider_requests("/api/*", since=0):
        if entry["n"] > since or "webhooks" in entry["path"]:
            seen.add(schema.request(entry))
    assert seen >= USED, f"never exercised: {USED - seen}"


def test_the_schema_check_can_fail(schema):
    if schema is None:
        return
    entry = {"method": "POST", "path": "/api/agents/x/calls", "status": 201, "answer": "", "headers": {},
             "body": json.dumps({"metadata": {"a": "b"}, "recordingEnable": True})}
    with pytest.raises(jsonschema.ValidationError):
        schema.request(entry)
    entry["body"] = json.dumps({"medium": {"telnyx": {"outgoing": {"to": "+1", "form": "+1"}}}})
    with pytest.raises(jsonschema.ValidationError):
        schema.request(entry)
