"""What the benches run against the product's own statements still fits them: one transaction of each script."""
import pathlib
import subprocess
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import api  # noqa: E402
import ledger  # noqa: E402


@pytest.mark.parametrize("script", ["read", "write", "ledger"])
def test_a_script_runs(server, client, tmp_path, script):
    client.get("/auth/me")
    client.user = str(server.sql("select id from users where client_id = %s", client.id)[0][0])
    client.agent_id = client.agent()
    client.call_id = client.call(agent=client.agent_id).json()["data"]["id"]
    if script == "ledger":
        path = tmp_path / "ledger.sql"
        path.write_text(ledger.ours(client))
    else:
        path, = api.pgbench_scripts(tmp_path, [client], script == "write")
    binary = next(pathlib.Path("/usr/lib/postgresql").glob("*/bin/pgbench"))
    done = subprocess.run([binary, "-n", "-M", "prepared", "-t", "1", "-h", str(server.data / "run"), "-U",
                           "tl_system" if script == "ledger" else "tl_app", "-f", path, "trunkline"], capture_output=True, text=True)
    assert done.returncode == 0 and "actually processed: 1/1" in done.stdout, done.stdout + done.stderr
    if script == "write":
        assert len(client.get("/calls").json()["data"]) == 2
        server.advance(200)
    if script == "ledger":
        assert [t["amount"] for t in client.get("/billing/transactions", params={"type": "spent"}).json()["data"]] == [1]
