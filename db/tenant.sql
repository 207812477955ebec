-- The guard of every tenant table. Run before the numbered migrations, each time; changes nothing
-- that is already so. Roles are made by `trunkline migrate` (or the embedded start):
--   tl_migrate owns everything; tl_app is the door of one client; tl_agency the door of one agency,
--   read mostly; tl_system the narrow door of jobs and provider events; tl_ledger owns the definer
--   functions and nobody logs in as it. Separate roles instead of one with an OR in its policy keep
--   each policy a plain equality that an index answers in order.

create or replace function tl_client() returns uuid language sql stable parallel safe
	as $$ select nullif(current_setting('tl.client', true), '')::uuid $$;
create or replace function tl_agency() returns uuid language sql stable parallel safe
	as $$ select nullif(current_setting('tl.agency', true), '')::uuid $$;
create or replace function tl_actor() returns text language sql stable parallel safe
	as $$ select nullif(current_setting('tl.actor', true), '') $$;

-- Business time: sent beside the tenant, so that a test clock moves the database too. Nothing volatile may
-- stand in it: a stable SQL function with a volatile body is not inlined but parsed anew in every statement
-- (measured: a quarter of PostgreSQL's work for a call's creation).
create or replace function tl_now() returns timestamptz language sql stable parallel safe
	as $$ select coalesce(nullif(current_setting('tl.now', true), '')::timestamptz, statement_timestamp()) $$;

-- kind C: rows of one client. A: rows of an agency, client_id may be null. X: as C, insert and
-- select only. S: no right for the doors, only for definer functions and the system door.
create or replace function protect(p_table regclass, p_kind text) returns void language plpgsql as $$
declare
	t text := p_table::text;
	rights text := case when p_kind = 'X' then 'select, insert' else 'select, insert, update, delete' end;
begin
	execute format('alter table %s enable row level security', t);
	execute format('alter table %s force row level security', t);
	execute format('create policy owner_door on %s to tl_migrate using (true) with check (true)', t);
	execute format('create policy function_door on %s to tl_ledger using (true) with check (true)', t);
	execute format('grant select, insert, update, delete on %s to tl_ledger', t);
	if p_kind in ('C', 'A', 'X') then
		execute format('create policy client_door on %s to tl_app using (client_id = tl_client())
			with check (client_id = tl_client() and agency_id = tl_agency())', t);
		execute format('create policy agency_door on %s to tl_agency using (agency_id = tl_agency())
			with check (agency_id = tl_agency())', t);
		execute format('grant %s on %s to tl_app, tl_agency', rights, t);
	elsif p_kind = 'S' then
		execute format('create policy system_door on %s to tl_system using (true) with check (true)', t);
		execute format('grant select, insert, update, delete on %s to tl_system', t);
	else
		raise exception 'protect: unknown kind %', p_kind;
	end if;
end $$;
