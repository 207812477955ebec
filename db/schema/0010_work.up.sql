-- Which worker holds a job: the one that takes a dead worker's place goes on at once, instead of after the lease.
alter table jobs add worker text default current_setting('tl.worker', true);

-- plpgsql keeps its plan; a function in plain SQL that cannot be inlined is planned anew at every call (13 % of PostgreSQL's work for a call's
-- creation, by perf).
create or replace function job_claim(p_most integer, p_share integer, p_lease_ms bigint, p_paused text) returns setof jobs language plpgsql as $$
begin
	return query with due as (
		(select id, client_id, run_at from (select id, client_id, run_at, kind from jobs
			where status = 'queued' and run_at <= tl_now() order by run_at limit 1000) q
			where kind <> all (string_to_array(p_paused, ',')))
		union all
		(select id, client_id, run_at from jobs where status = 'running' and lease_until <= tl_now() limit 200)
	), fair as (
		select id from (select id, run_at, row_number() over (partition by client_id order by run_at) n from due) d
		where n <= p_share order by run_at limit p_most
	), mine as (
		select j.id from jobs j where j.id in (select id from fair)
			and (j.status = 'queued' or (j.status = 'running' and j.lease_until <= tl_now()))
		for update skip locked
	)
	update jobs j set status = 'running', attempts = attempts + 1, generation = generation + 1,
		lease_until = tl_now() + p_lease_ms * interval '1 ms', worker = current_setting('tl.worker', true), updated_at = tl_now()
	from mine where j.id = mine.id returning j.*;
end $$;

-- Cheaper by measurement (./dev bench ledger): an immutable function with a stable body is parsed anew at every call; a new row's diff is
-- the row; a chain is there but for its first entry; a hold is locked by being ended.
alter function audit_hash(audit_log) stable;

create or replace function audit_row() returns trigger language plpgsql security definer as $$
declare
	o jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
	n jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
	before jsonb := '{}';
	after jsonb := '{}';
	k text;
	secret boolean;
begin
	if o is null and not n ?| array['sealed', 'secret_sealed', 'secret_hash', 'auth_ciphertext', 'subject_value'] then
		after := n - array['updated_at', 'last_used_at', 'last_seen_at'];
	else for k in select jsonb_object_keys(coalesce(n, o)) loop
		continue when k in ('updated_at', 'last_used_at', 'last_seen_at') or o -> k is not distinct from n -> k
			or (tg_op = 'INSERT' and n -> k = 'null') or (tg_op = 'DELETE' and o -> k = 'null');
		secret := k in ('sealed', 'secret_sealed', 'secret_hash', 'auth_ciphertext', 'subject_value');
		if o is not null then
			before := before || jsonb_build_object(k, case when secret and o -> k <> 'null' then '"changed"' else o -> k end);
		end if;
		if n is not null then
			after := after || jsonb_build_object(k, case when secret and n -> k <> 'null' then '"changed"' else n -> k end);
		end if;
	end loop; end if;
	if before = '{}' and after = '{}' then
		return null;
	end if;
	perform audit_append((coalesce(n, o) ->> 'agency_id')::uuid, (coalesce(n, o) ->> 'client_id')::uuid,
		case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end, tg_table_name,
		coalesce(n, o) ->> 'id', jsonb_strip_nulls(jsonb_build_object('before', case when o is not null then before end,
			'after', case when n is not null then after end)));
	return null;
end $$;

create or replace function audit_append(p_agency uuid, p_client uuid, p_action text, p_table text, p_record text, p_diff jsonb) returns void
language plpgsql security definer as $$
declare
	c audit_chains;
	h bytea;
begin
	loop	-- a client's chain is found by its index; the agency's own has none
		if p_client is not null then
			select * into c from audit_chains x where x.agency_id = p_agency and x.client_id = p_client for update;
		else
			select * into c from audit_chains x where x.agency_id = p_agency and x.client_id is null for update;
		end if;
		exit when found;
		insert into audit_chains (agency_id, client_id, last_seq, last_hash) values (p_agency, p_client, 0, '\x')
			on conflict (agency_id, client_id) do nothing;
	end loop;
	-- one statement: each expression of plpgsql's own is set up anew in every transaction
	insert into audit_log (id, agency_id, client_id, seq, actor_type, actor_id, action, table_name, record_id, diff, diff_digest, ip_address,
		user_agent, request_id, prev_hash, hash, created_at)
	select e.id, p_agency, p_client, c.last_seq + 1, e.actor_type, e.actor_id, p_action, p_table, p_record, p_diff, e.digest, e.ip, e.agent,
		e.request, c.last_hash, audit_hash(row(e.id, p_agency, p_client, c.last_seq + 1, e.actor_type, e.actor_id, p_action, p_table, p_record,
			null, e.digest, e.ip, e.agent, e.request, c.last_hash, null, e.at)::audit_log), e.at
	-- the id begins with the sequence number, so that entries of one instant list in their order
	from (select (lpad(to_hex(c.last_seq + 1), 16, '0') || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16))::uuid as id,
		split_part(coalesce(tl_actor(), 'operator'), ':', 1) as actor_type,
		nullif(split_part(coalesce(tl_actor(), 'operator'), ':', 2), '') as actor_id, sha256(convert_to(p_diff::text, 'UTF8')) as digest,
		nullif(split_part(current_setting('tl.source', true), E'\n', 1), '') as ip,
		nullif(split_part(current_setting('tl.source', true), E'\n', 2), '') as agent,
		nullif(current_setting('tl.request', true), '') as request, tl_now() as at) e
	returning hash into h;
	if p_client is not null then
		update audit_chains x set last_seq = c.last_seq + 1, last_hash = h where x.agency_id = p_agency and x.client_id = p_client;
	else
		update audit_chains x set last_seq = c.last_seq + 1, last_hash = h where x.agency_id = p_agency and x.client_id is null;
	end if;
end $$;

create or replace function ledger_settle(p_hold uuid, p_amount bigint, p_description text, p_estimated boolean)
returns table (charged bigint) language plpgsql security definer as $$
declare
	h credit_holds;
	a credit_accounts;
	t uuid := gen_random_uuid();
begin
	update credit_holds set status = case when least(p_amount, amount) > 0 then 'settled' else 'released' end,
		settled_amount = least(p_amount, amount), updated_at = tl_now()
		where id = p_hold and client_id = tl_client() and status = 'held' returning * into h;
	if not found then
		return;
	end if;
	charged := h.settled_amount;
	update credit_accounts c set held = held - h.amount, balance = balance - charged, version = version + 1,
		updated_at = tl_now() where c.client_id = tl_client() returning * into a;
	insert into ledger_entries (client_id, agency_id, transaction_id, account_id, amount)
		select m.client_id, m.agency_id, t, m.id, m.amount from (select l.*, case l.kind when 'held' then -h.amount when 'revenue' then charged
			else h.amount - charged end as amount from ledger_accounts l
			where l.client_id = tl_client() and l.kind in ('held', 'revenue', 'available')) m where m.amount <> 0;
	if charged > 0 then
		insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after,
			reference_type, reference_id, description, estimated, actor)
		values (t, tl_agency(), tl_client(), a.version, 'spent', charged, -charged, a.balance, h.reference_type,
			h.reference_id, p_description, p_estimated, tl_actor());
	end if;
	return next;
end $$;

create or replace function ledger_hold(p_hold uuid, p_type text, p_reference text, p_amount bigint, p_least bigint) returns void
language plpgsql security definer as $$
declare
	a credit_accounts;
begin
	update credit_accounts c set held = held + p_amount, version = version + 1, updated_at = tl_now()
		where c.client_id = tl_client() and c.balance - c.held >= p_amount;
	if not found then
		select * into a from credit_accounts c where c.client_id = tl_client();
		if coalesce(a.balance - a.held, 0) >= p_least then
			raise sqlstate '40001' using message = 'the balance changed';
		end if;
		raise sqlstate 'TL402' using message = 'Not enough credits',
			detail = format('"required":%s,"available":%s', p_least, coalesce(a.balance - a.held, 0));
	end if;
	insert into credit_holds (id, agency_id, client_id, amount, status, reference_type, reference_id)
		values (p_hold, tl_agency(), tl_client(), p_amount, 'held', p_type, p_reference);
	insert into ledger_entries (client_id, agency_id, transaction_id, account_id, amount)
		select l.client_id, l.agency_id, p_hold, l.id, case l.kind when 'held' then p_amount else -p_amount end
		from ledger_accounts l where l.client_id = tl_client() and l.kind in ('held', 'available');
end $$;

-- PostgreSQL reads each check anew in every statement, and an index that knows the status makes the end of a hold write all its indexes.
alter table credit_accounts drop constraint credit_accounts_balance_check, drop constraint credit_accounts_held_check,
	drop constraint credit_accounts_debt_check, drop constraint credit_accounts_check,
	add constraint credit_accounts_sane check (held between 0 and balance and debt >= 0);
drop index credit_holds_open;
create index credit_holds_made on credit_holds using brin (created_at);

create or replace function call_owner(p_call uuid, p_provider_id text, p_carrier_id text)
returns table (id uuid, client_id uuid, agency_id uuid) language plpgsql stable security definer as $$
begin
	return query select c.id, c.client_id, c.agency_id from calls c
		where c.id = p_call or c.ultravox_call_id = p_provider_id or c.carrier_call_id = p_carrier_id limit 1;
end $$;
