"""The story of the README: an agent, a call, its end, and one signed webhook."""
import json
import math
import subprocess
import wave
import io

import httpx
from standardwebhooks.webhooks import Webhook

from conftest import BIN, clean_environment


def test_a_call_from_beginning_to_end(server, client, receiver):
    hook = client.post("/webhooks", {"url": receiver.url, "event_types": ["call.completed"]}).json()["data"]
    answer = client.call("+1 (555) 555-0100", external_ref="order 7", context={"name": "Anna"})
    assert answer.status_code == 201, answer.text
    call = answer.json()["data"]
    assert answer.headers["location"] == f"/api/v1/calls/{call['id']}"
    assert (call["status"], call["phone_number"], call["external_ref"]) == ("dialing", "+15555550100", "order 7")
    assert client.balance()["held"] == call["credits_held"] == 60

    server.advance(120)
    call = client.read(call["id"])
    assert (call["status"], call["outcome"], call["duration_seconds"], call["billed_seconds"]) == ("completed", "completed", 30, 30)
    assert (call["credits_charged"], call["cost_usd"], call["recording_available"]) == (1, 0.025, True)
    assert (client.balance()["balance"], client.balance()["held"]) == (999, 0)

    transcript = client.get(f"/calls/{call['id']}/transcript").json()["data"]["transcript"]
    assert [t["speaker"] for t in transcript] == ["agent", "customer"] * 3
    recording = client.get(f"/calls/{call['id']}/recording").json()["data"]
    audio = wave.open(io.BytesIO(httpx.get(recording["recording_url"]).content))
    assert math.isclose(audio.getnframes() / audio.getframerate(), recording["duration_seconds"]) and recording["duration_seconds"] == 30

    types = client.events()
    assert types[:2] == ["client.created", "agent.created"]
    assert set(types[2:]) == {"call.created", "call.ringing", "call.started", "call.completed", "call.billed",
                              "call.transcript.ready", "call.recording.ready"}
    assert types.index("call.created") < types.index("call.ringing") < types.index("call.started") < types.index("call.completed")

    (headers, body), = receiver.all()
    # the outside judge: the reference library of Standard Webhooks, at the time of sending
    stamped = Webhook(hook["secret"])
    stamped._Webhook__verify_timestamp = lambda header: __import__("datetime").datetime.fromtimestamp(
        int(header["webhook-timestamp"]) if isinstance(header, dict) else int(header), __import__("datetime").timezone.utc)
    event = stamped.verify(body, headers)
    assert (event["type"], event["data"]["call_id"]) == ("call.completed", call["id"])
    assert event["id"] == headers["webhook-id"] and event["client_id"] == client.id


def test_the_story_in_real_time_with_listen(server, client, tmp_path):
    """`trunkline listen` verifies what the server signs; refused when the secret is another."""
    secret = client.post("/webhooks", {"url": "http://127.0.0.1:1/x", "event_types": ["*"]}).json()["data"]["secret"]
    listener = subprocess.Popen([BIN, "listen", "--port", "0", "--secret", secret], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=clean_environment())
    url = listener.stderr.readline().split()[-1]
    body = json.dumps({"type": "a.b"})
    when = __import__("datetime").datetime.now(__import__("datetime").timezone.utc)
    good = Webhook(secret).sign("msg_1", when, body)
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(int(when.timestamp())), "webhook-signature": good}
    assert httpx.post(url, content=body, headers=headers).status_code == 204
    assert listener.stdout.readline().strip() == body
    assert httpx.post(url, content=body + " ", headers=headers).status_code == 401
    listener.terminate()
    assert listener.wait(10) == 0


def test_commands_teach(server):
    for command in ("serve", "token", "agency", "client", "listen", "migrate", "sandbox", "openapi", "check", "version"):
        shown = subprocess.run([BIN, command, "--help"], capture_output=True, text=True, env=clean_environment())
        assert shown.returncode == 0 and f"usage: trunkline {command}" in shown.stdout
    bad = subprocess.run([BIN, "serve", "--set", "colour=red"], capture_output=True, text=True, env=clean_environment())
    assert bad.returncode != 0 and "unknown setting 'colour'" in bad.stderr
    typo = subprocess.run([BIN, "version"], capture_output=True, text=True, env={**clean_environment(), "TRUNKLINE_LISTN": "x"})
    assert typo.returncode != 0 and "TRUNKLINE_LISTN" in typo.stderr


def test_an_ambiguous_name_lists_the_ids(server, client):
    ids = [json.loads(server.command("client", "create", "--name", "Twin", "--email", f"{n}@twins.example", "--agency", client.agency))["id"]
           for n in (1, 2)]
    refused = server.command("token", "--role", "client_user", "--agency", client.agency, "--client", "Twin", check=False)
    assert refused.returncode == 1 and all(i in refused.stderr for i in ids)


def test_statements_and_shapes_agree(server):
    assert "0 problems" in server.command("check")
