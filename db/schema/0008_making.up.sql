-- What a call is made of: voices, knowledge bases, tools, telephone numbers, and how agents are linked to them.

create table voices (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	name text not null,
	description text,
	language text not null,
	provider text not null,		-- who speaks: ultravox for a native clone, else the provider it is referenced from
	type text not null check (type in ('custom', 'reference')),
	provider_voice_id text,
	overrides jsonb not null default '{}',
	status text not null check (status in ('training', 'active', 'failed')),
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	revision integer not null default 1,
	pushed_revision integer not null default 0,
	trainings integer not null default 1,
	hold_id uuid,
	progress integer not null default 0,
	started_at timestamptz,
	completed_at timestamptz,
	ultravox_voice_id text,
	credential_id uuid,
	preview jsonb,			-- what was made last: object, type, until
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id),
	check (status <> 'active' or ultravox_voice_id is not null)
);
create index voices_client on voices (client_id, created_at, id);
create index voices_agency on voices (agency_id, created_at, id);
create index voices_training on voices (created_at) where status = 'training' and deleted_at is null;

create table voice_samples (
	agency_id uuid not null,
	client_id uuid not null,
	voice_id uuid not null,
	position integer not null,
	upload_id uuid not null,
	text text,
	duration_seconds numeric not null,
	format text not null,
	primary key (client_id, voice_id, position),
	foreign key (client_id, voice_id) references voices (client_id, id) on delete cascade,
	foreign key (client_id, upload_id) references uploads (client_id, id)
);

create table knowledge_bases (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	name text not null,
	description text,
	language text not null,
	status text not null check (status in ('creating', 'ready', 'processing', 'failed')),
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	revision integer not null default 1,
	pushed_revision integer not null default 0,
	ultravox_corpus_id text,
	credential_id uuid,
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id),
	check (status in ('creating', 'failed') or ultravox_corpus_id is not null)
);
create index knowledge_bases_client on knowledge_bases (client_id, created_at, id);
create index knowledge_bases_agency on knowledge_bases (agency_id, created_at, id);

create table kb_documents (
	id uuid primary key,		-- of a file: its upload's
	agency_id uuid not null,
	client_id uuid not null,
	knowledge_base_id uuid not null,
	kind text not null check (kind in ('file', 'url')),
	upload_id uuid,
	file_name text,
	file_type text,
	file_size bigint,
	url text,
	crawl jsonb not null default '{}',
	copy_from text,			-- object of an exported document, until ours is made of it
	status text not null check (status in ('pending_upload', 'uploaded', 'processing', 'indexed', 'failed')),
	ultravox_source_id text,
	error_message text,
	started_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id),
	foreign key (client_id, knowledge_base_id) references knowledge_bases (client_id, id) on delete cascade,
	foreign key (client_id, upload_id) references uploads (client_id, id)
);
create index kb_documents_client on kb_documents (client_id, knowledge_base_id, created_at, id);
create index kb_documents_agency on kb_documents (agency_id, knowledge_base_id, created_at, id);

create table tools (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	name text not null,
	description text,
	category text,
	endpoint text not null,
	method text not null check (method in ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
	authentication jsonb not null default '{"type":"none"}',
	auth_ciphertext bytea,
	parameters jsonb,
	response_schema jsonb,
	timeout_seconds integer not null default 5 check (timeout_seconds between 1 and 40),
	status text not null check (status in ('creating', 'active', 'failed')),
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	revision integer not null default 1,
	pushed_revision integer not null default 0,
	ultravox_tool_id text,
	credential_id uuid,
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id),
	check (status <> 'active' or ultravox_tool_id is not null)
);
create index tools_client on tools (client_id, created_at, id);
create index tools_agency on tools (agency_id, created_at, id);

create table agent_tools (
	agency_id uuid not null,
	client_id uuid not null,
	agent_id uuid not null,
	id uuid generated always as (agent_id) stored,	-- the audit knows it as the agent's
	tool_id uuid not null,
	position integer not null,
	enabled boolean not null default true,
	parameters jsonb not null default '{}',
	primary key (client_id, agent_id, tool_id),
	foreign key (client_id, agent_id) references agents (client_id, id) on delete cascade,
	foreign key (client_id, tool_id) references tools (client_id, id)
);
create index agent_tools_tool on agent_tools (client_id, tool_id);

create table agent_knowledge_bases (
	agency_id uuid not null,
	client_id uuid not null,
	agent_id uuid not null,
	id uuid generated always as (agent_id) stored,	-- the audit knows it as the agent's
	knowledge_base_id uuid not null,
	position integer not null,
	primary key (client_id, agent_id, knowledge_base_id),
	foreign key (client_id, agent_id) references agents (client_id, id) on delete cascade,
	foreign key (client_id, knowledge_base_id) references knowledge_bases (client_id, id)
);
create index agent_knowledge_bases_kb on agent_knowledge_bases (client_id, knowledge_base_id);

create table phone_numbers (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	phone_number text not null,
	label text,
	provider text not null default 'telnyx',
	origin text not null check (origin in ('purchase', 'import')),
	status text not null check (status in ('pending', 'active', 'failed', 'released')),
	agent_id uuid,
	outbound_agent_id uuid,
	features jsonb not null default '[]',
	provider_number_id text,
	credential_id uuid,
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	releasing boolean not null default false,
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	foreign key (client_id, agent_id) references agents (client_id, id),
	foreign key (client_id, outbound_agent_id) references agents (client_id, id)
);
create unique index phone_numbers_own on phone_numbers (client_id, phone_number) where status in ('pending', 'active');
create unique index phone_numbers_live on phone_numbers (phone_number) where status = 'active';
create index phone_numbers_client on phone_numbers (client_id, created_at, id);
create index phone_numbers_agency on phone_numbers (agency_id, created_at, id);

create table number_orders (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null,
	number_id uuid not null,
	provider_order_id text,
	status text not null check (status in ('pending', 'success', 'failure')),
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	foreign key (client_id, number_id) references phone_numbers (client_id, id) on delete cascade
);
create index number_orders_number on number_orders (client_id, number_id);

select protect(t::regclass, 'C') from unnest(array['voices', 'voice_samples', 'knowledge_bases', 'kb_documents', 'tools', 'agent_tools',
	'agent_knowledge_bases', 'phone_numbers', 'number_orders']) t;
select audited(t::regclass, 'insert or update or delete') from unnest(array['voices', 'knowledge_bases', 'kb_documents', 'tools',
	'agent_tools', 'agent_knowledge_bases', 'phone_numbers']) t;

-- How a call reaches people: the carrier dials, somebody bridges it to the join URL, or a browser joins (which has no number).
alter table calls alter column phone_number drop not null,
	add column medium text not null default 'phone' check (medium in ('phone', 'bridge', 'web')),
	add constraint calls_number check (phone_number is not null or medium = 'web');

alter table call_artifacts add column sha256 text;	-- of what the provider gave, hexadecimal

-- Agents name what they use by rows, not by lists in a column.
drop view agent_rows;
alter table agents drop column tools, drop column knowledge_bases,
	add foreign key (client_id, voice_id) references voices (client_id, id);
create index agents_voice on agents (client_id, voice_id) where voice_id is not null;

create view agent_rows with (security_invoker = true) as
	select a.id, a.client_id, a.name, a.description, a.voice_id, a.system_prompt, a.model,
		(select coalesce(jsonb_agg(jsonb_build_object('tool_id', t.tool_id, 'enabled', t.enabled, 'parameters', t.parameters)
			order by t.position), '[]') from agent_tools t where t.client_id = a.client_id and t.agent_id = a.id) as tools,
		(select coalesce(jsonb_agg(k.knowledge_base_id order by k.position), '[]') from agent_knowledge_bases k
			where k.client_id = a.client_id and k.agent_id = a.id) as knowledge_bases,
		a.settings, a.status, a.sync_status, a.revision, a.ultravox_agent_id, a.last_error, a.created_at, a.updated_at,
		(extract(epoch from a.created_at) * 1000000)::bigint as cursor_us
	from agents a where a.deleted_at is null;

create view voice_rows with (security_invoker = true) as
	select id, client_id, name, description, provider, type, language, status, sync_status,
		jsonb_build_object('progress', progress, 'started_at', started_at, 'completed_at', completed_at) as training_info,
		provider_voice_id, ultravox_voice_id, last_error, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from voices where deleted_at is null;

create view kb_rows with (security_invoker = true) as
	select k.id, k.client_id, k.name, k.description, k.language, k.status, k.sync_status,
		(select jsonb_build_object('total', count(*), 'indexed', count(*) filter (where d.status = 'indexed'),
			'processing', count(*) filter (where d.status in ('uploaded', 'processing')),
			'failed', count(*) filter (where d.status = 'failed'))
			from kb_documents d where d.client_id = k.client_id and d.knowledge_base_id = k.id and d.deleted_at is null
			and d.status <> 'pending_upload') as document_counts,
		k.ultravox_corpus_id, k.last_error, k.created_at, k.updated_at,
		(extract(epoch from k.created_at) * 1000000)::bigint as cursor_us
	from knowledge_bases k where k.deleted_at is null;

create view kb_document_rows with (security_invoker = true) as
	select id, client_id, id as doc_id, knowledge_base_id, kind, file_name, file_type, file_size, url, status, ultravox_source_id,
		error_message, created_at, updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from kb_documents where deleted_at is null;

create view tool_rows with (security_invoker = true) as
	select id, client_id, name, description, category, endpoint, method, authentication, parameters, response_schema,
		timeout_seconds, status, sync_status, revision, ultravox_tool_id, last_error, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from tools where deleted_at is null;

create view number_rows with (security_invoker = true) as
	select id, client_id, phone_number, label, provider, origin, status, sync_status, agent_id, outbound_agent_id, features, last_error, created_at,
		updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from phone_numbers;
grant select on agent_rows, voice_rows, kb_rows, kb_document_rows, tool_rows, number_rows to tl_app, tl_agency, tl_system, tl_ledger;

-- Who is at a row's copy at the provider right now: one job at a time, so that two never make two of it or send an older
-- revision after a newer one. `posted`: a creation was sent to that account and its answer is not known.
create table copy_claims (
	agency_id uuid not null,
	client_id uuid not null,
	resource_id uuid not null,
	job_id uuid not null,
	posted boolean not null default false,
	credential_id uuid,
	primary key (client_id, resource_id)
);
select protect('copy_claims', 'S');

-- busy: another living job has it. A dead one's claim passes on with what it had noted.
create function copy_claim(p_resource uuid, p_job uuid) returns table (busy boolean, posted boolean, credential_id uuid)
language plpgsql security definer as $$
begin
	return query insert into copy_claims as c (resource_id, agency_id, client_id, job_id) values (p_resource, tl_agency(), tl_client(), p_job)
		on conflict (client_id, resource_id) do update set job_id = p_job
		where c.job_id = p_job or not exists (select from jobs j where j.id = c.job_id and j.status in ('queued', 'running'))
		returning false, c.posted, c.credential_id;
	if not found then
		return query select true, false, null::uuid;
	end if;
end $$;

create function copy_posted(p_resource uuid, p_job uuid, p_credential uuid) returns void language plpgsql security definer as $$
begin
	update copy_claims c set posted = true, credential_id = p_credential
		where c.resource_id = p_resource and c.client_id = tl_client() and c.job_id = p_job;
	if not found then
		raise sqlstate 'TL001' using message = 'the copy is another job''s now';
	end if;
end $$;

create function copy_release(p_resource uuid, p_job uuid) returns void language plpgsql security definer as $$
begin
	delete from copy_claims c where c.resource_id = p_resource and c.client_id = tl_client() and c.job_id = p_job;
end $$;

-- Gives back what was spent under a reference, once.
create function ledger_refund(p_type text, p_reference text, p_description text) returns void language plpgsql security definer as $$
declare
	spent credit_transactions;
	a credit_accounts;
	t uuid := gen_random_uuid();
begin
	perform from credit_accounts c where c.client_id = tl_client() for update;
	select * into spent from credit_transactions x where x.client_id = tl_client() and x.type = 'spent'
		and x.reference_type = p_type and x.reference_id = p_reference;
	if not found or exists (select from credit_transactions x where x.client_id = tl_client() and x.type = 'refunded'
			and x.reference_type = p_type and x.reference_id = p_reference) then
		return;
	end if;
	update credit_accounts c set balance = balance + spent.amount, version = version + 1, updated_at = tl_now()
		where c.client_id = tl_client() returning * into a;
	perform ledger_move(t, array['revenue', 'available'], array[-spent.amount, spent.amount]);
	insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after, reference_type,
		reference_id, description, actor)
	values (t, tl_agency(), tl_client(), a.version, 'refunded', spent.amount, spent.amount, a.balance, p_type, p_reference,
		p_description, tl_actor());
end $$;

-- Every five minutes: voices in training whose job is gone get one again.
create function voices_adrift(out n integer, out living boolean) language plpgsql security definer as $$
declare
	r record;
begin
	n := 0;
	for r in select v.id, v.agency_id, v.client_id from voices v where v.status = 'training' and v.deleted_at is null
		and v.created_at < tl_now() - interval '5 minutes'
		and not exists (select from jobs j where j.resource_id = v.id and j.status in ('queued', 'running')) limit 500
	loop
		insert into jobs (id, agency_id, client_id, queue, kind, resource_type, resource_id, status, run_at, dedupe_key)
			values (gen_random_uuid(), r.agency_id, r.client_id, 'q-artifacts-sync', 'voice.push', 'voice', r.id, 'queued', tl_now(),
				'voice:' || r.id)
			on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
		n := n + 1;
	end loop;
	living := exists (select from voices v where v.status = 'training' and v.deleted_at is null);
end $$;

-- A document whose file never came goes with its upload.
create or replace function uploads_expire(p_ids uuid[]) returns void language plpgsql security definer as $$
begin
	delete from kb_documents d where d.upload_id = any (p_ids) and d.status = 'pending_upload';
	update uploads u set status = 'expired', updated_at = tl_now() where u.id = any (p_ids) and u.status = 'pending_upload';
end $$;

-- Does anybody here use this number already? Says no more than that.
create function number_taken(p_number text) returns boolean language sql stable security definer as $$
	select exists (select from phone_numbers n where n.phone_number = p_number and n.status = 'active')
$$;

-- Whose order is this? For the carrier's event about it.
create function number_owner(p_number uuid) returns table (client_id uuid, agency_id uuid) language sql stable security definer as $$
	select n.client_id, n.agency_id from phone_numbers n where n.id = p_number
$$;

-- Masks a client and closes it, with all that speaks for it.
create or replace function client_forget(p_client uuid) returns setof uuid language plpgsql security definer as $$
declare
	r record;
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
	for r in
		with t as (update tools x set name = 'erased', description = null, endpoint = 'https://erased.invalid', parameters = null,
			response_schema = null, auth_ciphertext = null, deleted_at = coalesce(x.deleted_at, tl_now()), updated_at = tl_now()
			where x.client_id = p_client returning x.id),
		k as (update knowledge_bases x set name = 'erased', description = null, deleted_at = coalesce(x.deleted_at, tl_now()),
			updated_at = tl_now() where x.client_id = p_client returning x.id),
		v as (update voices x set name = 'erased', description = null, deleted_at = coalesce(x.deleted_at, tl_now()),
			updated_at = tl_now() where x.client_id = p_client returning x.id)
		select 'tool' as kind, id from t union all select 'kb', id from k union all select 'voice', id from v
	loop
		perform job_add(gen_random_uuid(), 'q-artifacts-sync', r.kind || '.push', '{}', r.kind, r.id, tl_now(), 0, null);
	end loop;
	return query update agents a set name = 'erased', description = null, system_prompt = 'erased', settings = '{}',
		deleted_at = coalesce(a.deleted_at, tl_now()), updated_at = tl_now() where a.client_id = p_client returning a.id;
end $$;

-- The hard end, in batches: true while there is more. Ledger and audit chain stay, without words.
create or replace function client_purge(p_client uuid, p_most integer) returns boolean language plpgsql security definer as $$
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
		delete from phone_numbers p where p.client_id = p_client;
		delete from agents a where a.client_id = p_client;
		delete from tools t where t.client_id = p_client;
		delete from knowledge_bases k where k.client_id = p_client;
		delete from voices v where v.client_id = p_client;
		delete from idempotency_keys i where i.client_id = p_client;
		delete from inbound_events i where i.client_id = p_client;
		update api_keys k set sealed = null, key_name = 'erased ' || k.id where k.client_id = p_client and k.key_name not like 'erased %';
		update credit_transactions t set description = null where t.client_id = p_client and t.description is not null;
	end if;
	return n > 0;
end $$;

-- A page of what is kept about a subject, by the caller's own door: row-level security decides what there is.
alter function export_page(text, text, text, uuid, integer) rename to export_page_people;
create function export_page(p_table text, p_type text, p_value text, p_after uuid, p_most integer)
returns table (id uuid, doc text) language plpgsql stable as $$
begin
	case p_table
	when 'voices' then return query select v.id, to_jsonb(v)::text from voices v
		where p_type = 'client' and v.id > p_after order by v.id limit p_most;
	when 'tools' then return query select t.id, (to_jsonb(t) - 'auth_ciphertext')::text from tools t
		where p_type = 'client' and t.id > p_after order by t.id limit p_most;
	when 'knowledge_bases' then return query select k.id, (to_jsonb(k) || jsonb_build_object('documents',
			(select coalesce(jsonb_agg(d), '[]') from kb_documents d where d.client_id = k.client_id and d.knowledge_base_id = k.id)))::text
		from knowledge_bases k where p_type = 'client' and k.id > p_after order by k.id limit p_most;
	when 'phone_numbers' then return query select n.id, to_jsonb(n)::text from phone_numbers n
		where (p_type = 'client' or (p_type = 'phone' and n.phone_number = p_value)) and n.id > p_after order by n.id limit p_most;
	else return query select e.id, e.doc from export_page_people(p_table, p_type, p_value, p_after, p_most) e;
	end case;
end $$;

select definers();
revoke all on function voices_adrift(), number_owner(uuid) from tl_app, tl_agency;
