"""Agents in full: tuning and what the provider makes of it, sync and repair, copies, bulk deletion, templates."""
import json

import httpx
import pytest

from test_bad_input import GOOD_AGENT, error


def copy_of(server, agent):
    """The provider's copy, as its own API shows it."""
    provider_id = server.sql("select ultravox_agent_id from agents where id = %s", agent)[0][0]
    return httpx.get(f"{server.sandbox}/api/agents/{provider_id}", headers={"X-API-Key": "any"})


def test_tuning_is_kept_in_snake_case_and_sent_in_the_providers_words(server, client):
    body = {**GOOD_AGENT, "agentLanguage": "de-DE", "temperature": 0.4, "turnEndpointDelay": 0.384, "frame_activation_threshold": 0.3,
            "settings": {"maxConversationDuration": 600, "time_exceeded_message": "We must stop here.", "firstMessage": "Hello!",
                         "first_message_delay": 1.5, "disable_interruptions": True, "stability": 0.7, "colour": "red"}, "shoe_size": 43}
    answer = client.post("/agents", body)
    assert answer.status_code == 201, answer.text
    row = answer.json()["data"]
    assert row["settings"] == {"agent_language": "de-DE", "temperature": 0.4, "turn_endpoint_delay": 0.384, "frame_activation_threshold": 0.3,
                               "max_conversation_duration": 600, "time_exceeded_message": "We must stop here.", "first_message": "Hello!",
                               "first_message_delay": 1.5, "disable_interruptions": True, "stability": 0.7}
    assert {w["field"] for w in answer.json()["meta"]["warnings"]} == {"settings.colour", "shoe_size"}
    template = copy_of(server, row["id"]).json()["callTemplate"]
    assert template["languageHint"] == "de-DE" and template["temperature"] == 0.4 and template["maxDuration"] == "600s"
    assert template["timeExceededMessage"] == "We must stop here."
    assert template["vadSettings"] == {"turnEndpointDelay": "0.384s", "frameActivationThreshold": 0.3}
    assert template["firstSpeakerSettings"] == {"agent": {"text": "Hello!", "delay": "1.5s", "uninterruptible": True}}


def test_silence_text_and_templates_are_tuned_too(server, client):
    schema = {"type": "object", "properties": {"first_name": {"type": "string"}}}
    answer = client.post("/agents", {**GOOD_AGENT, "settings": {
        "inactivityMessages": [{"message": "Are you there?", "after_seconds": 10},
                               {"message": "Goodbye.", "after_seconds": 7.5, "end_behavior": "hang_up_soft"}],
        "initial_output_medium": "text", "context_schema": schema, "first_message_prompt": "Greet by name."}})
    assert answer.status_code == 201 and "warnings" not in answer.json()["meta"], answer.text
    template = copy_of(server, answer.json()["data"]["id"]).json()["callTemplate"]
    assert template["inactivityMessages"] == [{"duration": "10s", "message": "Are you there?"},
                                              {"duration": "7.5s", "message": "Goodbye.", "endBehavior": "END_BEHAVIOR_HANG_UP_SOFT"}]
    assert template["initialOutputMedium"] == "MESSAGE_MEDIUM_TEXT" and template["contextSchema"] == schema
    assert template["firstSpeakerSettings"] == {"agent": {"prompt": "Greet by name."}}
    stream = {"websocket_url": "wss://listen.example.com/calls", "sample_rate": 8000, "channel_mode": "mixed"}
    agent = answer.json()["data"]["id"]
    client.request("PATCH", f"/agents/{agent}", json={"settings": {"data_connection": stream, "first_message": "Hello.", "fallback_response": "Still there?"}})
    template = copy_of(server, agent).json()["callTemplate"]
    assert template["dataConnection"] == {"websocketUrl": stream["websocket_url"], "audioConfig": {"sampleRate": 8000, "channelMode": "CHANNEL_MODE_MIXED"}}
    assert template["firstSpeakerSettings"] == {"agent": {"text": "Hello."}}, "words of ours go before words made up"
    for bad in ({"data_connection": {"websocket_url": "ws://listen.example.com"}}, {"data_connection": {**stream, "channel_mode": "stereo"}},
                {"inactivity_messages": [{"message": "no time"}]}, {"inactivity_messages": "none"}, {"initial_output_medium": "smell"},
                {"context_schema": []}, {"inactivity_messages": [{"message": "m", "after_seconds": 9, "end_behavior": "stay"}]},
                {"inactivity_messages": [{"message": "m", "after_seconds": 9}] * 11}, {"stability": "high"}):
        answer = client.post("/agents", {**GOOD_AGENT, "settings": bad})
        assert [w["field"] for w in answer.json()["meta"]["warnings"]] == [f"settings.{k}" for k in bad], answer.text
        assert not {"inactivityMessages", "initialOutputMedium", "contextSchema"} & set(copy_of(server, answer.json()["data"]["id"]).json()["callTemplate"])


@pytest.mark.parametrize("provider, sent", [("elevenlabs", {"elevenLabs": {"speed": 1.1, "stability": 0.4, "similarityBoost": 0.9, "useSpeakerBoost": True}}),
                                            ("lmnt", {"lmnt": {"speed": 1.1, "conversational": False}}), ("google_cloud", {"google": {"speakingRate": 1.1}}),
                                            ("inworld", {"inworld": {"speakingRate": 1.1, "temperature": 0.8}}),
                                            ("respeecher", {"respeecher": {"temperature": 0.8}}),
                                            ("cartesia", {"cartesia": {"generationConfig": {"speed": 1.1, "volume": 1.5, "emotion": "calm"}}})])
def test_how_a_voice_sounds_is_said_in_the_words_of_who_speaks_it(server, client, provider, sent):
    voice = client.post("/voices", {"name": f"Of {provider}", "provider_overrides": {"provider": provider, "voice_id": "v"}}).json()["data"]
    agent = client.post("/agents", {**GOOD_AGENT, "voice_id": voice["id"], "speed": 1.1, "stability": 0.4, "similarity": 0.9, "use_speaker_boost": True,
                                     "voice_temperature": 0.8, "voice_volume": 1.5, "voice_emotion": "calm", "conversational": False})
    assert agent.status_code == 201, agent.text
    assert copy_of(server, agent.json()["data"]["id"]).json()["callTemplate"].get("voiceOverrides") == sent


def test_what_the_provider_cannot_take_is_kept_warned_of_and_not_sent(server, client):
    answer = client.post("/agents", {**GOOD_AGENT, "temperature": 3, "join_timeout": "soon"})
    assert answer.status_code == 201 and answer.json()["data"]["settings"] == {"temperature": 3, "join_timeout": "soon"}
    assert {w["field"] for w in answer.json()["meta"]["warnings"]} == {"temperature", "join_timeout"}
    template = copy_of(server, answer.json()["data"]["id"]).json()["callTemplate"]
    assert "temperature" not in template and "joinTimeout" not in template


def test_a_patch_merges_and_null_takes_away(server, client):
    agent = client.post("/agents", {**GOOD_AGENT, "temperature": 0.4, "first_speaker": "user", "fallback_response": "Still there?"}).json()["data"]
    assert copy_of(server, agent["id"]).json()["callTemplate"]["firstSpeakerSettings"] == {"user": {"fallback": {"text": "Still there?"}}}
    changed = client.request("PATCH", f"/agents/{agent['id']}", json={"temperature": None, "settings": {"speed": 1.1}}).json()["data"]
    assert changed["settings"] == {"first_speaker": "user", "fallback_response": "Still there?", "speed": 1.1} and changed["revision"] == 2


def test_sync_repairs_a_lost_copy_and_a_list_does_not(server, client):
    agent = client.agent()
    lost = copy_of(server, agent).json()["agentId"]
    httpx.delete(f"{server.sandbox}/api/agents/{lost}", headers={"X-API-Key": "any"})
    failed = client.request("PATCH", f"/agents/{agent}", json={"name": "New name"})
    error(failed, 502, "provider_error")
    row = client.get(f"/agents/{agent}").json()["data"]
    assert row["sync_status"] == "failed" and row["status"] == "active" and row["last_error"]
    client.get("/agents")
    server.advance(600)
    assert copy_of(server, agent).status_code == 404, "nothing makes it again unasked"
    mended = client.post(f"/agents/{agent}/sync")
    assert mended.status_code == 200 and mended.json()["data"]["sync_status"] == "synced", mended.text
    assert mended.json()["data"]["ultravox_agent_id"] != lost and copy_of(server, agent).json()["name"].endswith("New name")
    assert client.call(agent=agent).status_code == 201
    again = client.post(f"/agents/{agent}/sync").json()["data"]
    assert again["ultravox_agent_id"] == mended.json()["data"]["ultravox_agent_id"], "a healthy copy is only pushed"
    server.advance(120)


def test_refresh_sees_that_a_copy_is_lost(server, client):
    healthy, agent = client.agent(), client.agent()
    httpx.delete(f"{server.sandbox}/api/agents/{copy_of(server, agent).json()['agentId']}", headers={"X-API-Key": "any"})
    assert [r["sync_status"] for r in client.get("/agents", params={"refresh": "true"}).json()["data"]] == ["synced", "synced"]
    server.advance(1)
    rows = {r["id"]: r for r in client.get("/agents").json()["data"]}
    assert rows[healthy]["sync_status"] == "synced" and rows[agent]["sync_status"] == "failed" and rows[agent]["last_error"]


def test_a_repair_whose_answer_is_lost_makes_one_copy(server, client):
    agent = client.agent()
    httpx.delete(f"{server.sandbox}/api/agents/{copy_of(server, agent).json()['agentId']}", headers={"X-API-Key": "any"})
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "POST /api/agents", "mode": "drop_after", "times": 1})
    client.post(f"/agents/{agent}/sync")
    server.advance(60)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    assert client.get(f"/agents/{agent}").json()["data"]["sync_status"] == "synced"
    there = httpx.get(f"{server.sandbox}/api/agents", params={"search": agent}, headers={"X-API-Key": "any"}).json()["results"]
    assert len(there) == 1


def test_a_duplicate_is_an_agent_of_its_own(server, client):
    agent = client.post("/agents", {**GOOD_AGENT, "temperature": 0.4}).json()["data"]
    twin = client.post(f"/agents/{agent['id']}/duplicate")
    assert twin.status_code == 201, twin.text
    data = twin.json()["data"]
    assert data["name"] == "Desk (copy)" and data["settings"] == {"temperature": 0.4} and data["id"] != agent["id"]
    assert data["ultravox_agent_id"] != agent["ultravox_agent_id"] and data["revision"] == 1
    named = client.post(f"/agents/{agent['id']}/duplicate", {"name": "Night desk"}).json()["data"]
    assert named["name"] == "Night desk"
    error(server.client().post(f"/agents/{agent['id']}/duplicate"), 404, "not_found")


def test_bulk_deletion_tells_of_each(server, client):
    agents = [client.agent() for _ in range(3)]
    foreign, missing = server.client().agent(), "00000000-0000-7000-8000-000000000000"
    done = client.post("/agents/bulk", {"ids": [*agents, foreign, missing, agents[0]]}).json()["data"]
    assert done["deleted_count"] == 3 and set(done["deleted_ids"]) == set(agents) and done["failed_count"] == 3
    assert set(done["failed_ids"]) == {foreign, missing, agents[0]} and {e["code"] for e in done["errors"]} == {"not_found"}
    assert client.get("/agents").json()["data"] == [] and client.events().count("agent.deleted") == 3
    server.advance(5)
    assert all(copy_of(server, a).status_code == 404 for a in agents) and copy_of(server, foreign).status_code == 200
    error(client.post("/agents/bulk", {"ids": []}), 422, "validation_error")
    error(client.post("/agents/bulk", {"ids": ["x"]}), 422, "validation_error")


def test_templates_are_good_agents(client):
    templates = client.get("/agents/templates").json()["data"]["templates"]
    assert len(templates) >= 5 and len({t["id"] for t in templates}) == len(templates)
    for t in templates:
        made = client.post("/agents", {k: t[k] for k in ("name", "description", "system_prompt", "settings")})
        assert made.status_code == 201 and "warnings" not in made.json()["meta"], made.text


def test_a_test_call_is_held_and_charged_like_a_call(server, client):
    agent = client.post("/agents", GOOD_AGENT).json()["data"]["id"]
    user = client.make_token("client_user")
    made = client.request("POST", f"/agents/{agent}/test-call", token=user, json={"context": {"name": "Anna"}})
    assert made.status_code == 201, made.text
    data = made.json()["data"]
    assert data["join_url"].startswith("wss://") and data["agent_id"] == agent and client.balance()["held"] == 60
    sent = [r for r in server.provider_requests("/api/agents/*/calls") if data["call_id"] in r["body"]]
    body = json.loads(sent[0]["body"])
    assert body["medium"] == {"webRtc": {}} and body["templateContext"] == {"name": "Anna"}
    server.advance(120)
    call = client.read(data["call_id"])
    assert call["status"] == "completed" and call["phone_number"] is None and call["direction"] == "inbound" and call["credits_charged"] == 1
    assert client.balance()["held"] == 0
    error(client.post("/agents/00000000-0000-7000-8000-000000000000/test-call"), 404, "not_found")
    error(server.client(credits=0).post(f"/agents/{agent}/test-call"), 404, "not_found")


def test_an_inbound_call_is_bridged(server, client):
    made = client.post(
        "/calls", {"agent_id": client.agent(), "phone_number": "+15551234567", "direction": "inbound"})
    assert made.status_code == 201, made.text
    assert made.json()["data"]["join_url"].startswith("wss://") and made.json()["data"]["direction"] == "inbound"
    sent = [r for r in server.provider_requests("/api/agents/*/calls") if made.json()["data"]["id"] in r["body"]]
    assert json.loads(sent[0]["body"])["medium"] == {"telnyx": {}}
    server.advance(120)
    assert client.read(made.json()["data"]["id"])["status"] == "completed"
