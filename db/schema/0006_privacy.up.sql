-- Privacy: requests to export or erase a person's or a client's data, and what is kept how long.

create table privacy_requests (
	id uuid primary key,
	agency_id uuid not null references agencies (id),
	client_id uuid references clients (id),
	kind text not null check (kind in ('export', 'erasure')),
	subject_type text not null check (subject_type in ('user', 'phone', 'client')),
	subject_value text not null,	-- of an erasure that is done: a digest
	status text not null default 'queued' check (status in ('queued', 'running', 'done', 'failed')),
	due_at timestamptz,		-- of an erasure: when what is masked is deleted
	object_key text,
	bytes bigint,
	error text,
	finished_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now()
);
create unique index privacy_requests_client on privacy_requests (client_id, id);
create index privacy_requests_agency on privacy_requests (agency_id, created_at, id);
select protect('privacy_requests', 'A');
select audited('privacy_requests', 'insert');

alter table calls add column archived_at timestamptz,	-- numbers masked, words gone
	add column erasure_id uuid;			-- by this request: deleted when it is due

-- How far each client's old rows have been dealt with, so that no night walks them all again.
create table retention_marks (
	client_id uuid primary key references clients (id),
	agency_id uuid not null,
	calls_until timestamptz not null default '-infinity',
	run_at timestamptz
);
select protect('retention_marks', 'X');
revoke insert on retention_marks from tl_app, tl_agency;

-- Masks ended calls: p_ids of the caller's client. Their events forget the number as well, raw provider events go.
create function calls_mask(p_ids uuid[], p_request uuid) returns integer language plpgsql security definer as $$
declare
	n integer;
begin
	update calls c set phone_number = 'erased', from_number = case when c.direction = 'inbound' then 'erased' else c.from_number end,
		context = '{}', summary = null, external_ref = null, error_message = null, join_url = null,
		call_settings = c.call_settings - 'greeting' - 'voicemail_message', archived_at = tl_now(),
		erasure_id = coalesce(p_request, c.erasure_id), updated_at = tl_now()
	where c.client_id = tl_client() and c.id = any (p_ids) and call_rank(c.status) = 4 and c.archived_at is null;
	get diagnostics n = row_count;
	update call_artifacts a set items = null, object_key = null, status = case when a.status = 'ready' then 'deleted' else a.status end,
		updated_at = tl_now()
	where a.client_id = tl_client() and a.call_id = any (p_ids);
	update events e set data = e.data || '{"phone_number":"erased"}'
	where e.client_id = tl_client() and e.resource_id = any (p_ids) and e.data ? 'phone_number';
	return n;
end $$;

-- Raw provider events that name a number or belong to a client.
create function inbound_forget(p_text text) returns void language plpgsql security definer as $$
begin
	delete from inbound_events i where i.client_id = tl_client() and (p_text is null or position(p_text in i.body) > 0);
end $$;

-- Forgets a user: address, name and subject masked, never to come in again; the audit keeps its hashes.
create function user_forget(p_id uuid) returns void language plpgsql security definer as $$
begin
	update users u set email = null, name = null, is_active = false, deleted_at = coalesce(u.deleted_at, tl_now()), updated_at = tl_now(),
		issuer = case when u.subject is not null then 'erased' end, subject = case when u.subject is not null then 'erased:' || u.id end,
		invited_at = null
	where u.id = p_id and u.agency_id = tl_agency() and (tl_client() is null or u.client_id = tl_client());
end $$;

-- Masks a client and closes it: nobody comes in, nothing is sent; its agents are marked for the provider's copies to go.
create function client_forget(p_client uuid) returns setof uuid language plpgsql security definer as $$
begin
	if p_client is distinct from tl_client() then
		raise sqlstate 'TL404' using message = 'No such client';
	end if;
	update clients c set name = 'erased', email = 'erased+' || c.id, subscription_status = 'cancelled', settings = '{}',
		deleted_at = coalesce(c.deleted_at, tl_now()), updated_at = tl_now() where c.id = p_client;
	update api_keys k set revoked_at = coalesce(k.revoked_at, tl_now()), is_active = false,
		sealed = case when k.service = 'ultravox' then k.sealed end, updated_at = tl_now() where k.client_id = p_client;
	perform user_forget(u.id) from users u where u.client_id = p_client;
	delete from webhook_endpoints w where w.client_id = p_client;
	return query update agents a set name = 'erased', description = null, system_prompt = 'erased', settings = '{}',
		deleted_at = coalesce(a.deleted_at, tl_now()), updated_at = tl_now() where a.client_id = p_client returning a.id;
end $$;

-- The hard end, in batches: true while there is more. Ledger and audit chain stay, without words.
create function client_purge(p_client uuid, p_most integer) returns boolean language plpgsql security definer as $$
declare
	n integer;
begin
	if p_client is distinct from tl_client() then
		raise sqlstate 'TL404' using message = 'No such client';
	end if;
	delete from calls c where c.client_id = p_client and c.id in (select o.id from calls o where o.client_id = p_client limit p_most);
	get diagnostics n = row_count;
	if n = 0 then
		delete from events e where e.client_id = p_client and e.seq in (select o.seq from events o where o.client_id = p_client limit p_most);
		get diagnostics n = row_count;
	end if;
	if n = 0 then
		update audit_log l set diff = null where l.client_id = p_client and l.diff is not null and l.id in
			(select o.id from audit_log o where o.client_id = p_client and o.diff is not null limit p_most);
		get diagnostics n = row_count;
	end if;
	if n = 0 then
		delete from agents a where a.client_id = p_client;
		delete from idempotency_keys i where i.client_id = p_client;
		delete from inbound_events i where i.client_id = p_client;
		update api_keys k set sealed = null, key_name = 'erased ' || k.id where k.client_id = p_client and k.key_name not like 'erased %';
		update credit_transactions t set description = null where t.client_id = p_client and t.description is not null;
	end if;
	return n > 0;
end $$;

-- A record's diffs of the audit, and nothing but those.
create function audit_forget(p_record text) returns void language plpgsql security definer as $$
begin
	update audit_log l set diff = null where l.agency_id = tl_agency() and (tl_client() is null or l.client_id = tl_client())
		and l.record_id = p_record and l.diff is not null;
end $$;

-- What a client's retention says, and what of its old rows is due.
create function retention_days(p_kind text, p_default integer) returns interval language plpgsql stable security definer as $$
begin
	return coalesce((select (c.settings -> 'retention_days' ->> p_kind)::integer from clients c where c.id = tl_client()), p_default)
		* interval '1 day';
end $$;

create function retention_events(p_most integer) returns integer language plpgsql security definer as $$
declare
	n integer;
begin
	delete from webhook_deliveries d where d.client_id = tl_client() and d.id in (select o.id from webhook_deliveries o
		where o.client_id = tl_client() and o.created_at < tl_now() - interval '30 days' and o.status in ('delivered', 'failed_permanently')
		limit p_most);
	delete from events e where e.client_id = tl_client() and e.seq in (select o.seq from events o where o.client_id = tl_client()
		and o.created_at < tl_now() - interval '30 days' order by o.seq limit p_most);
	get diagnostics n = row_count;
	return n;
end $$;

-- From the start of the chain; the anchor remembers where it was cut.
create function retention_audit(p_agency uuid, p_client uuid, p_most integer) returns integer language plpgsql security definer as $$
declare
	last audit_log;
	n integer;
begin
	if tl_agency() is not null and (p_agency <> tl_agency() or p_client is distinct from tl_client()) then
		raise sqlstate 'TL404' using message = 'No such chain';
	end if;
	select l.* into last from (select * from audit_log o where o.agency_id = p_agency and o.client_id is not distinct from p_client
		order by o.seq limit p_most) l where l.created_at < tl_now() - interval '2 years' order by l.seq desc limit 1;
	if not found then
		return 0;
	end if;
	perform set_config('tl.audit_broom', 'on', true);
	delete from audit_log l where l.agency_id = p_agency and l.client_id is not distinct from p_client and l.seq <= last.seq;
	get diagnostics n = row_count;
	perform set_config('tl.audit_broom', '', true);
	update audit_chains c set anchor_seq = last.seq, anchor_hash = last.hash
		where c.agency_id = p_agency and c.client_id is not distinct from p_client;
	return n;
end $$;

create function retention_mark(p_until timestamptz) returns void language plpgsql security definer as $$
begin
	insert into retention_marks as m (client_id, agency_id, calls_until, run_at) values (tl_client(), tl_agency(), p_until, tl_now())
		on conflict (client_id) do update set calls_until = greatest(m.calls_until, excluded.calls_until), run_at = excluded.run_at;
end $$;

-- The nightly start: a job for each client that has none yet, and one for each agency's own chain.
create function retention_start(p_after uuid, p_most integer) returns uuid language plpgsql security definer as $$
declare
	r record;
	last uuid;
begin
	for r in select c.id, c.agency_id from clients c where c.id > p_after order by c.id limit p_most loop
		insert into jobs (id, agency_id, client_id, queue, kind, status, run_at, dedupe_key)
			values (gen_random_uuid(), r.agency_id, r.id, 'q-artifacts-sync', 'retention.client', 'queued', tl_now(), 'retention:' || r.id)
			on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
		last := r.id;
	end loop;
	perform retention_audit(h.agency_id, null, 1000) from audit_chains h where h.client_id is null and last is null;
	return last;
end $$;

-- A page of what is kept about a subject, by the caller's own door: row-level security decides what there is.
create function export_page(p_table text, p_type text, p_value text, p_after uuid, p_most integer)
returns table (id uuid, doc text) language plpgsql stable as $$
begin
	case p_table
	when 'client' then return query select c.id, (to_jsonb(c) - 'cursor_us')::text from client_rows c where p_type = 'client';
	when 'users' then return query select u.id, to_jsonb(u)::text from users u
		where (p_type = 'client' or (p_type = 'user' and u.id::text = p_value)) and u.id > p_after order by u.id limit p_most;
	when 'agents' then return query select a.id, to_jsonb(a)::text from agents a
		where p_type = 'client' and a.id > p_after order by a.id limit p_most;
	when 'api_keys' then return query select k.id, (to_jsonb(k) - 'sealed' - 'secret_hash')::text from api_keys k
		where p_type = 'client' and k.id > p_after order by k.id limit p_most;
	when 'webhooks' then return query select w.id, (to_jsonb(w) - 'secret_sealed')::text from webhook_endpoints w
		where p_type = 'client' and w.id > p_after order by w.id limit p_most;
	when 'calls' then return query select c.id, (to_jsonb(c) || jsonb_build_object(
			'transitions', (select coalesce(jsonb_agg(t order by t.seq), '[]') from call_transitions t
				where t.client_id = c.client_id and t.call_id = c.id),
			'artifacts', (select coalesce(jsonb_agg(f), '[]') from call_artifacts f
				where f.client_id = c.client_id and f.call_id = c.id)))::text from calls c
		where (p_type = 'client' or (p_type = 'phone' and (c.phone_number = p_value or c.from_number = p_value)))
			and c.id > p_after order by c.id limit p_most;
	when 'events' then return query select e.id, to_jsonb(e)::text from events e
		where (p_type = 'client' or (p_type = 'phone' and e.data ->> 'phone_number' = p_value))
			and e.id > p_after order by e.id limit p_most;
	when 'credit_transactions' then return query select t.id, to_jsonb(t)::text from credit_transactions t
		where p_type = 'client' and t.id > p_after order by t.id limit p_most;
	when 'audit' then return query select l.id, to_jsonb(l)::text from audit_log l
		where (p_type = 'client' or (p_type = 'user' and (l.actor_id = p_value or l.record_id = p_value)))
			and l.id > p_after order by l.id limit p_most;
	end case;
end $$;

select definers();
revoke all on function retention_start(uuid, integer), retention_audit(uuid, uuid, integer) from tl_app, tl_agency;
grant execute on function retention_audit(uuid, uuid, integer) to tl_app;

create view privacy_rows with (security_invoker = true) as
	select id, client_id, kind, jsonb_build_object('type', subject_type, 'value', subject_value) as subject, status, due_at, bytes, error,
		finished_at, created_at, updated_at, object_key, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from privacy_requests;
grant select on privacy_rows to tl_app, tl_agency, tl_system, tl_ledger;
