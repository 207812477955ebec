"""At the edge: origins, headers, proxies, TLS, and clients that trickle."""
import re
import select
import socket
import ssl
import subprocess

import httpx
import pytest

from conftest import Server, Tenant, clean_environment

PAGE = "https://app.example.com"


@pytest.fixture(scope="module")
def edge(folder):
    running = Server(folder / "edge", "--workers", "2", "--set", f"cors_origins={PAGE},https://two.example.com",
                     "--set", "trusted_proxies=127.0.0.0/8,10.0.0.0/8", "--set", "head_timeout_ms=1500", "--set", "body_timeout_ms=1500")
    yield running
    assert running.stop() == 0


def test_only_listed_origins_may_call(edge):
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    answer = edge.http.options("/api/v1/calls", headers={"Origin": PAGE, **asked})
    assert answer.status_code == 204 and answer.headers.get_list("access-control-allow-origin") == [PAGE]
    assert "PATCH" in answer.headers["access-control-allow-methods"] and answer.headers["access-control-max-age"] == "600"
    assert {"authorization", "x-client-id", "idempotency-key"} <= set(answer.headers["access-control-allow-headers"].split(", "))
    assert "access-control-allow-credentials" not in answer.headers and "Origin" in answer.headers["vary"]
    for origin in ("https://evil.example.com", "null", PAGE + ".evil.com", PAGE.upper()):
        answer = edge.http.options("/api/v1/calls", headers={"Origin": origin, **asked})
        assert "access-control-allow-origin" not in answer.headers
    tenant = Tenant(edge)
    for method, path in (("GET", "/auth/me"), ("GET", "/nowhere"), ("POST", "/agents")):
        answer = tenant.request(method, path, headers={"Origin": PAGE})
        assert answer.headers.get_list("access-control-allow-origin") == [PAGE] and "X-Request-Id" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in tenant.get("/auth/me", headers={"Origin": "https://evil.example.com"}).headers
    assert edge.http.options("/api/v1/calls").status_code == 405, "no preflight, no such method"


def test_no_origin_is_listed_by_default(server):
    answer = server.http.options("/api/v1/calls", headers={"Origin": PAGE, "Access-Control-Request-Method": "GET"})
    assert "access-control-allow-origin" not in answer.headers


def test_every_answer_carries_the_sane_headers(edge, server):
    for path in ("/health", "/api/v1/auth/me", "/docs", "/nowhere"):
        headers = server.http.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer" and "server" not in headers
        assert "strict-transport-security" not in headers, "not without TLS"


def test_forwarded_addresses_only_from_trusted_proxies(edge, server):
    def address(on, forwarded):
        tenant = Tenant(on)
        tenant.post("/webhooks", {"url": "https://example.com/x", "event_types": ["*"]}, headers={"X-Forwarded-For": forwarded})
        return tenant.get("/audit?table_name=webhook_endpoints").json()["data"][0]["ip_address"]

    assert address(edge, "203.0.113.7") == "203.0.113.7"
    assert address(edge, "198.51.100.1, 203.0.113.7, 10.1.2.3") == "203.0.113.7", "what a client invents stands on the left"
    assert address(edge, "2001:db8::1") == "2001:db8::1"
    assert address(edge, "nonsense") == "127.0.0.1"
    assert address(server, "203.0.113.7") == "127.0.0.1", "nobody is trusted by default"


def test_the_address_bucket_follows_the_client_behind_the_proxy(edge):
    def knock(address):
        return edge.http.get("/api/v1/auth/me", headers={"X-Forwarded-For": address, "Authorization": "Bearer x"}).status_code

    assert {knock("203.0.113.50") for _ in range(90)} == {401, 429}
    assert knock("203.0.113.51") == 401


def raw(server):
    return socket.create_connection(tuple(server.listen.split(":")))


def test_a_thousand_trickling_clients_harm_nobody_and_are_cut(edge):
    """Heads that never end: others are served meanwhile, and each trickler is cut after its time, however busy it keeps the line."""
    tenant = Tenant(edge)
    slow = [raw(edge) for _ in range(1000)]
    for s in slow:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert all(tenant.get("/auth/me").status_code == 200 for _ in range(200))
    assert tenant.call(headers={"Prefer": "respond-async"}).status_code == 202
    open_, poll = {s.fileno(): s for s in slow}, select.poll()
    for fd in open_:
        poll.register(fd, select.POLLIN)
    while open_:
        ready = poll.poll(300)
        for fd, _ in ready:
            try:
                assert open_[fd].recv(10) == b""
            except ConnectionError:
                pass
            poll.unregister(fd)
            open_.pop(fd).close()
        for s in open_.values():  # another byte now and then, as a slowloris does
            try:
                s.send(b"a")
            except OSError:
                pass
    assert tenant.get("/auth/me").status_code == 200
    assert int(re.search(r"^trunkline_http_slow\S* (\d+)$", edge.http.get("/metrics").text, re.M)[1]) >= 1000


def test_a_body_that_trickles_is_cut(edge):
    tenant = Tenant(edge)
    with raw(edge) as s:
        s.sendall(b"POST /api/v1/agents HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n"
                  b"Authorization: Bearer " + tenant.token.encode() + b"\r\n\r\n{")
        s.settimeout(60)
        closed = False
        while not closed:
            try:
                s.send(b" ")
                closed = bool(select.select([s], [], [], 0.2)[0]) and s.recv(100) == b""
            except ConnectionError:
                closed = True
    assert tenant.get("/auth/me").status_code == 200


@pytest.fixture(scope="module")
def certificate(folder):
    paths = folder / "tls.crt", folder / "tls.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "3000",
                    "-subj", "/CN=trunkline.test", "-addext", "subjectAltName=DNS:localhost", "-keyout", paths[1], "-out", paths[0]],
                   check=True, capture_output=True)
    paths[1].chmod(0o644)
    return paths


@pytest.mark.filterwarnings("ignore:.*TLSv1_1.*:DeprecationWarning")
def test_tls_by_certificate_files(folder, certificate):
    """The whole story over TLS: provider events, objects and pages come to the same port."""
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    trust.check_hostname = False
    running = Server(folder / "tls", "--workers", "1", "--set", f"tls_certificate_file={certificate[0]}",
                     "--set", f"tls_key_file={certificate[1]}", verify=trust)
    try:
        assert running.url.startswith("https://")
        tenant = Tenant(running)
        call = tenant.call().json()["data"]["id"]
        running.advance(120)
        assert tenant.read(call)["status"] == "completed" and tenant.read(call)["recording_available"]
        link = tenant.get(f"/calls/{call}/recording").json()["data"]["recording_url"]
        assert link.startswith("https://") and httpx.get(link, verify=trust).content[:4] == b"RIFF"
        assert tenant.get("/auth/me").headers["strict-transport-security"].startswith("max-age=")
        with pytest.raises(ssl.SSLError):
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
            old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.minimum_version = ssl.TLSVersion.TLSv1_1
            old.wrap_socket(raw(running))
        with raw(running) as s:
            s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in s.recv(100)
    finally:
        assert running.stop() == 0
    half = subprocess.run([running.process.args[0], "serve", "--data", str(folder / "half"), "--set", f"tls_key_file={certificate[1]}"],
                          capture_output=True, text=True, env=clean_environment())
    assert half.returncode != 0 and "go together" in half.stderr
