"""Voices: clones from real audio of every format, training in durable steps, credits, references, ElevenLabs, previews."""
import functools
import io
import subprocess
import wave

import httpx
import imageio_ffmpeg
import pytest

from conftest import Server
from test_bad_input import GOOD_AGENT, error
from test_tools import there

CODECS = {"wav": [], "mp3": ["-c:a", "libmp3lame", "-q:a", "4"], "ogg": ["-c:a", "libvorbis"], "flac": [], "webm": ["-c:a", "libopus"], "m4a": ["-c:a", "aac"]}


@functools.cache
def audio(extension="wav", seconds=6, rate=16000, hertz=220):
    """What ffmpeg makes of a tone."""
    done = subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-f", "lavfi", "-i", f"sine=frequency={hertz}:duration={seconds}:sample_rate={rate}",
                           "-ac", "1", *CODECS[extension], "-y", f"/tmp/tl-tone-{seconds}-{rate}-{hertz}.{extension}"], check=True)
    assert done.returncode == 0
    return open(f"/tmp/tl-tone-{seconds}-{rate}-{hertz}.{extension}", "rb").read()


def samples(client, *files):
    """Uploaded; as the request names them."""
    asked = client.post("/voices/files/presign", {"files": [{"filename": n, "file_size": len(b)} for n, b in files]})
    assert asked.status_code == 200, asked.text
    for item, (_, content) in zip(asked.json()["data"]["uploads"], files):
        assert httpx.put(item["url"], content=content, headers=item["headers"]).status_code == 200
    return [{"upload_id": item["upload_id"], "duration_seconds": 5} for item in asked.json()["data"]["uploads"]]


def clone(client, name="Anna", files=(("a.wav", None), ("b.wav", None), ("c.wav", None)), **more):
    source = {"type": "native", "samples": samples(client, *((n, b or audio()) for n, b in files))}
    return client.post("/voices", {"name": name, "source": source, **more})


def transactions(server, client):
    return server.sql("select type, delta, reference_type from credit_transactions where client_id = %s and reference_type = 'voice_training' order by version",
                      client.id)


def test_a_clone_is_charged_once_and_can_speak(server, client):
    since = len(server.provider_requests())
    answer = clone(client)
    assert answer.status_code == 201, answer.text
    row = answer.json()["data"]
    assert row["status"] == "active" and row["type"] == "custom" and row["provider"] == "ultravox" and row["ultravox_voice_id"]
    assert row["training_info"]["progress"] == 100 and row["training_info"]["completed_at"] and "warnings" not in answer.json()["meta"]
    assert client.balance()["balance"] == 950 and client.balance()["held"] == 0
    assert transactions(server, client) == [("spent", -50, "voice_training")]
    sent, = [r for r in server.provider_requests("/api/voices", since) if r["method"] == "POST"]
    assert sent["headers"]["content-type"].startswith("multipart/form-data")
    copy = there(server, "voices", row["ultravox_voice_id"]).json()
    assert copy["name"].endswith(" Anna") and len(copy["name"]) <= 40
    assert [e for e in client.events() if e.startswith("voice")] == ["voice.training.started", "voice.training.completed"]
    measured = server.sql("select duration_seconds::float8, format from voice_samples where voice_id = %s order by position", row["id"])
    assert measured == [(6.0, "wav")] * 3, "as the audio says, not as the request"


def test_a_slow_training_is_asked_for_every_minute(server, client):
    answer = clone(client, "slow one")
    assert answer.status_code == 202 and answer.json()["meta"]["job_id"], answer.text
    voice = answer.json()["data"]["id"]
    assert answer.json()["data"]["status"] == "training" and client.balance()["balance"] == 950, "charged when accepted"
    server.advance(100)
    row = client.get(f"/voices/{voice}").json()["data"]
    assert row["status"] == "training"
    agent = client.post("/agents", {**GOOD_AGENT, "voice_id": voice})
    error(agent, 422, "validation_error")
    server.advance(120)
    row = client.get(f"/voices/{voice}").json()["data"]
    assert row["status"] == "active" and row["training_info"]["progress"] == 100
    assert client.events()[-1] == "voice.training.completed"


def test_a_training_without_end_gives_the_credits_back(server, client):
    voice = clone(client, "slow two").json()["data"]["id"]
    gone = server.sql("select ultravox_voice_id from voices where id = %s", voice)[0][0]
    httpx.post(server.sandbox + "/_sandbox/faults", json={"match": f"GET /api/voices/{gone}", "mode": "status", "status": 404, "times": 1000})
    server.advance(4 * 3600 + 300)
    httpx.delete(server.sandbox + "/_sandbox/faults")
    row = client.get(f"/voices/{voice}").json()["data"]
    assert row["status"] == "failed" and "four hours" in row["last_error"]
    assert client.balance()["balance"] == 1000 and [t[0] for t in transactions(server, client)] == ["spent", "refunded"]
    assert client.events()[-1] == "voice.training.failed"


def test_a_refused_training_costs_nothing_and_can_be_tried_again(server, client):
    refused = clone(client, "broken")
    error(refused, 502, "provider_error")
    voice = refused.json()["error"]["details"]["voice_id"]
    assert client.get(f"/voices/{voice}").json()["data"]["status"] == "failed"
    assert client.balance()["balance"] == 1000 and client.balance()["held"] == 0 and transactions(server, client) == []
    client.request("PATCH", f"/voices/{voice}", json={"name": "mended"})
    again = client.post(f"/voices/{voice}/sync")
    assert again.status_code == 200 and again.json()["data"]["status"] == "active", again.text
    assert client.balance()["balance"] == 950


def test_credits_for_three_voices_make_three(server):
    client = server.client(credits=150)
    source = {"samples": samples(client, ("a.wav", audio()), ("b.wav", audio()), ("c.wav", audio()))}
    answers = [client.post("/voices", {"name": f"v{i}", "source": source}) for i in range(5)]
    assert sorted(a.status_code for a in answers) == [201, 201, 201, 402, 402]
    error(answers[-1], 402, "payment_required")
    assert answers[-1].json()["error"]["details"] == {"required": 50, "available": 0}
    assert client.balance()["balance"] == 0 and len(client.get("/voices").json()["data"]) == 3


@pytest.mark.parametrize("extension", list(CODECS))
def test_lengths_are_read_from_the_audio(server, client, extension):
    answer = clone(client, extension, [(f"a.{extension}", audio(extension, 7))])
    voice = answer.json()["data"]["id"] if answer.status_code == 201 else answer.json()["error"]["details"]["voice_id"]
    (seconds, found), = server.sql("select duration_seconds::float8, format from voice_samples where voice_id = %s", voice)
    assert found == extension and abs(seconds - 7) < 0.1
    assert answer.status_code == (201 if extension in ("wav", "mp3") else 502), "the provider takes wav and mp3"
    if answer.status_code == 201:
        assert [w["field"] for w in answer.json()["meta"]["warnings"]] == ["source.samples"], "15 s are advised"


def test_equal_wavs_are_joined_else_the_longest_is_sent(server, client):
    def sent(files):
        since = len(server.provider_requests())
        assert clone(client, files[0][0], files).status_code == 201
        entry, = [r for r in server.provider_requests("/api/voices", since) if r["method"] == "POST"]
        return int(entry["headers"]["content-length"])

    one = len(audio())
    assert 3 * (one - 100) < sent([("a.wav", audio()), ("b.wav", audio(hertz=330)), ("c.wav", audio(hertz=440))]) < 3 * one + 1500
    longest = audio(seconds=9, rate=8000)
    assert len(longest) < sent([("d.wav", audio(seconds=4)), ("e.wav", longest)]) < len(longest) + 1500


def test_samples_that_cannot_be(server, client):
    good, = samples(client, ("a.wav", audio()))
    noise, = samples(client, ("b.wav", b"RIFF, but not really audio" * 10))
    never = client.post("/voices/files/presign", {"files": [{"filename": "c.wav", "file_size": 10}]}).json()["data"]["uploads"][0]["upload_id"]
    theirs, = samples(server.client(), ("a.wav", audio()))
    for items, status, field in (([noise], 422, "source.samples[0]"), ([good, {"upload_id": never, "duration_seconds": 1}], 404, "source.samples[1]"),
                                 ([theirs], 404, "source.samples[0]"), ([{**good, "duration_seconds": 0}], 422, "source.samples[0].duration_seconds"),
                                 ([{"duration_seconds": 1}], 422, "source.samples[0]"), ([], 422, "source.samples"), ([good] * 11, 422, "source.samples"),
                                 ([{"s3_key": "../../etc/passwd", "duration_seconds": 1}], 404, "source.samples[0]")):
        answer = client.post("/voices", {"name": "x", "strategy": "native", "source": {"samples": items}})
        assert answer.status_code == status, answer.text
        details = answer.json()["error"]["details"]
        assert field in details or details.get("field") == field, answer.text
    error(client.post("/voices", {"name": "x"}), 422, "validation_error")
    assert client.get("/voices").json()["data"] == [] and client.balance()["held"] == 0
    key = server.sql("select s3_key from uploads where id = %s", good["upload_id"])[0][0]
    assert client.post("/voices", {"name": "by key", "source": {"samples": [{"s3_key": key, "duration_seconds": 6}]}}).status_code == 201


def test_a_reference_costs_nothing(server, client):
    body = {"name": "Their voice", "language": "de", "provider_overrides": {"provider": "elevenlabs", "voice_id": "abc123", "model": "eleven_turbo_v2_5",
                                                                             "settings": {"stability": 0.4, "use_speaker_boost": True}}}
    answer = client.post("/voices", body)
    assert answer.status_code == 201, answer.text
    row = answer.json()["data"]
    assert row["type"] == "reference" and row["provider"] == "elevenlabs" and row["provider_voice_id"] == "abc123" and client.balance()["balance"] == 1000
    copy = there(server, "voices", row["ultravox_voice_id"]).json()
    assert copy["definition"] == {"elevenLabs": {"voiceId": "abc123", "model": "eleven_turbo_v2_5", "stability": 0.4, "useSpeakerBoost": True}}
    assert client.events()[-1] == "voice.created"
    error(client.post("/voices", {"name": "x", "source": {"type": "external", "provider_voice_id": "broken-1"}, "provider_overrides": {"provider": "lmnt"}}),
          502, "provider_error")
    error(client.post("/voices", {"name": "x", "source": {"provider_voice_id": "1"}, "provider_overrides": {"provider": "azure"}}), 422, "validation_error")
    error(client.post("/voices", {"name": "x", "source": {"provider_voice_id": "1"}}), 422, "validation_error")
    assert [v["id"] for v in client.get("/voices", params={"type": "reference", "status": "active"}).json()["data"]] == [row["id"]]


def test_a_clone_at_elevenlabs_is_imported(server, client):
    body = {"name": "Eleven", "provider_overrides": {"provider": "elevenlabs", "model": "eleven_flash_v2_5"}}
    source = {"samples": samples(client, ("a.mp3", audio("mp3")), ("b.mp3", audio("mp3", 9)))}
    error(client.post("/voices", {**body, "source": source}), 422, "validation_error")
    assert client.request("PATCH", "/auth/providers/tts", json={"provider": "elevenlabs", "api_key": "eleven_secret_1"}).status_code == 200
    answer = client.post("/voices", {**body, "source": source})
    assert answer.status_code == 201, answer.text
    row = answer.json()["data"]
    assert row["type"] == "custom" and row["provider"] == "elevenlabs" and row["provider_voice_id"] and client.balance()["balance"] == 1000
    copy = there(server, "voices", row["ultravox_voice_id"]).json()
    assert copy["definition"] == {"elevenLabs": {"voiceId": row["provider_voice_id"], "model": "eleven_flash_v2_5"}}
    listed = httpx.get(server.sandbox + "/v2/voices", headers={"xi-api-key": "k"}).json()["voices"]
    assert row["provider_voice_id"] in [v["voice_id"] for v in listed]
    assert client.request("DELETE", f"/voices/{row['id']}").status_code == 200
    server.advance(5)
    listed = httpx.get(server.sandbox + "/v2/voices", headers={"xi-api-key": "k"}).json()["voices"]
    assert row["provider_voice_id"] not in [v["voice_id"] for v in listed]
    assert there(server, "voices", row["ultravox_voice_id"]).status_code == 404


def test_an_agent_speaks_with_it(server, client):
    voice = clone(client).json()["data"]
    agent = client.post("/agents", {**GOOD_AGENT, "voice_id": voice["id"]}).json()["data"]
    assert agent["voice_id"] == voice["id"]
    assert there(server, "agents", agent["ultravox_agent_id"]).json()["callTemplate"]["voice"] == voice["ultravox_voice_id"]
    error(client.request("DELETE", f"/voices/{voice['id']}"), 409, "conflict")
    cleared = client.request("PATCH", f"/agents/{agent['id']}", json={"voice_id": ""}).json()["data"]
    assert cleared["voice_id"] is None
    used = server.sql("select bytes from storage_used where client_id = %s", client.id)[0][0]
    assert used >= 3 * len(audio())
    assert client.request("DELETE", f"/voices/{voice['id']}").status_code == 200
    server.advance(5)
    assert there(server, "voices", voice["ultravox_voice_id"]).status_code == 404
    assert server.sql("select bytes from storage_used where client_id = %s", client.id)[0][0] == 0, "its samples are gone too"


def test_a_voice_gone_at_the_provider_is_seen_by_sync(server, client):
    voice = clone(client).json()["data"]
    assert client.post(f"/voices/{voice['id']}/sync").status_code == 200
    httpx.delete(f"{server.sandbox}/api/voices/{voice['ultravox_voice_id']}", headers={"X-API-Key": "any"})
    error(client.post(f"/voices/{voice['id']}/sync"), 502, "provider_error")
    row = client.get(f"/voices/{voice['id']}").json()["data"]
    assert row["status"] == "failed" and row["ultravox_voice_id"] is None
    again = client.post(f"/voices/{voice['id']}/sync").json()["data"]
    assert again["status"] == "active" and again["ultravox_voice_id"] not in (None, voice["ultravox_voice_id"])
    assert client.balance()["balance"] == 900, "a new training is a new one"


def test_refresh_of_a_voice(server, client):
    """In training: its look comes sooner. Active: a job sees whether the provider still has it."""
    slow = clone(client, "slow one").json()["data"]["id"]
    asked = len(server.provider_requests("/api/voices/*"))
    client.get(f"/voices/{slow}", params={"refresh": "true"})
    server.advance(3)
    client.get(f"/voices/{slow}", params={"refresh": "true"})
    server.advance(1)
    assert len(server.provider_requests("/api/voices/*")) > asked, "long before the minute is over"
    voice = clone(client).json()["data"]
    httpx.delete(f"{server.sandbox}/api/voices/{voice['ultravox_voice_id']}", headers={"X-API-Key": "any"})
    client.get(f"/voices/{voice['id']}", params={"refresh": "true"})
    server.advance(1)
    assert client.get(f"/voices/{voice['id']}").json()["data"]["status"] == "failed"
    server.advance(400)


def test_a_preview_is_made_once_a_day(server, client):
    voice = clone(client).json()["data"]
    since = len(server.provider_requests())
    for _ in range(3):
        heard = client.get(f"/voices/{voice['id']}/preview", params={"text": "Hello"}, headers={"Accept": "audio/*"})
        assert heard.status_code == 200 and heard.headers["content-type"] == "audio/wav", heard.text
        with wave.open(io.BytesIO(heard.content)) as w:
            assert w.getnframes() == 4000
    assert len(server.provider_requests("/api/voices/*/preview", since)) == 1
    server.advance(86500)
    assert client.get(f"/voices/{voice['id']}/preview").status_code == 200
    assert len(server.provider_requests("/api/voices/*/preview", since)) == 2
    assert server.http.get(f"/api/v1/voices/{voice['id']}/preview").status_code == 401
    assert server.client().get(f"/voices/{voice['id']}/preview").status_code == 404
    assert client.get(f"/voices/{voice['id']}/preview", headers={"Accept": "video/mp4"}).status_code == 406
    training = clone(client, "slow").json()["data"]["id"]
    error(client.get(f"/voices/{training}/preview"), 422, "validation_error")


def test_words_change_at_the_provider_too(server, client):
    voice = clone(client).json()["data"]
    changed = client.request("PATCH", f"/voices/{voice['id']}", json={"name": "Berta", "language": "de-DE", "description": "warm"})
    assert changed.status_code == 200 and changed.json()["data"]["name"] == "Berta"
    copy = there(server, "voices", voice["ultravox_voice_id"]).json()
    assert copy["name"].endswith("Berta") and copy["primaryLanguage"] == "de-DE" and copy["description"] == "warm"


def test_a_training_whose_job_was_lost_gets_another(server, client):
    voice = clone(client, "slow three").json()["data"]["id"]
    server.sql("delete from jobs where resource_id = %s", voice)
    server.advance(900)
    assert client.get(f"/voices/{voice}").json()["data"]["status"] == "active"
    assert client.balance()["balance"] == 950


def test_strict_installations_refuse_what_others_advise(folder):
    server = Server(folder / "strict", "--workers", "1", "--set", "voice_samples_strict=true")
    try:
        client = server.client()
        refused = clone(client, "short", [("a.wav", audio(seconds=2))])
        error(refused, 422, "validation_error")
        assert "source.samples[0]" in refused.json()["error"]["details"]
    finally:
        assert server.stop() == 0
