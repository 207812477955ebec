-- Agencies, clients, users, agents, calls, jobs, events, ledger, webhooks out, provider events in.

-- Words of the state machines. Domains, because PostgreSQL keeps their checks parsed while a table's CHECK is
-- read anew by every statement that writes it.
create domain call_status as text check (value in ('queued', 'dialing', 'unknown', 'ringing', 'in_progress',
	'completed', 'voicemail', 'busy', 'no_answer', 'failed', 'cancelled'));
create domain call_outcome as text check (value in ('completed', 'voicemail', 'call_screened', 'busy', 'no_answer',
	'declined', 'invalid_number', 'failed', 'not_placed', 'cancelled', 'expired', 'no_funds', 'unknown'));
create domain call_direction as text check (value in ('outbound', 'inbound'));
create domain job_status as text check (value in ('queued', 'running', 'done', 'failed', 'dead'));
create domain hold_status as text check (value in ('held', 'settled', 'released'));
create domain idempotency_state as text check (value in ('in_flight', 'done'));

create table agencies (
	id uuid primary key,
	agency_id uuid generated always as (id) stored,
	client_id uuid,		-- always null: an agency's own row belongs to no client
	name text not null check (length(name) between 1 and 100),
	settings jsonb not null default '{}',
	limits jsonb not null default '{}',
	is_active boolean not null default true,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (agency_id, id),
	check (client_id is null)
);

create table clients (
	id uuid primary key,
	client_id uuid generated always as (id) stored,
	agency_id uuid not null references agencies (id),
	name text not null check (length(name) between 1 and 100),
	email text not null,
	mode text not null default 'live' check (mode in ('live', 'test')),
	subscription_status text not null default 'active' check (subscription_status in ('active', 'suspended', 'cancelled')),
	price_per_minute integer not null default 1 check (price_per_minute between 0 and 1000),
	credits_ceiling integer not null default 10000,
	limits jsonb not null default '{}',
	settings jsonb not null default '{}',
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id)
);
create unique index clients_email on clients (agency_id, email) where deleted_at is null;
create index clients_agency on clients (agency_id, created_at, id);

create table users (
	id uuid primary key,
	agency_id uuid not null references agencies (id),
	client_id uuid references clients (id),
	issuer text not null,
	subject text not null,
	email text,
	name text,
	role text not null check (role in ('agency_admin', 'client_admin', 'client_user')),
	is_active boolean not null default true,
	last_seen_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now()
);
create unique index users_client_id on users (client_id, id);
create unique index users_subject on users (agency_id, issuer, subject, client_id) nulls not distinct;
create index users_agency on users (agency_id, created_at, id);

create table agents (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	name text not null,
	description text,
	voice_id uuid,
	system_prompt text not null,
	model text not null,
	tools jsonb not null default '[]',
	knowledge_bases jsonb not null default '[]',
	settings jsonb not null default '{}',
	status text not null check (status in ('creating', 'active', 'failed')),
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	revision integer not null default 1,
	pushed_revision integer not null default 0,
	ultravox_agent_id text,
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	deleted_at timestamptz,
	unique (client_id, id),
	check (status <> 'active' or ultravox_agent_id is not null)
);
create index agents_client on agents (client_id, created_at, id);
create index agents_agency on agents (agency_id, created_at, id);
create unique index agents_provider on agents (ultravox_agent_id) where ultravox_agent_id is not null;

create table calls (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null,	-- guarded by the agent's key below
	agent_id uuid not null,
	campaign_id uuid,
	contact_id uuid,
	external_ref text,
	ultravox_call_id text,
	carrier_call_id text,
	phone_number text not null,
	from_number text,
	direction call_direction not null,
	status call_status not null,
	outcome call_outcome,
	end_reason_raw text,
	carrier_cause text,
	context jsonb not null default '{}',
	call_settings jsonb not null default '{}',
	intended_at timestamptz,
	started_at timestamptz,
	answered_at timestamptz,
	ended_at timestamptz,
	provider_ended_at timestamptz,
	duration_seconds integer,
	billed_seconds integer,
	provider_max_seconds integer,
	hold_id uuid,
	price_per_minute integer not null,
	credits_held integer not null default 0,
	credits_charged integer not null default 0,
	cost_micros bigint,
	summary text,
	join_url text,
	cancel_requested boolean not null default false,
	error_code text,
	error_message text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	foreign key (client_id, agent_id) references agents (client_id, id)
);
create index calls_client on calls (client_id, created_at, id);
create index calls_agency on calls (agency_id, created_at, id);
create index calls_agent on calls (client_id, agent_id, created_at, id);
create unique index calls_provider on calls (ultravox_call_id) where ultravox_call_id is not null;
create index calls_carrier on calls (carrier_call_id) where carrier_call_id is not null;
create index calls_live on calls (client_id) where status in ('dialing', 'unknown', 'ringing', 'in_progress');
create index calls_live_agency on calls (agency_id) where status in ('dialing', 'unknown', 'ringing', 'in_progress');
create index calls_unbilled on calls (ended_at) where hold_id is not null and ended_at is not null and billed_seconds is null;

create table call_transitions (
	agency_id uuid not null,
	client_id uuid not null,
	call_id uuid not null,
	seq integer not null,
	from_status text,
	to_status text not null,
	source text not null check (source in ('api', 'job', 'webhook', 'reconcile')),
	raw text,
	at timestamptz not null default tl_now(),
	primary key (client_id, call_id, seq),
	foreign key (client_id, call_id) references calls (client_id, id) on delete cascade
);

create table call_artifacts (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null,
	call_id uuid not null,
	kind text not null check (kind in ('recording', 'transcript')),
	status text not null check (status in ('pending', 'ready', 'none', 'disabled', 'failed', 'deleted')),
	object_key text,
	format text,
	bytes bigint,
	duration_seconds numeric,
	items jsonb,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	unique (client_id, call_id, kind),
	foreign key (client_id, call_id) references calls (client_id, id) on delete cascade
);

create table event_streams (
	client_id uuid primary key references clients (id),
	agency_id uuid not null,
	last_seq bigint not null default 0
);

create table events (
	agency_id uuid not null,
	client_id uuid not null,	-- written by event_append alone, beside its stream
	seq bigint not null,
	id uuid not null,
	type text not null,
	resource_type text not null,
	resource_id uuid not null,
	data jsonb not null,
	created_at timestamptz not null default tl_now(),
	primary key (client_id, seq),
	unique (client_id, id)
);

create table webhook_endpoints (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	url text not null,
	event_types text[] not null,
	secret_sealed bytea not null,
	enabled boolean not null default true,
	description text,
	retry_config jsonb not null default '{}',
	disabled_reason text,
	failing_since timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id)
);
create index webhook_endpoints_client on webhook_endpoints (client_id, created_at, id);
create index webhook_endpoints_agency on webhook_endpoints (agency_id, created_at, id);

create table webhook_deliveries (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null,
	endpoint_id uuid not null,
	event_id uuid not null,
	event_type text not null,
	resend_no integer not null default 0,
	origin text not null default 'event' check (origin in ('event', 'test', 'resend', 'recover')),
	status text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'failed_permanently')),
	attempt integer not null default 0,
	next_attempt_at timestamptz,
	response_code integer,
	error_message text,
	delivered_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	unique (client_id, endpoint_id, event_id, resend_no),
	foreign key (client_id, endpoint_id) references webhook_endpoints (client_id, id) on delete cascade
);

create table webhook_attempts (
	agency_id uuid not null,
	client_id uuid not null,
	delivery_id uuid not null,
	n integer not null,
	at timestamptz not null,
	duration_ms integer not null,
	response_code integer,
	response_body text,
	error text,
	primary key (client_id, delivery_id, n),
	foreign key (client_id, delivery_id) references webhook_deliveries (client_id, id) on delete cascade
);

create table jobs (
	id uuid primary key,
	agency_id uuid,
	client_id uuid,
	queue text not null,
	kind text not null,
	payload jsonb not null default '{}',
	resource_type text,
	resource_id uuid,
	request_id text,
	status job_status not null,
	run_at timestamptz not null,
	attempts integer not null default 0,
	generation bigint not null default 0,
	lease_until timestamptz,
	dedupe_key text,
	last_error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	finished_at timestamptz,
	check (status <> 'running' or lease_until is not null)
);
create index jobs_due on jobs (run_at) where status = 'queued';
create index jobs_leased on jobs (lease_until) where status = 'running';
create unique index jobs_dedupe on jobs (dedupe_key) where status in ('queued', 'running');
create index jobs_finished on jobs (finished_at) where finished_at is not null;

create table idempotency_keys (
	scope_id uuid not null,
	key text not null,
	agency_id uuid not null,
	client_id uuid,
	fingerprint bytea not null,
	state idempotency_state not null,
	status_code integer not null,
	body_sealed bytea not null,
	lease_until timestamptz not null,
	expires_at timestamptz not null,
	created_at timestamptz not null default tl_now(),
	primary key (scope_id, key)
);
create index idempotency_expiry on idempotency_keys (expires_at);

create table credit_accounts (
	client_id uuid primary key references clients (id),
	agency_id uuid not null,
	balance bigint not null default 0 check (balance >= 0),
	held bigint not null default 0 check (held >= 0),
	debt bigint not null default 0 check (debt >= 0),
	version bigint not null default 0,
	updated_at timestamptz not null default tl_now(),
	check (held <= balance)
);

create table credit_holds (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null,	-- written by ledger_hold alone, beside its account
	amount bigint not null check (amount > 0),
	settled_amount bigint,
	status hold_status not null,
	reference_type text not null,
	reference_id text not null,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id),
	unique (client_id, reference_type, reference_id),
	check (settled_amount is null or settled_amount between 0 and amount)
);
create index credit_holds_open on credit_holds (created_at) where status = 'held';

create table ledger_accounts (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	kind text not null check (kind in ('available', 'held', 'revenue', 'purchases', 'adjustments')),
	unique (client_id, id),
	unique (client_id, kind)
);

create table ledger_entries (
	client_id uuid not null,
	agency_id uuid not null,
	transaction_id uuid not null,
	account_id uuid not null,
	amount bigint not null,
	created_at timestamptz not null default tl_now(),
	primary key (client_id, transaction_id, account_id)	-- accounts are looked up by ledger_move itself
);

create table credit_transactions (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	version bigint not null,
	type text not null check (type in ('purchased', 'spent', 'refunded', 'adjusted', 'reversed')),
	amount bigint not null check (amount > 0),
	delta bigint not null check (abs(delta) = amount),
	balance_after bigint not null,
	reference_type text not null,
	reference_id text not null,
	description text,
	estimated boolean not null default false,
	actor text,
	created_at timestamptz not null default tl_now(),
	unique (client_id, id),
	unique (client_id, version),
	unique (client_id, type, reference_type, reference_id)
);

create table inbound_events (
	id uuid primary key,
	agency_id uuid,
	client_id uuid,
	provider text not null,
	dedupe_key text not null,
	type text not null,
	headers jsonb not null default '{}',
	body text not null,
	verified_at timestamptz not null,
	status text not null check (status in ('received', 'processed', 'ignored', 'failed', 'unresolved')),
	attempts integer not null default 0,
	error text,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (provider, dedupe_key)
);
create index inbound_events_created on inbound_events (created_at, id);

-- Small sealed facts of the installation: the provider webhook's secret, the carrier's key, the
-- check value of the master key. No tenant's data.
create table vault (
	name text primary key,
	sealed bytea not null,
	updated_at timestamptz not null default tl_now()
);

-- Business time under --test-clock, so that a restarted server goes on where it was.
create table clock_state (
	one boolean primary key default true check (one),
	frozen_us bigint not null
);

select protect('agencies', 'A'), protect('clients', 'C'), protect('users', 'A'), protect('agents', 'C'),
	protect('calls', 'C'), protect('call_transitions', 'X'), protect('call_artifacts', 'C'),
	protect('events', 'X'), protect('webhook_endpoints', 'C'), protect('webhook_deliveries', 'C'),
	protect('webhook_attempts', 'X'), protect('idempotency_keys', 'A'),
	protect('jobs', 'S'), protect('inbound_events', 'S'), protect('vault', 'S'), protect('clock_state', 'S');

-- Read by their owner, written by definer functions alone.
select protect(t::regclass, 'X') from unnest(array['credit_accounts', 'credit_holds', 'ledger_accounts',
	'ledger_entries', 'credit_transactions', 'event_streams']) t;
revoke insert on credit_accounts, credit_holds, ledger_accounts, ledger_entries, credit_transactions,
	event_streams, events from tl_app, tl_agency;
