"""An agency moves an agent with its tools and knowledge base from one client to another."""
import copy
import json

import httpx
import pytest

from test_bad_input import GOOD_AGENT, error
from test_knowledge import base, documents, upload
from test_tools import there, tool


@pytest.fixture
def setup(server, client):
    """An agent with a tool that has a secret and a knowledge base with a file and a page; and its export."""
    secret = tool(client, authentication={"type": "bearer", "secret": "moved_secret_1"})
    kb = base(client, description="Prices of all")["id"]
    doc, = upload(client, kb, ("prices.txt", b"A haircut costs 30 euros"))
    client.post(f"/kb/{kb}/files/ingest", {"document_ids": [doc]})
    client.post(f"/kb/{kb}/urls", {"url": "https://example.com/hours"})
    agent = client.post("/agents", {**GOOD_AGENT, "temperature": 0.3, "tools": [{"tool_id": secret["id"], "parameters": {"city": "Bonn"}}],
                                    "knowledge_bases": [kb]}).json()["data"]
    server.advance(60)
    exported = client.get("/export/agents", params={"agent_id": agent["id"]})
    assert exported.status_code == 200, exported.text
    document = exported.json()["data"]
    document["knowledge_bases"][0]["documents"].sort(key=lambda d: d["kind"])
    return agent, document


def test_a_setup_moves_to_another_client(server, client, setup):
    agent, document = setup
    assert document["version"] == 1 and "moved_secret_1" not in json.dumps(document) and client.id not in json.dumps(document)
    other = server.client(agency=client.agency)
    made = other.post("/agents/import", {**document, "secrets": {document["tools"][0]["ref"]: "moved_secret_2"}})
    assert made.status_code == 202 and "warnings" not in made.json()["meta"], made.text
    data = made.json()["data"]
    assert data["agents"][0]["ref"] == agent["id"] and data["agents"][0]["id"] != agent["id"]
    server.advance(120)
    moved = other.get(f"/agents/{data['agents'][0]['id']}").json()["data"]
    assert (moved["status"], moved["sync_status"]) == ("active", "synced"), moved
    assert moved["settings"] == agent["settings"] and moved["system_prompt"] == agent["system_prompt"]
    new_tool, new_kb = data["tools"][0]["id"], data["knowledge_bases"][0]["id"]
    assert moved["tools"] == [{"tool_id": new_tool, "enabled": True, "parameters": {"city": "Bonn"}}] and moved["knowledge_bases"] == [new_kb]
    selected = there(server, "agents", moved["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected[0]["authTokens"] == {"auth": "moved_secret_2"}
    found = documents(other, new_kb).values()
    assert sorted((d["kind"], d["status"], d["file_name"], d["url"]) for d in found) == [
        ("file", "indexed", "prices.txt", None), ("url", "indexed", None, "https://example.com/hours")]
    hit, = other.post(f"/kb/{new_kb}/query", {"query": "haircut"}).json()["data"]["results"]
    assert hit["content"] == "A haircut costs 30 euros"
    # its own file: the first client's may go
    client.request("PATCH", f"/agents/{agent['id']}", json={"knowledge_bases": []})
    key = server.sql("select s3_key from uploads where client_id = %s and kind = 'kb'", other.id)[0][0]
    assert other.id in key and client.id not in key
    assert server.sql("select bytes from storage_used where client_id = %s", other.id)[0][0] == len(b"A haircut costs 30 euros")


def test_what_cannot_travel_is_told(server, client, setup):
    _, document = setup
    other = server.client()
    changed = copy.deepcopy(document)
    changed["knowledge_bases"][0]["documents"][0]["source"] = "AAAA"
    changed["agents"][0]["voice"] = {"name": "Anna", "provider": "lmnt", "provider_voice_id": "x"}
    made = other.post("/agents/import", changed)
    assert made.status_code == 202, made.text
    assert sorted(w["field"] for w in made.json()["meta"]["warnings"]) == ["agents[0].voice", "knowledge_bases[0].documents[0]", "tools[0]"]
    server.advance(60)
    assert len(documents(other, made.json()["data"]["knowledge_bases"][0]["id"])) == 1


def test_a_source_is_good_for_a_week(server, client, setup):
    _, document = setup
    server.advance(8 * 86400)
    made = server.client().post("/agents/import", document)
    assert "knowledge_bases[0].documents[0]" in [w["field"] for w in made.json()["meta"]["warnings"]]
    server.advance(60)


@pytest.mark.parametrize("change, field", [
    (lambda d: d.update(version=2), "version"), (lambda d: d["agents"][0].update(name=""), "agents[0].name"),
    (lambda d: d["agents"][0].pop("ref"), "agents[0].ref"), (lambda d: d["agents"][0]["tools"][0].update(ref="?"), "agents[0].tools[0].ref"),
    (lambda d: d["agents"][0].update(knowledge_bases=["?"]), "agents[0].knowledge_bases[0]"),
    (lambda d: d["tools"][0].update(method="TRACE"), "tools[0].method"), (lambda d: d["knowledge_bases"][0].update(language="?!"), "knowledge_bases[0].language"),
    (lambda d: d["knowledge_bases"][0]["documents"][1].update(url="ftp://x"), "knowledge_bases[0].documents[1].url"),
    (lambda d: d.update(agents=[]), "agents"),
])
def test_a_bad_document_makes_nothing(server, client, setup, change, field):
    _, document = setup
    other, changed = server.client(), copy.deepcopy(document)
    change(changed)
    answer = other.post("/agents/import", changed)
    error(answer, 422, "validation_error")
    assert list(answer.json()["error"]["details"]) == [field], answer.text
    assert all(other.get(path).json()["data"] == [] for path in ("/agents", "/tools", "/kb"))


def test_strange_documents(server, client):
    for body in ({"version": 1, "agents": [None]}, {"version": 1, "agents": [1], "tools": [[]]}, {"version": 1, "agents": [{}], "knowledge_bases": [2]},
                 {"version": 1, "agents": [{"ref": "a", "tools": [3], "knowledge_bases": {}}]}):
        error(client.post("/agents/import", body), 422, "validation_error")
    error(client.get("/export/agents", params={"agent_id": "x"}), 422, "validation_error")
    assert client.get("/export/agents").json()["data"]["agents"] == []


def test_an_agent_waits_for_what_it_uses(server, client, setup):
    """Tools that the provider takes late hold the agent up, those it refuses fail it with a reason."""
    _, document = setup
    other = server.client()
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/tools", "mode": "status", "status": 503, "times": 3})
    late = other.post("/agents/import", document).json()["data"]["agents"][0]["id"]
    server.advance(60)
    assert other.get(f"/agents/{late}").json()["data"]["status"] == "active"
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/tools", "mode": "status", "status": 400, "times": 1})
    refused = other.post("/agents/import", document).json()["data"]["agents"][0]["id"]
    server.advance(60)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    row = other.get(f"/agents/{refused}").json()["data"]
    assert row["status"] == "failed" and "Get weather!" in row["last_error"]
