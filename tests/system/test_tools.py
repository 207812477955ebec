"""Tools: what is taken, what the provider is told, secrets, trying one, and agents that use them."""
import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from conftest import Server
from test_bad_input import GOOD_AGENT, error

WEATHER = {"name": "Get weather!", "description": "The weather of a city", "endpoint": "https://example.com/v1/{city}/weather", "method": "POST",
           "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "enum": [1, 2, 3]}},
                          "required": ["city"]}}


def there(server, kind, provider_id):
    return httpx.get(f"{server.sandbox}/api/{kind}/{provider_id}", headers={"X-API-Key": "any"})


def tool(client, **more):
    answer = client.post("/tools", {**WEATHER, **more})
    assert answer.status_code == 201, answer.text
    return answer.json()["data"]


@pytest.fixture
def echo():
    """An endpoint that tells what it was asked."""
    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            text = json.dumps({"method": self.command, "path": self.path, "authorization": self.headers.get("Authorization"),
                               "key": self.headers.get("X-Key"), "body": body}).encode()
            self.send_response(418 if "teapot" in self.path else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *arguments):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()


def test_the_provider_is_told_in_its_own_words(server, client):
    row = tool(client, authentication={"type": "api_key", "name": "X-Key", "location": "header", "secret": "the_secret_of_it"}, timeout_seconds=7)
    assert row["status"] == "active" and row["sync_status"] == "synced" and row["ultravox_tool_id"]
    assert row["authentication"] == {"type": "api_key", "name": "X-Key", "location": "header"} and "the_secret_of_it" not in json.dumps(row)
    definition = there(server, "tools", row["ultravox_tool_id"]).json()["definition"]
    assert definition["modelToolName"] == "Get_weather_" and definition["timeout"] == "7s"
    assert definition["http"] == {"baseUrlPattern": WEATHER["endpoint"], "httpMethod": "POST"}
    assert definition["dynamicParameters"] == [
        {"name": "city", "location": "PARAMETER_LOCATION_PATH", "schema": {"type": "string"}, "required": True},
        {"name": "days", "location": "PARAMETER_LOCATION_BODY", "schema": {"type": "integer", "enum": [1, 2, 3]}, "required": False}]
    assert definition["requirements"] == {"httpSecurityOptions": {"options": [{"requirements": {"auth": {"headerApiKey": {"name": "X-Key"}}}}]}}
    sealed, = server.sql("select auth_ciphertext from tools where id = %s", row["id"])[0]
    assert sealed and b"the_secret" not in bytes(sealed)


def test_changes_reach_the_provider(server, client):
    row = tool(client)
    changed = client.request("PATCH", f"/tools/{row['id']}", json={"method": "GET", "description": None, "category": "weather"})
    assert changed.status_code == 200, changed.text
    data = changed.json()["data"]
    assert data["revision"] == 2 and data["description"] is None and data["category"] == "weather" and data["endpoint"] == WEATHER["endpoint"]
    definition = there(server, "tools", row["ultravox_tool_id"]).json()["definition"]
    assert definition["http"]["httpMethod"] == "GET"
    assert [p["location"] for p in definition["dynamicParameters"]] == ["PARAMETER_LOCATION_PATH", "PARAMETER_LOCATION_QUERY"]
    assert [t["id"] for t in client.get("/tools", params={"category": "weather", "status": "active"}).json()["data"]] == [row["id"]]
    assert client.get("/tools", params={"category": "other"}).json()["data"] == []
    assert client.events().count("tool.updated") == 1


@pytest.mark.parametrize("change, field", [
    ({"endpoint": "https://{city}.example.com/"}, "endpoint"),
    ({"endpoint": "https://example.com/{street}"}, "endpoint"), ({"method": "TRACE"}, "method"), ({"timeout_seconds": 41}, "timeout_seconds"),
    ({"parameters": {"type": "array"}}, "parameters.type"), ({"parameters": {"properties": {"city": {"type": "text"}}}}, "parameters.properties.city.type"),
    ({"parameters": {"properties": {"city": 1}}}, "parameters.properties.city"), ({"parameters": {"properties": {"city": {}}, "required": ["town"]}},
                                                                                   "parameters.required[0]"),
    ({"parameters": {"properties": {"city": {"enum": []}}}}, "parameters.properties.city.enum"),
    ({"parameters": {"properties": {"city": {"type": "array", "items": {"type": ["string", "colour"]}}}}}, "parameters.properties.city.items.type"),
    ({"authentication": {"type": "oauth"}}, "authentication.type"), ({"authentication": {"type": "bearer"}}, "authentication.secret"),
    ({"authentication": {"type": "basic", "secret": "no colon"}}, "authentication.secret"),
    ({"authentication": {"type": "bearer", "secret": "a\r\nX-Evil: 1"}}, "authentication.secret"),
    ({"authentication": {"type": "api_key", "secret": "abc", "name": "X Key"}}, "authentication.name"),
    ({"authentication": {"type": "api_key", "secret": "abc", "name": "X", "location": "body"}}, "authentication.location"),
])
def test_what_is_refused(client, change, field):
    answer = client.post("/tools", {**WEATHER, **change})
    error(answer, 422, "validation_error")
    assert list(answer.json()["error"]["details"]) == [field], answer.text
    assert client.get("/tools").json()["data"] == []


def test_a_tool_reaches_public_addresses_only(folder, echo):
    """Without egress_allow_private: refused on write where it shows, and when tried where only DNS or an older row tells."""
    server = Server(folder / "public", "--workers", "1", "--set", "demo=off", "--set", "dev_issuer=true")
    try:
        client = server.client()
        for endpoint in (echo, "http://example.com/", "https://10.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/",
                         "https://169.254.169.254/latest", "https://localhost/", "https://example.com:8080/"):
            answer = client.post("/tools", {**WEATHER, "endpoint": endpoint})
            error(answer, 422, "validation_error")
            assert list(answer.json()["error"]["details"]) == ["endpoint"], answer.text
        row = tool(client, endpoint="https://example.com/{city}")
        server.sql("update tools set endpoint = %s where id = %s", echo.replace("http:", "https:"), row["id"])
        data = client.post(f"/tools/{row['id']}/test", {"parameters": {"city": "Bonn", "days": 1}}).json()["data"]
        assert not data["ok"] and data["response"] is None and data["error"], data
    finally:
        server.stop()


def test_trying_a_tool(server, client, echo):
    row = tool(client, endpoint=echo + "/{city}/weather", authentication={"type": "bearer", "secret": "bearer_secret_1"})
    tried = client.post(f"/tools/{row['id']}/test", {"parameters": {"city": "New York", "days": 2}})
    assert tried.status_code == 200, tried.text
    data = tried.json()["data"]
    assert data["ok"] and data["response"]["status"] == 200 and data["duration_ms"] >= 0 and data["error"] is None
    assert data["request"]["headers"]["Authorization"] == "***" and data["request"]["url"] == f"{echo}/New%20York/weather"
    got = json.loads(data["response"]["body"])
    assert got == {"method": "POST", "path": "/New%20York/weather", "authorization": "Bearer bearer_secret_1", "key": None, "body": '{"days":2}'}
    shown = json.dumps({k: v for k, v in data.items() if k != "response"})
    assert "bearer_secret_1" not in shown
    error(client.post(f"/tools/{row['id']}/test", {"parameters": {"days": 2}}), 422, "validation_error")
    error(client.post(f"/tools/{row['id']}/test", {"parameters": {"city": 1}}), 422, "validation_error")
    error(client.post(f"/tools/{row['id']}/test", {"parameters": {"city": "x", "street": "y"}}), 422, "validation_error")


def test_trying_the_other_ways_in(client, echo):
    query = tool(client, method="GET", endpoint=echo + "/{city}", authentication={"type": "api_key", "name": "key", "location": "query",
                                                                                  "secret": "query_secret_2"})
    data = client.post(f"/tools/{query['id']}/test", {"parameters": {"city": "Bonn", "days": 1}}).json()["data"]
    assert data["request"]["url"] == f"{echo}/Bonn?days=1&key=***" and data["request"]["body"] is None
    assert json.loads(data["response"]["body"])["path"] == "/Bonn?days=1&key=query_secret_2"
    basic = tool(client, endpoint=echo + "/teapot/{city}", authentication={"type": "basic", "secret": "me:my_secret_3"})
    data = client.post(f"/tools/{basic['id']}/test", {"parameters": {"city": "Bonn"}}).json()["data"]
    assert not data["ok"] and data["response"]["status"] == 418
    assert json.loads(data["response"]["body"])["authorization"] == "Basic " + base64.b64encode(b"me:my_secret_3").decode()
    away = tool(client, endpoint="http://127.0.0.1:1/{city}")
    data = client.post(f"/tools/{away['id']}/test", {"parameters": {"city": "Bonn"}}).json()["data"]
    assert not data["ok"] and data["response"] is None and data["error"]


def test_an_agent_carries_its_tools(server, client):
    secret = tool(client, authentication={"type": "basic", "secret": "me:my_secret_4"})
    plain = tool(client, name="plain")
    made = client.post("/agents", {**GOOD_AGENT, "tools": [{"tool_id": secret["id"]}, {"tool_id": plain["id"], "enabled": False},
                                                            ]})
    assert made.status_code == 201, made.text
    agent = made.json()["data"]
    assert agent["tools"] == [{"tool_id": secret["id"], "enabled": True, "parameters": {}}, {"tool_id": plain["id"], "enabled": False, "parameters": {}}]
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    token = base64.b64encode(b"me:my_secret_4").decode()
    assert selected == [{"toolId": secret["ultravox_tool_id"], "authTokens": {"auth": token}}]

    used = client.request("DELETE", f"/tools/{secret['id']}")
    error(used, 409, "conflict")
    assert used.json()["error"]["details"]["agent_id"] == agent["id"]
    # a new secret reaches the agent that carries it
    client.request("PATCH", f"/tools/{secret['id']}", json={"authentication": {"type": "basic", "secret": "me:my_secret_5"}})
    server.advance(5)
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected[0]["authTokens"]["auth"] == base64.b64encode(b"me:my_secret_5").decode()

    changed = client.request("PATCH", f"/agents/{agent['id']}", json={"tools": [{"tool_id": plain["id"], "parameters": {"city": "Bonn"}}]}).json()["data"]
    assert changed["tools"] == [{"tool_id": plain["id"], "enabled": True, "parameters": {"city": "Bonn"}}]
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected == [{"toolId": plain["ultravox_tool_id"], "parameterOverrides": {"city": "Bonn"}}]
    twin = client.post(f"/agents/{agent['id']}/duplicate").json()["data"]
    assert twin["tools"] == changed["tools"]
    gone = client.request("DELETE", f"/tools/{secret['id']}")
    assert gone.status_code == 200 and client.get(f"/tools/{secret['id']}").status_code == 404
    server.advance(5)
    assert there(server, "tools", secret["ultravox_tool_id"]).status_code == 404


def test_links_to_what_is_not_there(server, client):
    mine, theirs = tool(client), tool(server.client())
    for tools, status in (([{"tool_id": theirs["id"]}], 404), ([{"tool_id": mine["id"]}, {"tool_id": mine["id"]}], 422), ([{"tool_id": "x"}], 422),
                          ([mine["id"]], 422), ([{"tool_id": mine["id"], "parameters": []}], 422)):
        answer = client.post("/agents", {**GOOD_AGENT, "tools": tools})
        assert answer.status_code == status, answer.text
    missing = "00000000-0000-7000-8000-000000000000"
    for field, value in (("voice_id", missing), ("knowledge_bases", [missing])):
        answer = client.post("/agents", {**GOOD_AGENT, field: value})
        error(answer, 404, "not_found")
        assert answer.json()["error"]["details"]["field"] == field
    assert client.get("/agents").json()["data"] == []


def test_a_lost_tool_is_made_again_by_sync_and_its_agents_follow(server, client):
    row = tool(client)
    made = client.post("/agents", {**GOOD_AGENT, "tools": [{"tool_id": row["id"]}]})
    assert made.status_code == 201, made.text
    agent = made.json()["data"]
    httpx.delete(f"{server.sandbox}/api/tools/{row['ultravox_tool_id']}", headers={"X-API-Key": "any"})
    error(client.request("PATCH", f"/tools/{row['id']}", json={"name": "x"}), 502, "provider_error")
    mended = client.post(f"/tools/{row['id']}/sync").json()["data"]
    assert mended["sync_status"] == "synced" and mended["ultravox_tool_id"] != row["ultravox_tool_id"]
    server.advance(5)
    selected = there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["selectedTools"]
    assert selected == [{"toolId": mended["ultravox_tool_id"]}]


def test_two_changes_at_once_leave_the_later_one_there(server, client):
    """Pushes of one row go one after the other, so an older revision never overwrites a newer one."""
    row = tool(client)
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "PUT /api/tools/*", "mode": "delay", "delay_ms": 400, "times": 1})
    first = threading.Thread(target=client.request, args=("PATCH", f"/tools/{row['id']}"), kwargs={"json": {"description": "first"}})
    first.start()
    for _ in range(1000):
        if server.sql("select from tools where id = %s and revision = 2", row["id"]):
            break
    second = client.request("PATCH", f"/tools/{row['id']}", json={"description": "second"})
    assert second.status_code in (200, 202)
    first.join()
    server.advance(5)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    assert client.get(f"/tools/{row['id']}").json()["data"]["sync_status"] == "synced"
    assert there(server, "tools", row["ultravox_tool_id"]).json()["definition"]["description"] == "second"
