"""Reading it: dashboard, usage, CSV, the night's sums, the net under lost jobs."""
import csv
import io

import pytest

from conftest import SANITIZED
from test_bad_input import GOOD_AGENT, error


@pytest.fixture
def spoken(server, client):
    """Four calls of an agent and one of another, come to their end."""
    client.first, client.second = client.agent(), client.agent()
    for number in ("+15555550100", "+15555550101", "+15555550110", "+15555550111"):
        assert client.call(number, agent=client.first).status_code == 201
    client.call("+15555550100", agent=client.second)
    server.advance(400)
    return client


def test_the_dashboard_adds_up(server, spoken):
    data = spoken.get("/dashboard/stats").json()["data"]
    assert (data["total_calls"], data["successful_calls"], data["failed_calls"], data["in_progress_calls"]) == (5, 3, 2, 0)
    assert data["credits_spent"] == 4 and data["credits_balance"] == 996 and data["success_rate"] == 0.6 and data["time_range"] == "last_month"
    assert data["average_call_duration_seconds"] == pytest.approx((30 + 95 + 30) / 3, abs=2) and data["total_call_cost_usd"] > 0
    assert (data["total_agents"], data["active_agents"], data["total_campaigns"]) == (2, 2, 0)
    one = spoken.get("/dashboard/stats", params={"agent_id": spoken.second, "time_range": "all_time"}).json()["data"]
    assert one["total_calls"] == 1 and one["credits_spent"] == 1
    assert spoken.get("/dashboard/stats", params={"date_to": "2020-01-01", "date_from": "2019-01-01"}).json()["data"]["total_calls"] == 0
    assert server.client().get("/dashboard/stats").json()["data"]["total_calls"] == 0
    for query in ({"time_range": "ever"}, {"date_from": "yesterday"}, {"agent_id": "x"}, {"date_from": "2026-01-02", "date_to": "2026-01-01"}):
        error(spoken.get("/dashboard/stats", params=query), 422, "validation_error")


def sums(rows, *names):
    return [tuple(r[n] for n in names) for r in rows]


def test_usage_is_the_same_before_and_after_the_night(server, spoken):
    def usage(**query):
        return spoken.get("/usage", params={"date_from": "2026-01-01", "date_to": "2028-01-01", **query}).json()["data"]["usage"]

    live, by_agent, total = usage(), usage(group_by="agent"), spoken.get("/dashboard/stats").json()["data"]
    assert sum(r["calls"] for r in live) == 5 and sum(r["credits"] for r in live) == 4
    assert {r["agent_id"]: r["calls"] for r in by_agent} == {spoken.first: 4, spoken.second: 1}
    assert usage(group_by="agent,number")[0]["from_number"] and usage(group_by="client")[0]["client_id"] == spoken.id
    server.advance(3 * 86400)
    assert server.sql("select sum(calls) from usage_daily where client_id = %s", spoken.id)[0][0] == 5
    assert usage() == live and usage(group_by="agent") == by_agent
    again = spoken.get("/dashboard/stats").json()["data"]
    assert {k: v for k, v in again.items() if k not in ("start_date", "end_date")} == {k: v for k, v in total.items() if k not in ("start_date", "end_date")}
    # the chart of a year reads the days, not the calls
    server.sql("update usage_daily set calls = calls + 100 where client_id = %s and agent_id = %s", spoken.id, spoken.second)
    assert sum(r["calls"] for r in usage()) == 105
    server.advance(86400)
    assert sum(r["calls"] for r in usage()) == 5, "a night makes its days anew"
    admin = spoken.make_token("agency_admin")
    whole = spoken.request("GET", "/usage", token=admin, params={"group_by": "client"}).json()["data"]["usage"]
    assert [r["client_id"] for r in whole] == [spoken.id]
    error(spoken.get("/usage", params={"group_by": "colour"}), 422, "validation_error")
    error(spoken.get("/usage", params={"date_from": "2020-01-01"}), 422, "validation_error")


def test_calls_as_csv(server, spoken):
    spoken.call("+15555550100", agent=spoken.first, external_ref='=HYPERLINK("http://evil","x")')
    spoken.call("+15555550100", agent=spoken.first, external_ref='two, "words"\nand lines')
    server.advance(100)
    answer = spoken.get("/export/calls")
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len(rows) == 7 and {r["phone_number"] for r in rows} >= {"'+15555550100"} and all(not r["phone_number"].startswith("+") for r in rows)
    assert {r["external_ref"] for r in rows} >= {"'=HYPERLINK(\"http://evil\",\"x\")", 'two, "words"\nand lines'}
    assert all(cell[:1] not in tuple("=+-@\t\r") for r in rows for cell in r.values() if cell)
    only = list(csv.DictReader(io.StringIO(spoken.get("/export/calls", params={"status": "busy", "agent_id": spoken.first}).text)))
    assert [r["status"] for r in only] == ["busy"]
    error(spoken.request("GET", "/export/calls", token=spoken.make_token("client_user")), 403, "forbidden")
    error(spoken.get("/export/calls", params={"agent_id": "x"}), 422, "validation_error")
    error(spoken.get("/export/calls", headers={"Accept": "image/png"}), 406, "not_acceptable")
    assert not list((server.data / "tmp").glob("csv-*"))


def test_a_long_csv_takes_no_more_memory(server, client):
    agent = client.agent()
    with server.connect() as db:
        db.execute("set session_replication_role = replica")
        db.execute("""insert into calls (id, agency_id, client_id, agent_id, phone_number, direction, status, outcome, price_per_minute, ended_at, created_at)
            select gen_random_uuid(), %s, %s, %s, '+15555550100', 'outbound', 'completed', 'completed', 1, clock_timestamp(),
            timestamptz '2026-01-01' + n * interval '1 second' from generate_series(1, 60000) n""", (client.agency, client.id, agent))

    def anonymous():
        return max(int(line.split()[1]) for pid in server.workers() for line in open(f"/proc/{pid}/status") if line.startswith("RssAnon"))

    client.get("/export/calls", params={"status": "busy"})
    before = anonymous()
    answer = client.get("/export/calls")
    assert answer.text.count("\r\n") == 60001
    assert SANITIZED or anonymous() - before < 16 << 10, "kilobytes"
    with server.connect() as db:
        db.execute("set session_replication_role = replica")
        db.execute("delete from calls where client_id = %s", (client.id,))


def test_lost_jobs_of_calls_are_made_again(server, client):
    call = client.call("+15555550130").json()["data"]["id"]
    server.advance(3)
    server.sql("delete from jobs where resource_id = %s", call)
    server.advance(7200)
    row = client.read(call)
    assert row["status"] == "completed" and row["billed_seconds"] is not None and client.balance()["held"] == 0


def test_what_a_call_cost(client, server):
    call = client.call("+15555550101").json()["data"]["id"]
    server.advance(300)
    data = client.get(f"/calls/{call}/cost").json()["data"]
    assert data == {"call_id": call, "price_per_minute": 1, "billed_seconds": 96, "billed_minutes": 2, "credits_held": 60, "credits_charged": 2,
                    "credits_released": 58, "provider_cost_usd": 0.08, "final": True, "estimated": False}
