"""Uploads: signed places of our own making, filled with what was declared and nothing else, within the quota."""
import json

import httpx
import pytest

from test_bad_input import error

HOUR = 3600


def presign(client, *files, **more):
    return client.post("/voices/files/presign", {"files": [{"filename": n, "file_size": s} for n, s in files]}, **more)


def used(server, client):
    rows = server.sql("select bytes from storage_used where client_id = %s", client.id)
    return rows[0][0] if rows else 0


def test_a_signed_place_takes_exactly_what_was_declared(server, client):
    answer = presign(client, ("Anna sample.WAV", 1000), ("b.mp3", 5))
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["data"]["uploads"]
    assert first["s3_key"] == f"uploads/client_{client.id}/voices/{first['upload_id']}.wav" and first["doc_id"] == first["upload_id"]
    assert first["method"] == "PUT" and first["max_bytes"] == 1000 and second["s3_key"].endswith(".mp3")
    assert httpx.put(first["url"], content=b"x" * 1000, headers=first["headers"]).status_code == 200
    assert (server.data / "objects" / "trunkline" / first["s3_key"]).read_bytes() == b"x" * 1000
    for body in (b"x" * 6, b"x" * 4, b""):
        assert httpx.put(second["url"], content=body).status_code == 403, "the length is part of the signature"
    assert httpx.put(second["url"], content=iter([b"x" * 5])).status_code in (403, 411), "so is that there is one"
    for method in ("GET", "HEAD", "DELETE"):
        assert httpx.request(method, first["url"]).status_code == 403, "a PUT URL neither reads nor deletes"
    other = first["url"].replace(first["upload_id"], second["upload_id"])
    assert httpx.put(other, content=b"x" * 1000).status_code == 403, "nor is it good for another key"
    server.advance(HOUR + 1)
    assert httpx.put(first["url"], content=b"y" * 1000).status_code == 403, "nor after its hour"


@pytest.mark.parametrize("files, field", [
    ([], "files"), ([{"filename": "a.wav", "file_size": 1}] * 11, "files"), ([{"filename": "a.exe", "file_size": 1}], "files[0].filename"),
    ([{"filename": "wav", "file_size": 1}], "files[0].filename"), ([{"filename": "a.wav", "file_size": 0}], "files[0].file_size"),
    ([{"filename": "a.wav", "file_size": (10 << 20) + 1}], "files[0].file_size"), ([{"filename": "a.wav"}], "files[0].file_size"),
    (["a.wav"], "files[0]"), ([{"filename": "a.wav", "file_size": 1, "content_type": 7}], "files[0].content_type")])
def test_bad_files_name_the_field(client, files, field):
    assert field in error(client.post("/voices/files/presign", {"files": files}), 422, "validation_error")["details"]


def test_the_quota_is_exact(server):
    client = server.client(limits=json.dumps({"storage_bytes": 1000, "concurrent_calls": 10}))
    assert presign(client, ("a.wav", 600), ("b.wav", 399)).status_code == 200 and used(server, client) == 999
    refused = presign(client, ("c.wav", 2))
    details = error(refused, 429, "rate_limit_exceeded")["details"]
    assert details["policy"] == "storage" and details["limit"] == 1000 and refused.headers["retry-after"]
    assert presign(client, ("c.wav", 1)).status_code == 200 and used(server, client) == 1000
    assert presign(client, ("d.wav", 1)).status_code == 429 and used(server, client) == 1000, "a refused one takes no room"
    call = client.call().json()["data"]["id"]
    server.advance(200)
    recording = client.get(f"/calls/{call}/recording").json()["data"]["size_bytes"]
    assert used(server, client) >= 1000 + recording, "recordings and transcripts count"


def test_two_at_once_do_not_overbook(server):
    import threading
    client = server.client(limits=json.dumps({"storage_bytes": 5000, "requests_per_second": 1000}))
    client.get("/auth/me")
    seen = []
    crowd = [threading.Thread(target=lambda: seen.append(presign(client, ("a.wav", 1000)).status_code)) for _ in range(12)]
    [t.start() for t in crowd]
    [t.join() for t in crowd]
    assert sorted(seen) == [200] * 5 + [429] * 7 and used(server, client) == 5000


def test_what_nobody_uses_goes_after_a_day(server, client):
    filled, empty = presign(client, ("a.wav", 10), ("b.wav", 20)).json()["data"]["uploads"]
    httpx.put(filled["url"], content=b"x" * 10)
    place = server.data / "objects" / "trunkline" / filled["s3_key"]
    server.advance(23 * HOUR)
    assert place.exists() and used(server, client) == 30
    server.advance(3 * HOUR)
    assert not place.exists() and used(server, client) == 0
    assert {s for s, in server.sql("select status from uploads where client_id = %s", client.id)} == {"expired"}


def test_the_same_key_gives_the_same_places(client):
    one, two = (presign(client, ("a.wav", 10), headers={"Idempotency-Key": "places"}) for _ in range(2))
    assert one.content == two.content
    assert len({presign(client, ("a.wav", 10)).json()["data"]["uploads"][0]["s3_key"] for _ in range(3)}) == 3, "none overwrites another"
