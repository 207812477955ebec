alter table jobs drop column worker;

create or replace function job_claim(p_most integer, p_share integer, p_lease_ms bigint, p_paused text) returns setof jobs language sql as $$
	with due as (
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
		lease_until = tl_now() + p_lease_ms * interval '1 ms', updated_at = tl_now()
	from mine where j.id = mine.id returning j.*
$$;

alter function audit_hash(audit_log) immutable;

create or replace function audit_row() returns trigger language plpgsql security definer as $$
declare
	o jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
	n jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
	before jsonb := '{}';
	after jsonb := '{}';
	k text;
	secret boolean;
begin
	for k in select jsonb_object_keys(coalesce(n, o)) loop
		continue when k in ('updated_at', 'last_used_at', 'last_seen_at') or o -> k is not distinct from n -> k
			or (tg_op = 'INSERT' and n -> k = 'null') or (tg_op = 'DELETE' and o -> k = 'null');
		secret := k in ('sealed', 'secret_sealed', 'secret_hash', 'auth_ciphertext', 'subject_value');
		if o is not null then
			before := before || jsonb_build_object(k, case when secret and o -> k <> 'null' then '"changed"' else o -> k end);
		end if;
		if n is not null then
			after := after || jsonb_build_object(k, case when secret and n -> k <> 'null' then '"changed"' else n -> k end);
		end if;
	end loop;
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
	r audit_log;
	actor text := coalesce(tl_actor(), 'operator');
	source text := coalesce(current_setting('tl.source', true), '');
begin
	insert into audit_chains (agency_id, client_id, last_seq, last_hash) values (p_agency, p_client, 0, '\x')
		on conflict (agency_id, client_id) do nothing;
	select c.last_seq + 1, c.last_hash into r.seq, r.prev_hash from audit_chains c
		where c.agency_id = p_agency and c.client_id is not distinct from p_client for update;
	-- begins with the sequence number, so that entries of one instant list in their order
	r.id := (lpad(to_hex(r.seq), 16, '0') || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16))::uuid;
	r.agency_id := p_agency;
	r.client_id := p_client;
	r.actor_type := split_part(actor, ':', 1);
	r.actor_id := nullif(split_part(actor, ':', 2), '');
	r.action := p_action;
	r.table_name := p_table;
	r.record_id := p_record;
	r.diff := p_diff;
	r.diff_digest := sha256(convert_to(p_diff::text, 'UTF8'));
	r.ip_address := nullif(split_part(source, E'\n', 1), '');
	r.user_agent := nullif(split_part(source, E'\n', 2), '');
	r.request_id := nullif(current_setting('tl.request', true), '');
	r.created_at := tl_now();
	r.hash := audit_hash(r);
	insert into audit_log select r.*;
	update audit_chains c set last_seq = r.seq, last_hash = r.hash
		where c.agency_id = p_agency and c.client_id is not distinct from p_client;
end $$;

create or replace function ledger_settle(p_hold uuid, p_amount bigint, p_description text, p_estimated boolean)
returns table (charged bigint) language plpgsql security definer as $$
declare
	h credit_holds;
	a credit_accounts;
	t uuid := gen_random_uuid();
begin
	perform from credit_accounts c where c.client_id = tl_client() for update;
	select * into h from credit_holds where id = p_hold and client_id = tl_client() and status = 'held' for update;
	if not found then
		return;
	end if;
	charged := least(p_amount, h.amount);
	update credit_holds set status = case when charged > 0 then 'settled' else 'released' end,
		settled_amount = charged, updated_at = tl_now() where id = p_hold;
	update credit_accounts c set held = held - h.amount, balance = balance - charged, version = version + 1,
		updated_at = tl_now() where c.client_id = tl_client() returning * into a;
	perform ledger_move(t, array['held', 'revenue', 'available'], array[-h.amount, charged, h.amount - charged]);
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
	perform ledger_move(p_hold, array['available', 'held'], array[-p_amount, p_amount]);
end $$;

alter table credit_accounts drop constraint credit_accounts_sane, add check (balance >= 0), add check (held >= 0), add check (debt >= 0),
	add check (held <= balance);
drop index credit_holds_made;
create index credit_holds_open on credit_holds (created_at) where status = 'held';

create or replace function call_owner(p_call uuid, p_provider_id text, p_carrier_id text)
returns table (id uuid, client_id uuid, agency_id uuid) language sql stable security definer as $$
	select c.id, c.client_id, c.agency_id from calls c
	where c.id = p_call or c.ultravox_call_id = p_provider_id or c.carrier_call_id = p_carrier_id limit 1
$$;
