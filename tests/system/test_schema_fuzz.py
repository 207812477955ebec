"""Schemathesis over our OpenAPI: all checks, all phases, stateful along the links. Zero 5xx, zero answers that break the schema."""
import os
import re
import subprocess

import pytest

from conftest import LONG, ROOT, Server, Tenant, ledger_is_right

EXAMPLES = os.environ.get("TRUNKLINE_SCHEMA_EXAMPLES", "200" if LONG else "8")
PHASES = {"client_admin": "examples,coverage,fuzzing,stateful", "agency_admin": "examples,coverage,fuzzing,stateful" if LONG else "examples,fuzzing,stateful"}
SEED = [] if LONG or "TRUNKLINE_SCHEMA_EXAMPLES" in os.environ else ["--seed", "1"]  # a known one in the short form


@pytest.mark.parametrize("role", ["client_admin", "agency_admin"])
def test_our_schema_holds_under_generated_requests(folder, role, record_property):
    running = Server(folder / f"schema-{role}", "--workers", "2", "--set", "trusted_proxies=127.0.0.1",
                     "--set", "address_requests_per_second=100000")  # a missing credential is 401, however fast they come
    try:
        tenant = Tenant(running, credits=100000)
        headers = ["-H", f"Authorization: Bearer {tenant.make_token(role)}", "-H", "X-Forwarded-For: 10.0.0.1"]
        done = subprocess.run([str(ROOT / ".venv" / "bin" / "st"), "--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run",
                               running.url + "/openapi.json", "--url", running.url, "--checks", "all", "--max-examples", EXAMPLES,
                               "--phases", PHASES[role], "--continue-on-failure", "--generation-database", "none",
                               "--include-path-regex", "^/(api|health|ready|openapi)", "--exclude-path-regex", "/webhooks/(ultravox|telnyx|stripe)|/events/stream",
                               "--warnings", "off", "--no-color", *SEED, *headers], capture_output=True, text=True, cwd=running.data.parent)
        assert done.returncode == 0, done.stdout[-6000:]
        record_property("told", f"schemathesis as {role}: " + re.search(r"\d+ generated.*", done.stdout)[0])
        ledger_is_right(running)
        assert running.sql("select * from audit_chains h cross join lateral audit_walk(h.agency_id, h.client_id) w "
                           "where w.first_bad_seq is not null") == []
    finally:
        assert running.stop() == 0
    log = running.log_path.read_text(errors="replace")
    assert '"status_code":500' not in log and "AddressSanitizer" not in log and "runtime error:" not in log
