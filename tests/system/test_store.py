"""The embedded object store, judged by Amazon's own clients: boto3, the aws command line, @aws-sdk/client-s3."""
import hashlib
import hmac
import json
import os
import signal
import socket
import subprocess

import boto3
import botocore.client
import httpx
import pytest

from conftest import ROOT, Server

MIB = 1 << 20


@pytest.fixture(scope="module")
def running(folder):
    server = Server(folder / "store", "--workers", "1", clock=False)
    yield server
    if server.process.poll() is None:
        assert server.stop() == 0


def keys(server):
    """The store's own credentials, derived from the root key."""
    secret = bytes.fromhex((server.data / "master.key").read_text().split()[0])
    derived = hmac.new(secret, b"objects", hashlib.sha256).hexdigest()
    return "TL" + derived[:18], derived[20:60]


def boto(server):
    name, secret = keys(server)
    return boto3.client("s3", endpoint_url=server.url + "/objects", aws_access_key_id=name, aws_secret_access_key=secret,
                        region_name="us-east-1", config=botocore.client.Config(s3={"addressing_style": "path"}, signature_version="s3v4"))


def test_boto3_finds_s3_there(running):
    s3, body = boto(running), os.urandom(300000)
    s3.put_object(Bucket="trunkline", Key="a/b c+ü.bin", Body=body)
    got = s3.get_object(Bucket="trunkline", Key="a/b c+ü.bin")
    assert got["Body"].read() == body and got["ContentLength"] == len(body)
    assert s3.get_object(Bucket="trunkline", Key="a/b c+ü.bin", Range="bytes=10-19")["Body"].read() == body[10:20]
    assert s3.head_object(Bucket="trunkline", Key="a/b c+ü.bin")["ContentLength"] == len(body)
    get = s3.generate_presigned_url("get_object", Params={"Bucket": "trunkline", "Key": "a/b c+ü.bin"}, ExpiresIn=60)
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "trunkline", "Key": "a/b c+ü.bin"}, ExpiresIn=60)
    assert httpx.get(get).content == body and httpx.put(get, content=b"x").status_code == 403
    assert httpx.put(put, content=b"new").status_code == 200 and httpx.get(put).status_code == 403
    assert httpx.get(get).content == b"new"
    assert httpx.get(get.replace("a/b", "a/c")).status_code == 403
    for key in ("../../master.key", "a/../../master.key", "/etc/passwd"):
        with pytest.raises(botocore.client.ClientError):
            s3.get_object(Bucket="trunkline", Key=key)
    with pytest.raises(botocore.client.ClientError, match="NoSuchBucket"):
        s3.put_object(Bucket="other", Key="x", Body=b"x")
    s3.delete_object(Bucket="trunkline", Key="a/b c+ü.bin")
    assert httpx.get(get).status_code == 404
    assert httpx.get(running.url + "/objects/trunkline/a").status_code == 403


def files(server):
    return sorted(str(p.relative_to(server.data / "objects")) for p in (server.data / "objects").rglob("*") if p.is_file())


def test_large_objects_come_in_parts(running):
    s3, body = boto(running), os.urandom(17 * MIB)
    place = {"Bucket": "trunkline", "Key": "big/one & two.bin"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    parts = [{"PartNumber": n + 1, "ETag": s3.upload_part(**place, UploadId=upload, PartNumber=n + 1, Body=body[n * 8 * MIB:(n + 1) * 8 * MIB])["ETag"]}
             for n in range(3)]
    with pytest.raises(botocore.client.ClientError, match="404"):
        s3.head_object(**place)
    done = s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": parts})
    assert done["Key"] == place["Key"] and s3.get_object(**place)["Body"].read() == body
    assert not [f for f in files(running) if ".multipart" in f], "the parts are gone"
    with pytest.raises(botocore.client.ClientError, match="NoSuchUpload"):
        s3.upload_part(**place, UploadId=upload, PartNumber=4, Body=b"x")


def test_parts_are_good_for_their_own_key_and_may_be_given_up(running):
    s3 = boto(running)
    place, other = ({"Bucket": "trunkline", "Key": k} for k in ("p/a", "p/b"))
    upload = s3.create_multipart_upload(**place)["UploadId"]
    etag = s3.upload_part(**place, UploadId=upload, PartNumber=2, Body=b"x" * 10)["ETag"]
    with pytest.raises(botocore.client.ClientError, match="NoSuchUpload"):
        s3.upload_part(**other, UploadId=upload, PartNumber=1, Body=b"x")
    for bad, problem in (([{"PartNumber": 1, "ETag": etag}], "InvalidPart"),
                         ([{"PartNumber": 2, "ETag": etag}, {"PartNumber": 2, "ETag": etag}], "InvalidPartOrder")):
        with pytest.raises(botocore.client.ClientError, match=problem):
            s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload={"Parts": bad})
    s3.abort_multipart_upload(**place, UploadId=upload)
    assert not [f for f in files(running) if ".multipart" in f or f.startswith("trunkline/p")]


def test_the_aws_command_line_copies_both_ways(running, folder):
    name, secret = keys(running)
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
    source, back = folder / "source.bin", folder / "back.bin"
    source.write_bytes(os.urandom(20 * MIB))

    def aws(*arguments):
        done = subprocess.run([str(ROOT / ".venv" / "bin" / "aws"), "--endpoint-url", running.url + "/objects", *map(str, arguments)],
                              capture_output=True, text=True, env=environ)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    aws("s3", "cp", source, "s3://trunkline/cli/large.bin")  # in parts
    aws("s3", "cp", "s3://trunkline/cli/large.bin", back)
    assert back.read_bytes() == source.read_bytes()
    aws("s3api", "get-object", "--bucket", "trunkline", "--key", "cli/large.bin", "--range", "bytes=5-9", back)
    assert back.read_bytes() == source.read_bytes()[5:10]
    assert json.loads(aws("s3api", "head-object", "--bucket", "trunkline", "--key", "cli/large.bin"))["ContentLength"] == 20 * MIB
    aws("s3", "rm", "s3://trunkline/cli/large.bin")


SDK = """
import { S3Client, PutObjectCommand, GetObjectCommand, HeadObjectCommand, DeleteObjectCommand, CreateMultipartUploadCommand,
  UploadPartCommand, CompleteMultipartUploadCommand } from "@aws-sdk/client-s3";
const [endpoint, accessKeyId, secretAccessKey] = process.argv.slice(1);
const s3 = new S3Client({ endpoint, region: "us-east-1", forcePathStyle: true, credentials: { accessKeyId, secretAccessKey } });
const place = { Bucket: "trunkline", Key: "sdk/ünï code.bin" }, body = Buffer.alloc(6 << 20, "trunk");
await s3.send(new PutObjectCommand({ ...place, Body: body, ContentType: "audio/wav" }));
const whole = Buffer.from(await (await s3.send(new GetObjectCommand(place))).Body.transformToByteArray());
const piece = await (await s3.send(new GetObjectCommand({ ...place, Range: "bytes=0-4" }))).Body.transformToString();
const head = await s3.send(new HeadObjectCommand(place));
const { UploadId } = await s3.send(new CreateMultipartUploadCommand(place));
const Parts = [];
for (const PartNumber of [1, 2])
  Parts.push({ PartNumber, ETag: (await s3.send(new UploadPartCommand({ ...place, UploadId, PartNumber, Body: body }))).ETag });
await s3.send(new CompleteMultipartUploadCommand({ ...place, UploadId, MultipartUpload: { Parts } }));
const joined = (await s3.send(new HeadObjectCommand(place))).ContentLength;
await s3.send(new DeleteObjectCommand(place));
const gone = await s3.send(new HeadObjectCommand(place)).then(() => false, (e) => e.$metadata.httpStatusCode === 404);
console.log(JSON.stringify({ same: whole.equals(body), piece, length: head.ContentLength, joined, gone }));
"""


def test_the_javascript_sdk_finds_s3_there(running):
    done = subprocess.run(["node", "--input-type=module", "-e", SDK, running.url + "/objects", *keys(running)], cwd=ROOT / "tests" / "s3",
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"same": True, "piece": "trunk", "length": 6 * MIB, "joined": 12 * MIB, "gone": True}


def test_a_crash_in_mid_upload_leaves_nothing_half(running):
    """The worker dies with half a body received: the old object is whole, no half one is there."""
    s3 = boto(running)
    s3.put_object(Bucket="trunkline", Key="c/kept", Body=b"old")
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "trunkline", "Key": "c/kept"}, ExpiresIn=60)
    with socket.create_connection(tuple(running.listen.split(":"))) as half:
        path = url.removeprefix(running.url)
        half.sendall(f"PUT {path} HTTP/1.1\r\nHost: {running.listen}\r\nContent-Length: 10000000\r\n\r\n".encode() + b"x" * 5000000)
        while not [f for f in files(running) if f.startswith("trunkline/c/kept.part-")]:
            pass
        os.kill(running.workers()[0], signal.SIGKILL)
    for _ in range(200):
        try:
            if httpx.get(running.url + "/ready", timeout=1).status_code == 200:
                break
        except httpx.TransportError:
            pass
    assert boto(running).get_object(Bucket="trunkline", Key="c/kept")["Body"].read() == b"old"


def test_a_long_recording_goes_in_parts_and_is_the_providers_to_the_byte(folder):
    """Our own client: a file larger than a part is sent as a multipart upload, and its digest is kept."""
    server = Server(folder / "parts", "--workers", "1", "--set", "s3_part_bytes=3000000")
    try:
        client = server.client()
        call = client.call("+15555550102").json()["data"]["id"]
        server.advance(1800)
        told = client.get(f"/calls/{call}/recording").json()["data"]
        assert told["size_bytes"] > 9_000_000 and told["duration_seconds"] == 600
        stored = httpx.get(told["recording_url"], timeout=60).content
        digest, = server.sql("select sha256 from call_artifacts where call_id = %s and kind = 'recording'", call)[0]
        assert hashlib.sha256(stored).hexdigest() == digest and len(stored) == told["size_bytes"]
        provider = server.sql("select ultravox_call_id from calls where id = %s", call)[0][0]
        assert httpx.get(f"{server.sandbox}/api/calls/{provider}/recording", headers={"X-API-Key": "k"}, timeout=60).content == stored
        assert not list((server.data / "objects" / ".multipart").glob("*")) and not list((server.data / "tmp").glob("recording-*"))
    finally:
        assert server.stop() == 0


@pytest.mark.parametrize("ranges", [True, False])
def test_a_fetch_that_breaks_off_goes_on_where_it_was(server, client, ranges):
    """Twice the connection breaks half way; a provider that knows no ranges begins anew, and that is noticed."""
    call = client.call("+15555550101").json()["data"]
    path = f"/api/calls/{call['ultravox_call_id']}/recording"  # this call's alone: others of the suite may be fetched meanwhile
    since = len(server.provider_requests())
    planted = httpx.post(server.sandbox + "/_sandbox/faults", json={"match": "GET " + path, "mode": "cut" if ranges else "cut_whole", "times": 2})
    assert planted.status_code == 201
    server.advance(600)
    told = client.get(f"/calls/{call['id']}/recording").json()["data"]
    stored = httpx.get(told["recording_url"], timeout=60).content
    whole = httpx.get(server.sandbox + path, headers={"X-API-Key": "k"}, timeout=60).content
    assert stored == whole
    digest, = server.sql("select sha256 from call_artifacts where call_id = %s and kind = 'recording'", call["id"])[0]
    assert hashlib.sha256(stored).hexdigest() == digest
    asked = [r["headers"].get("range", r["headers"].get("x-range")) for r in server.provider_requests(path, since)]
    half = len(whole) // 2
    assert asked[:3] == [None, f"bytes={half}-", f"bytes={half + (len(whole) - half) // 2 if ranges else half}-"], asked
    assert not list((server.data / "tmp").glob(f"recording-{call['id']}*"))


def test_a_recording_beyond_the_cap_is_not_taken(folder):
    server = Server(folder / "capped", "--workers", "1", "--set", "recording_max_bytes=1000000")
    try:
        client = server.client()
        short, long = (client.call(number).json()["data"]["id"] for number in ("+15555550100", "+15555550102"))
        server.advance(1800)
        assert client.read(short)["recording_available"] and not client.read(long)["recording_available"]
        refused = client.get(f"/calls/{long}/recording")
        assert refused.status_code == 404 and refused.json()["error"]["details"]["reason"] == "none"
        assert not list((server.data / "tmp").glob("recording-*"))
        assert server.sql("select count(*) from jobs where kind = 'call.recording' and status <> 'done'") == [(0,)]
    finally:
        assert server.stop() == 0


def test_parts_that_nobody_completes_are_swept_after_a_day(folder):
    server = Server(folder / "swept", "--workers", "1")
    try:
        s3 = boto(server)
        begun = s3.create_multipart_upload(Bucket="trunkline", Key="uploads/never.bin")["UploadId"]
        s3.upload_part(Bucket="trunkline", Key="uploads/never.bin", UploadId=begun, PartNumber=1, Body=b"x" * 1000)
        place = server.data / "objects" / ".multipart" / begun
        (server.data / "tmp").mkdir(exist_ok=True)
        half = server.data / "tmp" / "recording-that-nobody-fetches-on"
        half.write_bytes(b"x")
        assert place.is_dir()
        server.advance(20 * 3600)
        assert place.is_dir() and half.exists()
        server.advance(6 * 3600)
        assert not place.exists() and not half.exists()
    finally:
        assert server.stop() == 0
