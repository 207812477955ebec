"""Tenants never meet: proved in the database, over HTTP, and under interleaved load."""
import random
import threading
import uuid

import psycopg
import pytest

# tables that hold no tenant's rows
NOT_TENANT = {"schema_migrations", "vault", "clock_state", "rate_buckets"}
# unique indexes that may begin with something else than the tenant, written by the system door or by us alone
GLOBAL_KEYS = {"agents_provider", "api_keys_prefix", "uploads_key", "calls_provider", "phone_numbers_live", "jobs_dedupe", "inbound_events_provider_dedupe_key_key",
               "clients_stripe", "checkouts_session", "payment_grants_key"}


def tables(server):
    return [t for t, in server.sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1")]


def test_every_table_is_guarded(server):
    for table in tables(server):
        if table == "schema_migrations":
            continue
        enabled, forced, owner = server.sql("select relrowsecurity, relforcerowsecurity, relowner::regrole::text from pg_class "
                                            "where oid = %s::regclass", table)[0]
        assert enabled and forced and owner == "tl_migrate", f"{table} is not protected"
        policies = dict(server.sql("select polname, pg_get_expr(polqual, polrelid) from pg_policy where polrelid = %s::regclass", table))
        assert {"owner_door", "function_door"} <= set(policies), table
        columns = {c for c, in server.sql("select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", table)}
        if table in NOT_TENANT:
            continue
        assert {"agency_id", "client_id"} <= columns, f"{table} lacks the tenant"
        if "client_door" in policies:
            assert policies["client_door"] == "(client_id = tl_client())" and policies["agency_door"] == "(agency_id = tl_agency())"


def test_keys_begin_with_the_tenant(server):
    rows = server.sql("""select i.indexrelid::regclass::text, i.indisprimary, array_agg(a.attname::text order by k.n)
        from pg_index i cross join lateral unnest(i.indkey) with ordinality k (attnum, n)
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
        join pg_class c on c.oid = i.indrelid where i.indisunique and c.relnamespace = 'public'::regnamespace
        and c.relname <> all (%s) group by 1, 2""", list(NOT_TENANT))
    for name, primary, columns in rows:
        tenant_first = columns[0] in ("client_id", "agency_id", "scope_id") or (primary and columns == ["id"])
        assert tenant_first or name in GLOBAL_KEYS, f"{name} ({', '.join(columns)}) does not begin with the tenant"


def test_foreign_keys_carry_the_tenant(server):
    rows = server.sql("""select conrelid::regclass::text, confrelid::regclass::text, array_agg(a.attname::text order by k.n) from pg_constraint
        cross join lateral unnest(conkey) with ordinality k (attnum, n) join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum
        where contype = 'f' group by oid, 1, 2""")
    for table, target, columns in rows:
        assert columns[0] in ("client_id", "agency_id"), f"{table} -> {target} ({columns})"


def test_roles_own_nothing_and_cannot_bypass(server):
    for role in ("tl_app", "tl_agency", "tl_system", "tl_ledger"):
        assert server.sql("select rolsuper, rolbypassrls, rolcreaterole, rolcreatedb from pg_roles where rolname = %s", role) == \
            [(False, False, False, False)]
        assert server.sql("select relname from pg_class where relowner = %s::regrole", role) == []


def test_policy_functions_are_stable(server):
    rows = server.sql("select proname, provolatile from pg_proc where proname in ('tl_client', 'tl_agency', 'tl_now', 'tl_actor')")
    assert len(rows) == 4 and {v for _, v in rows} == {"s"}, "IMMUTABLE would freeze one tenant into a plan"


def test_without_a_tenant_every_table_is_empty(server, client):
    client.call()
    for role in ("tl_app", "tl_agency"):
        with server.connect(role) as db:
            for table in tables(server):
                if table == "schema_migrations":
                    continue
                try:
                    assert db.execute(f"select count(*) from {table}").fetchone()[0] == 0, table
                except psycopg.errors.InsufficientPrivilege:
                    pass
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                db.execute("insert into agents (id, agency_id, client_id, name, system_prompt, model, status) values "
                           "(gen_random_uuid(), %s, %s, 'x', 'x', 'x', 'creating')", (client.agency, client.id))


def test_another_tenant_sees_and_changes_nothing(server, client):
    other = server.client()
    call = client.call().json()["data"]["id"]
    other.call()
    with server.connect("tl_app") as db:
        db.execute("select set_config('tl.client', %s, false), set_config('tl.agency', %s, false)", (other.id, other.agency))
        for table in tables(server):
            if table == "schema_migrations":
                continue
            try:
                seen = {str(c) for c, in db.execute(f"select client_id from {table}")}
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedColumn):
                continue
            assert seen <= {other.id}, table
        assert db.execute("update calls set status = 'failed' where id = %s", (call,)).rowcount == 0
        assert db.execute("delete from calls where id = %s", (call,)).rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            db.execute("update credit_accounts set balance = balance + 1")
        # an id that another tenant uses is no news: the same answer whether it exists or not
        for target in (client._agent, str(uuid.uuid4())):
            with pytest.raises(psycopg.errors.ForeignKeyViolation) as caught:
                db.execute("insert into calls (id, agency_id, client_id, agent_id, phone_number, direction, status, price_per_minute) "
                           "values (gen_random_uuid(), %s, %s, %s, '+15555550100', 'outbound', 'queued', 1)",
                           (other.agency, other.id, target))
            assert client.id not in str(caught.value)


def test_every_route_has_a_scope(server):
    doc = server.http.get("/openapi.json").json()
    for path, item in doc["paths"].items():
        for method, operation in item.items():
            assert operation.get("security") == [] or (":" in operation["x-scope"] and operation["x-roles"]), f"{method} {path}"


def test_interleaved_clients_never_meet(server):
    """Two clients hammer one pool of connections; every answer is their own."""
    pair = [server.client(), server.client()]
    for tenant in pair:
        tenant.agent_id = tenant.agent()
        tenant.seen = [tenant.call("+15555550111", agent=tenant.agent_id, headers={"Prefer": "respond-async"}).json()["data"]["id"]
                       for _ in range(3)]
    wrong = []

    def hammer(me, them, seed):
        dice = random.Random(seed)
        for _ in range(125):
            if dice.random() < 0.5:
                answer = me.get(f"/calls/{dice.choice(me.seen)}")
                good = answer.status_code == 200 and answer.json()["data"]["client_id"] == me.id
            elif dice.random() < 0.5:
                good = me.get(f"/calls/{dice.choice(them.seen)}").status_code == 404
            else:
                good = {c["client_id"] for c in me.get("/calls?limit=5").json()["data"]} == {me.id}
            if not good:
                wrong.append((me.id, answer.text))

    threads = [threading.Thread(target=hammer, args=(pair[n % 2], pair[1 - n % 2], n)) for n in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong
    server.advance(60)
