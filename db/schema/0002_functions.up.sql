-- Definer functions: the only hands on ledger, event stream and jobs. Refusals are raised with the
-- HTTP status in the SQLSTATE (TL402) and their details as JSON members in DETAIL.

-- Opens a door: checks what the credential claims against the rows, then sets the tenant for the
-- rest of the transaction; answers the client's limits. With p_client null the whole agency is meant.
-- One query and a plain result, because every request begins here.
create function tl_enter(p_agency uuid, p_client uuid, p_issuer text, p_subject text, p_now text, p_request text)
returns jsonb language plpgsql security definer as $$
declare
	r record;
begin
	if p_client is not null then
		select c.limits, u.id, u.is_active into r from clients c left join lateral (
			select u.id, u.is_active from users u
			where u.agency_id = p_agency and u.issuer = p_issuer and u.subject = p_subject
				and (u.client_id is null or u.client_id = p_client)
			order by u.is_active limit 1) u on true
		where c.id = p_client and c.agency_id = p_agency and c.deleted_at is null;
		if not found then
			raise sqlstate 'TL403' using message = 'This client is not yours', detail = '"reason":"foreign_client"';
		end if;
	else
		select a.limits, u.id, u.is_active into r from agencies a left join lateral (
			select u.id, u.is_active from users u
			where u.agency_id = p_agency and u.issuer = p_issuer and u.subject = p_subject
			order by u.is_active limit 1) u on true
		where a.id = p_agency and a.is_active;
		if not found then
			raise sqlstate 'TL403' using message = 'No such agency', detail = '"reason":"no_tenant"';
		end if;
	end if;
	if p_subject is not null and r.id is null then
		raise sqlstate 'TL002' using message = 'unseen user';
	elsif not r.is_active then
		raise sqlstate 'TL401' using message = 'This user is deactivated', detail = '"reason":"deactivated"';
	end if;
	perform set_config('tl.agency', p_agency::text, true), set_config('tl.client', coalesce(p_client::text, ''), true),
		set_config('tl.now', p_now, true), set_config('tl.request', p_request, true),
		set_config('tl.actor', coalesce(r.id::text, 'system'), true);
	return r.limits;
end $$;

-- The door of a job or provider event: the tenant comes from the row that caused it.
create function tl_enter_system(p_agency text, p_client text, p_now text, p_request text) returns void
language plpgsql as $$
begin
	perform set_config('tl.now', p_now, true), set_config('tl.agency', coalesce(p_agency, ''), true),
		set_config('tl.client', coalesce(p_client, ''), true), set_config('tl.actor', 'system', true),
		set_config('tl.request', coalesce(p_request, ''), true);
end $$;

-- First sight of a subject that a trusted claim vouches for. Two at once make one row.
create function user_seen(p_id uuid, p_agency uuid, p_client uuid, p_issuer text, p_subject text, p_email text,
	p_name text, p_role text, p_now text) returns void language plpgsql security definer as $$
begin
	perform set_config('tl.now', p_now, true);
	if p_client is not null and not exists (select from clients c where c.id = p_client and c.agency_id = p_agency) then
		raise sqlstate 'TL403' using message = 'This client is not yours', detail = '"reason":"foreign_client"';
	elsif not exists (select from agencies a where a.id = p_agency and a.is_active) then
		raise sqlstate 'TL403' using message = 'No such agency', detail = '"reason":"no_tenant"';
	end if;
	insert into users (id, agency_id, client_id, issuer, subject, email, name, role, last_seen_at)
		values (p_id, p_agency, p_client, p_issuer, p_subject, p_email, p_name, p_role, tl_now())
		on conflict (agency_id, issuer, subject, client_id) do nothing;
end $$;

-- Idempotency. state: new, running, reused, replay.
create function idem_begin(p_scope uuid, p_key text, p_fingerprint bytea)
returns table (state text, status_code integer, body_sealed bytea) language plpgsql as $$
declare
	r idempotency_keys;
begin
	if not pg_try_advisory_xact_lock(hashtextextended(p_scope::text || ':' || p_key, 0)) then
		state := 'running';
		return next;
		return;
	end if;
	select * into r from idempotency_keys k where k.scope_id = p_scope and k.key = p_key and k.expires_at > tl_now();
	if not found then
		state := 'new';
	elsif r.fingerprint <> p_fingerprint then
		state := 'reused';
	elsif r.state = 'in_flight' and r.lease_until > tl_now() then
		state := 'running';
	else
		state := 'replay';
		status_code := r.status_code;
		body_sealed := r.body_sealed;
	end if;
	return next;
end $$;

-- The hourly purge, over all tenants, in batches.
create function tidy_idempotency(p_most integer) returns integer language plpgsql security definer as $$
declare
	n integer;
begin
	delete from idempotency_keys k where (k.scope_id, k.key) in (select o.scope_id, o.key from idempotency_keys o
		where o.expires_at < tl_now() limit p_most for update skip locked);
	get diagnostics n = row_count;
	return n;
end $$;

-- Jobs. With p_lease_ms the job is born running, leased to the caller's process.
create function job_add(p_id uuid, p_queue text, p_kind text, p_payload jsonb, p_resource_type text, p_resource_id uuid,
	p_run_at timestamptz, p_lease_ms bigint, p_dedupe text) returns void language plpgsql security definer as $$
declare
	here boolean := p_lease_ms > 0;
begin
	insert into jobs (id, agency_id, client_id, queue, kind, payload, resource_type, resource_id, request_id, status,
		run_at, attempts, generation, lease_until, dedupe_key)
	values (p_id, tl_agency(), tl_client(), p_queue, p_kind, p_payload, p_resource_type, p_resource_id,
		nullif(current_setting('tl.request', true), ''), case when here then 'running' else 'queued' end,
		coalesce(p_run_at, tl_now()), here::integer, here::integer,
		case when here then tl_now() + p_lease_ms * interval '1 ms' end, p_dedupe)
	on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
end $$;

-- Every finishing statement names the generation it was claimed with; a stale one changes nothing. A job
-- that parks itself without an error starts counting its tries anew.
create function job_finish(p_id uuid, p_generation bigint, p_status text, p_run_at timestamptz, p_payload jsonb, p_error text)
returns void language plpgsql security definer as $$
begin
	update jobs set status = p_status, run_at = coalesce(p_run_at, run_at), payload = coalesce(p_payload, payload),
		attempts = case when p_status = 'queued' and p_error is null then 0 else attempts end,
		last_error = p_error, lease_until = null, updated_at = tl_now(),
		finished_at = case when p_status in ('done', 'failed', 'dead') then tl_now() end
	where id = p_id and generation = p_generation and status = 'running';
	if not found then
		raise sqlstate 'TL001' using message = 'the job is another worker''s now';
	end if;
end $$;

-- Notes how far a running job has come, before its next effect outside.
create function job_note(p_id uuid, p_generation bigint, p_payload jsonb) returns void language plpgsql security definer as $$
begin
	update jobs set payload = p_payload where id = p_id and generation = p_generation and status = 'running';
	if not found then
		raise sqlstate 'TL001' using message = 'the job is another worker''s now';
	end if;
end $$;

create function job_get(p_id uuid) returns setof jobs language sql stable security definer as $$
	select * from jobs where id = p_id and agency_id = tl_agency() and (client_id = tl_client() or tl_client() is null)
$$;

-- Claims due jobs, oldest first, at most p_share a client so that none fills the table of running work.
create function job_claim(p_most integer, p_share integer, p_lease_ms bigint, p_paused text) returns setof jobs language sql as $$
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

-- The event stream: dense per client, in the causing transaction, with the deliveries it causes.
create function event_append(p_id uuid, p_type text, p_resource_type text, p_resource_id uuid, p_data jsonb)
returns bigint language plpgsql security definer as $$
declare
	s bigint;
	e record;
	d uuid;
begin
	insert into event_streams (client_id, agency_id, last_seq) values (tl_client(), tl_agency(), 1)
		on conflict (client_id) do update set last_seq = event_streams.last_seq + 1 returning last_seq into s;
	insert into events (agency_id, client_id, seq, id, type, resource_type, resource_id, data)
		values (tl_agency(), tl_client(), s, p_id, p_type, p_resource_type, p_resource_id, p_data);
	for e in select id from webhook_endpoints w where w.client_id = tl_client() and w.enabled
		and w.event_types && array[p_type, split_part(p_type, '.', 1) || '.*', '*']
	loop
		d := gen_random_uuid();
		insert into webhook_deliveries (id, agency_id, client_id, endpoint_id, event_id, event_type, next_attempt_at)
			values (d, tl_agency(), tl_client(), e.id, p_id, p_type, tl_now());
		perform job_add(gen_random_uuid(), 'q-webhook-egress', 'webhook.deliver',
			jsonb_build_object('delivery_id', d, 'endpoint_id', e.id), 'delivery', d, null, 0, 'deliver:' || d);
	end loop;
	return s;
end $$;

-- The ledger. Accounts of a client: available, held, revenue, purchases, adjustments. Each movement is
-- one transaction whose entries sum to zero; credit_accounts is their running sum, under one lock.
create function ledger_open(p_client uuid, p_agency uuid) returns void language sql security definer as $$
	insert into ledger_accounts (id, agency_id, client_id, kind)
		select gen_random_uuid(), p_agency, p_client, k
		from unnest(array['available', 'held', 'revenue', 'purchases', 'adjustments']) k on conflict do nothing;
	insert into credit_accounts (client_id, agency_id) values (p_client, p_agency) on conflict do nothing;
	insert into event_streams (client_id, agency_id) values (p_client, p_agency) on conflict do nothing;
$$;

create function ledger_move(p_transaction uuid, p_kinds text[], p_amounts bigint[]) returns void
language plpgsql security definer as $$
begin
	insert into ledger_entries (client_id, agency_id, transaction_id, account_id, amount)
		select a.client_id, a.agency_id, p_transaction, a.id, p_amounts[array_position(p_kinds, a.kind)]
		from ledger_accounts a where a.client_id = tl_client() and a.kind = any (p_kinds)
			and p_amounts[array_position(p_kinds, a.kind)] <> 0;
end $$;

-- Reserves p_amount, which the caller worked out from what was available a moment ago. When somebody
-- else spent in between: TL402 if not even p_least is left, else 40001 so that the caller counts again.
create function ledger_hold(p_hold uuid, p_type text, p_reference text, p_amount bigint, p_least bigint) returns void
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

-- Ends a hold once: p_amount of it is spent, the rest returns. A second end changes nothing and says 0 rows.
create function ledger_settle(p_hold uuid, p_amount bigint, p_description text, p_estimated boolean)
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

create function ledger_adjust(p_id uuid, p_amount bigint, p_reason text) returns void language plpgsql security definer as $$
declare
	a credit_accounts;
begin
	select * into a from credit_accounts c where c.client_id = tl_client() for update;
	if a.balance - a.held + p_amount < 0 then
		raise sqlstate 'TL402' using message = 'The adjustment exceeds what is available',
			detail = format('"required":%s,"available":%s', -p_amount, a.balance - a.held);
	end if;
	update credit_accounts c set balance = balance + p_amount, version = version + 1, updated_at = tl_now()
		where c.client_id = tl_client() returning * into a;
	perform ledger_move(p_id, array['adjustments', 'available'], array[-p_amount, p_amount]);
	insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after,
		reference_type, reference_id, description, actor)
	values (p_id, tl_agency(), tl_client(), a.version, 'adjusted', abs(p_amount), p_amount, a.balance,
		'manual_adjustment', p_id::text, p_reason, tl_actor());
end $$;

-- The proof: one row a violation, none when the ledger is right.
create function ledger_check() returns table (problem text, client_id uuid, detail text) language sql stable security definer as $$
	select 'transaction does not sum to zero', e.client_id, e.transaction_id::text from ledger_entries e
		group by e.client_id, e.transaction_id having sum(e.amount) <> 0
	union all
	select 'account differs from its entries', a.client_id,
		format('available %s entries %s, held %s entries %s', a.balance - a.held, s.available, a.held, s.held)
	from credit_accounts a cross join lateral (
		select coalesce(sum(e.amount) filter (where l.kind = 'available'), 0) available,
			coalesce(sum(e.amount) filter (where l.kind = 'held'), 0) held
		from ledger_accounts l left join ledger_entries e on e.client_id = l.client_id and e.account_id = l.id
		where l.client_id = a.client_id) s
	where s.available <> a.balance - a.held or s.held <> a.held
	union all
	select 'balance differs from its transactions', a.client_id, format('balance %s sum %s', a.balance, coalesce(sum(t.delta), 0))
	from credit_accounts a left join credit_transactions t on t.client_id = a.client_id
	group by a.client_id, a.balance having a.balance <> coalesce(sum(t.delta), 0)
	union all
	select 'held differs from open holds', a.client_id, format('held %s holds %s', a.held, coalesce(sum(h.amount), 0))
	from credit_accounts a left join credit_holds h on h.client_id = a.client_id and h.status = 'held'
	group by a.client_id, a.held having a.held <> coalesce(sum(h.amount), 0)
$$;

-- Calls: the rank that makes states monotonic (contract: queued 0 ... final 4).
create function call_rank(p_status text) returns integer language sql immutable parallel safe as $$
	select case p_status when 'queued' then 0 when 'dialing' then 1 when 'unknown' then 1 when 'ringing' then 2
		when 'in_progress' then 3 else 4 end
$$;

-- Takes a slot and writes the intent to dial, or says why not: dial, full, gone.
-- Slots are counted from rows; one advisory lock an agency keeps two takers from counting the same one.
create function call_intend(p_call uuid) returns table (verdict text, current integer)
language plpgsql security definer as $$
declare
	c calls;
	of_agency integer;
	client_most integer := 10;
	agency_most integer := 50;
begin
	perform pg_advisory_xact_lock(hashtextextended('slots:' || tl_agency()::text, 0));
	select * into c from calls where id = p_call and client_id = tl_client() for update;
	if not found or c.status <> 'queued' then
		verdict := 'gone';
		return next;
		return;
	end if;
	select count(*) into current from calls k where k.client_id = tl_client()
		and k.status in ('dialing', 'unknown', 'ringing', 'in_progress');
	select count(*) into of_agency from calls k where k.agency_id = tl_agency()
		and k.status in ('dialing', 'unknown', 'ringing', 'in_progress');
	select coalesce((k.limits ->> 'concurrent_calls')::integer, client_most),
			coalesce((g.limits ->> 'concurrent_calls')::integer, agency_most) into client_most, agency_most
		from clients k join agencies g on g.id = k.agency_id where k.id = tl_client();
	verdict := case when current >= client_most or of_agency >= agency_most then 'full' else 'dial' end;
	if verdict = 'dial' then
		update calls set status = 'dialing', intended_at = tl_now(), updated_at = tl_now() where id = p_call;
		insert into call_transitions (agency_id, client_id, call_id, seq, from_status, to_status, source)
			select tl_agency(), tl_client(), p_call, coalesce(max(seq), 0) + 1, 'queued', 'dialing', 'job'
			from call_transitions where client_id = tl_client() and call_id = p_call;
		current := current + 1;
	end if;
	return next;
end $$;

-- Whose provider call is this? For events that arrive before their client is known.
create function call_owner(p_call uuid, p_provider_id text, p_carrier_id text)
returns table (id uuid, client_id uuid, agency_id uuid) language sql stable security definer as $$
	select c.id, c.client_id, c.agency_id from calls c
	where c.id = p_call or c.ultravox_call_id = p_provider_id or c.carrier_call_id = p_carrier_id limit 1
$$;

do $$
declare
	f regprocedure;
begin
	for f in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef loop
		execute format('alter function %s owner to tl_ledger', f);
		execute format('revoke all on function %s from public', f);
		execute format('grant execute on function %s to tl_app, tl_agency, tl_system, tl_migrate, tl_ledger', f);
	end loop;
end $$;
revoke all on function tidy_idempotency(integer), call_owner(uuid, text, text), user_seen(uuid, uuid, uuid, text, text, text, text, text, text)
	from tl_app, tl_agency;

-- Rows as the API shows them: one list of columns a resource, in the order of its shape.
create view call_rows with (security_invoker = true) as
	select c.id, c.client_id, c.agent_id, c.campaign_id, c.contact_id, c.external_ref, c.ultravox_call_id, c.phone_number,
		c.from_number, c.direction, c.status, c.outcome, c.end_reason_raw, c.context, c.call_settings, c.started_at,
		c.answered_at, c.ended_at, c.duration_seconds, c.billed_seconds, c.credits_held, c.credits_charged,
		(c.cost_micros / 1e6)::float8 as cost_usd, c.summary,
		exists (select from call_artifacts a where a.client_id = c.client_id and a.call_id = c.id and a.kind = 'recording'
			and a.status = 'ready') as recording_available,
		c.join_url,
		case when c.error_code is not null then jsonb_build_object('code', c.error_code, 'message', c.error_message) end as error,
		c.created_at, c.updated_at,
		(extract(epoch from c.created_at) * 1000000)::bigint as cursor_us
	from calls c;

create view agent_rows with (security_invoker = true) as
	select id, client_id, name, description, voice_id, system_prompt, model, tools, knowledge_bases, settings, status,
		sync_status, revision, ultravox_agent_id, last_error, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from agents where deleted_at is null;

create view client_rows with (security_invoker = true) as
	select c.id, c.client_id, c.agency_id, c.name, c.email, c.mode, c.subscription_status,
		coalesce(a.balance, 0) as credits_balance, coalesce(a.held, 0) as credits_held,
		coalesce(a.balance - a.held, 0) as credits_available, c.credits_ceiling, c.price_per_minute, c.limits, c.settings,
		c.created_at, c.updated_at, (extract(epoch from c.created_at) * 1000000)::bigint as cursor_us
	from clients c left join credit_accounts a on a.client_id = c.id where c.deleted_at is null;

create view webhook_rows with (security_invoker = true) as
	select id, client_id, url, to_jsonb(event_types) as event_types, enabled, description, retry_config, disabled_reason,
		failing_since, created_at, updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from webhook_endpoints;

create view event_rows with (security_invoker = true) as
	select 'evt_' || id as id, seq, type, created_at as timestamp, client_id,
		jsonb_build_object('type', resource_type, 'id', resource_id) as resource, data, resource_id
	from events;

grant select on call_rows, agent_rows, client_rows, webhook_rows, event_rows to tl_app, tl_agency, tl_system, tl_ledger;
-- What the system door may see of tenants: enough to register and to seed, nothing of their business.
