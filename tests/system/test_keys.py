"""Secrets at rest: rotation beside a running server, and a key service instead of the key file."""
import os
import re
import subprocess

import boto3
import httpx
import pytest

from conftest import ROOT, Server, free_port
from test_access import SECRET


@pytest.fixture
def own(folder):
    running = Server(folder / "rotating", "--workers", "2", "--set", "egress_allow_private=true")
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0
    subprocess.run(["rm", "-rf", str(running.data)])


def versions(server):
    return {row[0] for row in server.sql("select get_byte(sealed, 1) from api_keys where sealed is not null union "
                                         "select get_byte(secret_sealed, 1) from webhook_endpoints union "
                                         "select get_byte(sealed, 1) from vault where name <> 'master_key_check' union "
                                         "select get_byte(body_sealed, 1) from idempotency_keys")}


def everything_opens(server, client, receiver, first):
    again = client.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk."}, headers={"Idempotency-Key": "kept"})
    assert again.content == first.content and again.headers["idempotency-replayed"] == "true"
    receiver.all()
    call = client.call().json()["data"]["id"]  # opens the credential, the webhook secret, the provider's secret
    server.advance(120)
    assert client.read(call)["status"] == "completed" and receiver.all()


def test_rotation_seals_everything_anew_without_downtime(own, receiver):
    client = own.client()
    client.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET})
    client.post("/webhooks", {"url": receiver.url, "event_types": ["*"]})
    first = client.post("/agents", {"name": "Desk", "system_prompt": "You are the front desk."}, headers={"Idempotency-Key": "kept"})
    everything_opens(own, client, receiver, first)
    assert versions(own) == {1}
    shown = own.command("keys", "rotate")
    assert re.search(r"api_keys\s+1 sealed anew", shown) and versions(own) == {2}
    everything_opens(own, client, receiver, first)
    assert versions(own) == {2}, "the running server seals by the new key"
    own.command("keys", "rotate", "--retire")
    lines = (own.data / "master.key").read_text().split()
    assert len(lines) == 3 and lines[1] == "-" and os.stat(own.data / "master.key").st_mode & 0o777 == 0o600
    everything_opens(own, client, receiver, first)
    assert own.stop() == 0
    own.start()
    client._agent = None  # the sandbox began anew, too
    everything_opens(own, client, receiver, first)


@pytest.fixture(scope="module")
def kms():
    port = free_port()
    process = subprocess.Popen([str(ROOT / ".venv" / "bin" / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            httpx.get(url, timeout=0.5)
            break
        except httpx.TransportError:
            process.poll()
    yield url
    process.kill()


def test_a_key_service_wraps_the_data_keys(folder, kms, receiver):
    client = boto3.client("kms", endpoint_url=kms, region_name="eu-central-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret")
    key = client.create_key()["KeyMetadata"]["KeyId"]
    running = Server(folder / "kms", "--workers", "1", "--set", f"kms_key_id={key}", "--set", f"kms_endpoint={kms}",
                     "--set", "kms_region=eu-central-1", "--set", "kms_access_key_id=AKIDEXAMPLE", "--set", "kms_secret_access_key=secret")
    try:
        tenant = running.client()
        made = tenant.post("/api-keys", {"service": "ultravox", "key_name": "mine", "api_key": SECRET})
        assert made.status_code == 201, made.text
        sealed = bytes(running.sql("select sealed from api_keys where service = 'ultravox'")[0][0])
        size = sealed[2] << 8 | sealed[3]
        assert sealed[0] == 2 and sealed[1] == 0
        opened = client.decrypt(CiphertextBlob=sealed[4:4 + size],
                                EncryptionContext={"trunkline": f"credential:{tenant.id}:{made.json()['data']['id']}"})
        assert len(opened["Plaintext"]) == 32
        assert tenant.agent()
        # another row's context does not open it
        other = tenant.post("/api-keys", {"service": "stripe", "key_name": "x", "api_key": "sk_test_0123456789"}).json()["data"]["id"]
        running.sql("update api_keys set sealed = (select sealed from api_keys where service = 'ultravox'), service = 'elevenlabs' "
                    "where id = %s", other)
        with pytest.raises(client.exceptions.InvalidCiphertextException):
            client.decrypt(CiphertextBlob=sealed[4:4 + size], EncryptionContext={"trunkline": f"credential:{tenant.id}:{other}"})
    finally:
        assert running.stop() == 0
