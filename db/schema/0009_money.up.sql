-- Calls in full, and the money: what a person may do to a call, numbers that are not called, the till.

alter table calls drop constraint calls_number,
	add constraint calls_number check (phone_number is not null or medium <> 'phone'),
	add column opt_out boolean not null default false;

-- Numbers nobody here calls any more: a client's, or (client_id null) a whole agency's.
create table suppressions (
	id uuid primary key,
	agency_id uuid not null references agencies (id),
	client_id uuid references clients (id),
	phone_number text not null,
	reason text,
	source text not null check (source in ('api', 'call')),
	call_id uuid,
	expires_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now()
);
create unique index suppressions_client_id on suppressions (client_id, id);
create unique index suppressions_number on suppressions (agency_id, client_id, phone_number) nulls not distinct;
create index suppressions_agency on suppressions (agency_id, created_at, id);
select protect('suppressions', 'A');
select audited('suppressions', 'insert or update or delete');

-- May the client call this number? Its agency's own list counts too, which the client's door cannot see.
create function number_suppressed(p_number text) returns boolean language plpgsql stable security definer as $$
begin
	return exists (select from suppressions s where s.agency_id = tl_agency() and (s.client_id = tl_client() or s.client_id is null)
		and s.phone_number = p_number and (s.expires_at is null or s.expires_at > tl_now()));
end $$;

alter table audit_log drop constraint audit_log_action_check,
	add constraint audit_log_action_check check (action in ('create', 'update', 'delete', 'use', 'resolve'));

-- A person's word on a call that nobody could find, in the audit of its client.
create function call_resolved(p_call uuid, p_outcome text) returns void language sql security definer as $$
	select audit_append(tl_agency(), tl_client(), 'resolve', 'calls', p_call::text, jsonb_build_object('outcome', p_outcome))
$$;

-- Whose agent is this at the provider? For calls that come in.
create function agent_owner(p_provider_id text) returns table (agent_id uuid, client_id uuid, agency_id uuid)
language sql stable security definer as $$
	select a.id, a.client_id, a.agency_id from agents a join clients c on c.id = a.client_id
	where a.ultravox_agent_id = p_provider_id and a.deleted_at is null and c.deleted_at is null
$$;

-- Provider events of an agency's clients, newest first, for its admins.
create function inbound_page(p_provider text, p_status text, p_type text, p_from timestamptz, p_to timestamptz, p_after_us bigint, p_after_id uuid,
	p_most bigint)
returns table (id uuid, client_id uuid, provider text, type text, status text, attempts integer, error text, created_at timestamptz,
	updated_at timestamptz, cursor_us bigint) language plpgsql stable security definer as $$
begin
	return query select i.id, i.client_id, i.provider, i.type, i.status, i.attempts, i.error, i.created_at, i.updated_at,
		(extract(epoch from i.created_at) * 1000000)::bigint
	from inbound_events i where i.agency_id = tl_agency() and (tl_client() is null or i.client_id = tl_client())
		and (p_provider is null or i.provider = any (string_to_array(p_provider, ',')))
		and (p_status is null or i.status = any (string_to_array(p_status, ',')))
		and (p_type is null or i.type = any (string_to_array(p_type, ',')))
		and (p_from is null or i.created_at >= p_from) and (p_to is null or i.created_at < p_to)
		and (p_after_us is null or (i.created_at, i.id) < (to_timestamp(p_after_us / 1000000.0), p_after_id))
	order by i.created_at desc, i.id desc limit p_most;
end $$;
create index inbound_events_agency on inbound_events (agency_id, created_at, id);

-- Once more, after whatever was wrong has been mended.
create function inbound_again(p_id uuid) returns table (id uuid) language plpgsql security definer as $$
begin
	return query update inbound_events i set status = 'received', error = null, updated_at = tl_now()
		where i.id = p_id and i.agency_id = tl_agency() and (tl_client() is null or i.client_id = tl_client())
			and i.status in ('failed', 'unresolved', 'ignored', 'processed') returning i.id;
	if found then
		insert into jobs (id, queue, kind, resource_type, resource_id, status, run_at, dedupe_key)
			values (gen_random_uuid(), 'q-artifacts-sync', 'inbound.process', 'inbound_event', p_id, 'queued', tl_now(), 'inbound:' || p_id)
			on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
	end if;
end $$;

-- The till. A checkout is one purchase on its way; a grant is what a payment gave, once for each payment whoever tells of it.
alter table clients add column stripe_customer_id text, add column subscription_told bigint not null default 0;	-- Unix time of the event
create unique index clients_stripe on clients (stripe_customer_id) where stripe_customer_id is not null;

create table checkouts (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	credits bigint not null check (credits > 0),
	amount_cents bigint not null check (amount_cents > 0),
	currency text not null,
	status text not null check (status in ('pending', 'open', 'paid', 'expired', 'failed', 'reversed')),
	sync_status text not null default 'pending' check (sync_status in ('synced', 'pending', 'failed')),
	session_id text,
	payment_intent text,
	url text,
	success_url text not null,
	cancel_url text not null,
	last_error text,
	expires_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id)
);
create unique index checkouts_session on checkouts (session_id) where session_id is not null;
create index checkouts_client on checkouts (client_id, created_at, id);
select protect('checkouts', 'C');
select audited('checkouts', 'insert or update');

create table payment_grants (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	grant_key text not null,
	credits bigint not null check (credits > 0),
	amount_cents bigint not null,
	currency text not null,
	refunded_cents bigint not null default 0,
	disputed_cents bigint not null default 0,
	dispute_told bigint not null default 0,		-- Unix time of the event
	reversed_credits bigint not null default 0 check (reversed_credits between 0 and credits),
	inbound_event_id uuid,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id)
);
create unique index payment_grants_key on payment_grants (grant_key);
select protect('payment_grants', 'X');
revoke insert on payment_grants from tl_app, tl_agency;

create view checkout_rows with (security_invoker = true) as
	select id, client_id, session_id, url, credits, amount_cents, currency, status, sync_status, last_error, expires_at, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from checkouts;
create view transaction_rows with (security_invoker = true) as
	select id, client_id, type, amount, delta, balance_after, reference_type, reference_id, description, estimated, created_at,
		created_at as updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from credit_transactions;
create view suppression_rows with (security_invoker = true) as
	select id, client_id, phone_number, reason, source, call_id, expires_at, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from suppressions;
grant select on checkout_rows, transaction_rows, suppression_rows to tl_app, tl_agency, tl_system, tl_ledger;

-- Credits for money, once a payment. Debt is paid first, as what the purchase reverses no more.
create function ledger_grant(p_key text, p_credits bigint, p_amount_cents bigint, p_currency text, p_event uuid)
returns table (granted boolean, balance bigint, id uuid) language plpgsql security definer as $$
declare
	a credit_accounts;
	t uuid := gen_random_uuid();
	owed bigint;
begin
	perform from credit_accounts c where c.client_id = tl_client() for update;
	insert into payment_grants (id, agency_id, client_id, grant_key, credits, amount_cents, currency, inbound_event_id)
		values (t, tl_agency(), tl_client(), p_key, p_credits, p_amount_cents, p_currency, p_event) on conflict (grant_key) do nothing;
	if not found then
		return query select false, c.balance, null::uuid from credit_accounts c where c.client_id = tl_client();
		return;
	end if;
	select least(c.debt, p_credits) into owed from credit_accounts c where c.client_id = tl_client();
	update credit_accounts c set balance = c.balance + p_credits, version = version + 1, updated_at = tl_now()
		where c.client_id = tl_client() returning * into a;
	perform ledger_move(t, array['purchases', 'available'], array[-p_credits, p_credits]);
	insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after, reference_type, reference_id,
		description, actor)
	values (t, tl_agency(), tl_client(), a.version, 'purchased', p_credits, p_credits, a.balance, 'stripe_payment', p_key, 'Credits purchased',
		tl_actor());
	if owed > 0 then
		update credit_accounts c set balance = c.balance - owed, debt = c.debt - owed, version = version + 1, updated_at = tl_now()
			where c.client_id = tl_client() returning * into a;
		perform ledger_move(gen_random_uuid(), array['available', 'purchases'], array[-owed, owed]);
		insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after, reference_type, reference_id,
			description, actor)
		values (gen_random_uuid(), tl_agency(), tl_client(), a.version, 'reversed', owed, -owed, a.balance, 'stripe_payment', p_key,
			'Debt paid from a purchase', tl_actor());
	end if;
	return query select true, a.balance, t;
end $$;

-- What was refunded of a payment, or is withheld by a dispute, in cents of the payment and in all (the till tells it cumulatively). What
-- is no longer available becomes debt; what comes back pays debt first. Below zero: as it was. An older word of a dispute changes nothing.
create function ledger_reverse(p_key text, p_refunded bigint, p_disputed bigint, p_created bigint, p_type text, p_reference text)
returns table (changed bigint, balance bigint) language plpgsql security definer as $$
declare
	g payment_grants;
	a credit_accounts;
	t uuid := gen_random_uuid();
	delta bigint;
	taken bigint;
begin
	perform from credit_accounts c where c.client_id = tl_client() for update;
	select * into g from payment_grants x where x.grant_key = p_key and x.client_id = tl_client() for update;
	if not found then
		return;
	end if;
	g.refunded_cents := greatest(g.refunded_cents, p_refunded);
	if p_disputed >= 0 and p_created >= g.dispute_told then
		g.disputed_cents := p_disputed;
		g.dispute_told := p_created;
	end if;
	delta := least(g.credits, ceil((g.refunded_cents + g.disputed_cents)::numeric * g.credits / g.amount_cents))::bigint - g.reversed_credits;
	update payment_grants x set refunded_cents = g.refunded_cents, disputed_cents = g.disputed_cents, dispute_told = g.dispute_told,
		reversed_credits = x.reversed_credits + delta, updated_at = tl_now() where x.id = g.id;
	select * into a from credit_accounts c where c.client_id = tl_client();
	taken := case when delta > 0 then least(delta, a.balance - a.held) else delta + least(-delta, a.debt) end;
	if delta <> 0 then
		update credit_accounts c set balance = c.balance - taken, debt = c.debt + (delta - taken), version = version + 1, updated_at = tl_now()
			where c.client_id = tl_client() returning * into a;
	end if;
	if taken <> 0 then
		perform ledger_move(t, array['available', 'purchases'], array[-taken, taken]);
		insert into credit_transactions (id, agency_id, client_id, version, type, amount, delta, balance_after, reference_type, reference_id,
			description, actor)
		values (t, tl_agency(), tl_client(), a.version, 'reversed', abs(taken), -taken, a.balance, p_type, p_reference,
			case when taken > 0 then 'Payment taken back' else 'Payment given again' end, tl_actor());
	end if;
	return query select delta, a.balance;
end $$;

create function grant_owner(p_key text) returns table (client_id uuid, agency_id uuid) language sql stable security definer as $$
	select g.client_id, g.agency_id from payment_grants g where g.grant_key = p_key
$$;

-- What the till says of a subscription. An older word changes nothing, nor does its beginning what was said in the same second.
create function subscription_set(p_status text, p_customer text, p_created bigint, p_first boolean) returns table (changed boolean)
language plpgsql security definer as $$
declare
	was text;
begin
	select c.subscription_status into was from clients c where c.id = tl_client() and c.stripe_customer_id = p_customer
		and (c.subscription_told < p_created or (c.subscription_told = p_created and not p_first)) for update;
	if not found then
		return;
	end if;
	update clients c set subscription_told = p_created where c.id = tl_client();
	return query update clients c set subscription_status = p_status, updated_at = tl_now()
		where c.id = tl_client() and was <> p_status returning true;
end $$;

-- The customer a client is at the till: named once.
create function customer_set(p_customer text) returns text language plpgsql security definer as $$
begin
	update clients c set stripe_customer_id = p_customer where c.id = tl_client() and c.stripe_customer_id is null;
	return (select c.stripe_customer_id from clients c where c.id = tl_client());
end $$;

-- The balance falls below a threshold: told once each time. The threshold lies beside the balance so that nothing is looked up.
alter table credit_accounts add column low_threshold bigint;
create function credits_low() returns trigger language plpgsql security definer as $$
begin
	perform event_append(gen_random_uuid(), 'credits.low', 'client', new.client_id, jsonb_build_object('credits', new.balance - new.held,
		'balance', new.balance, 'threshold', new.low_threshold));
	return null;
end $$;
create trigger low after update on credit_accounts for each row
	when (old.balance - old.held >= new.low_threshold and new.balance - new.held < new.low_threshold) execute function credits_low();
create function low_threshold_kept() returns trigger language plpgsql security definer as $$
begin
	update credit_accounts a set low_threshold = (new.settings ->> 'low_balance_threshold')::bigint where a.client_id = new.id
		and a.low_threshold is distinct from (new.settings ->> 'low_balance_threshold')::bigint;
	return null;
end $$;
create trigger low_threshold after insert or update of settings on clients for each row execute function low_threshold_kept();
update credit_accounts a set low_threshold = (select (c.settings ->> 'low_balance_threshold')::bigint from clients c where c.id = a.client_id);

-- Which client a customer of the till is.
create function stripe_owner(p_customer text, p_client uuid) returns table (client_id uuid, agency_id uuid, mode text, customer text)
language sql stable security definer as $$
	select c.id, c.agency_id, c.mode, c.stripe_customer_id from clients c where c.deleted_at is null
		and (c.stripe_customer_id = p_customer or c.id = p_client)
$$;

-- A hold that nothing will end any more: its call is over and billed, or never was.
create function holds_expire(p_most integer) returns integer language plpgsql security definer as $$
declare
	h record;
	n integer := 0;
begin
	for h in select x.id, x.client_id, x.agency_id from credit_holds x where x.status = 'held'
		and x.created_at between tl_now() - interval '60 days' and tl_now() - interval '7 days'
		and not exists (select from calls c where c.client_id = x.client_id and c.hold_id = x.id
			and (call_rank(c.status) < 4 or (c.ended_at > tl_now() - interval '4 days' and c.billed_seconds is null)))
		and not exists (select from voices v where v.client_id = x.client_id and v.hold_id = x.id and v.status = 'training')
		order by x.created_at limit p_most
	loop
		perform set_config('tl.client', h.client_id::text, true), set_config('tl.agency', h.agency_id::text, true);
		perform ledger_settle(h.id, 0, 'forgotten hold released', true);
		n := n + 1;
	end loop;
	perform set_config('tl.client', '', true), set_config('tl.agency', '', true);
	return n;
end $$;

-- Daily sums, so that a year's chart reads a year's rows. A day is made anew as a whole, whenever it may have changed.
create table usage_daily (
	client_id uuid not null references clients (id),
	agency_id uuid not null,
	day date not null,
	agent_id uuid not null,
	from_number text not null,
	direction call_direction not null,
	calls bigint not null,
	completed bigint not null,
	failed bigint not null,
	seconds bigint not null,
	billed_seconds bigint not null,
	credits bigint not null,
	cost_micros bigint not null,
	primary key (client_id, day, agent_id, from_number, direction)
);
select protect('usage_daily', 'X');
revoke insert on usage_daily from tl_app, tl_agency;
create index usage_daily_agency on usage_daily (agency_id, day);

create function usage_sum(p_from date, p_to date) returns integer language plpgsql security definer as $$
declare
	n integer;
begin
	delete from usage_daily u where u.day >= p_from and u.day < p_to;
	insert into usage_daily (client_id, agency_id, day, agent_id, from_number, direction, calls, completed, failed, seconds, billed_seconds,
		credits, cost_micros)
	select c.client_id, c.agency_id, (c.created_at at time zone 'UTC')::date, c.agent_id, coalesce(c.from_number, ''), c.direction, count(*),
		count(*) filter (where c.status = 'completed'), count(*) filter (where call_rank(c.status) = 4 and c.status <> 'completed'),
		coalesce(sum(c.duration_seconds), 0), coalesce(sum(c.billed_seconds), 0), coalesce(sum(c.credits_charged), 0),
		coalesce(sum(c.cost_micros), 0)
	from calls c where c.created_at >= p_from::timestamp at time zone 'UTC' and c.created_at < p_to::timestamp at time zone 'UTC'
	group by 1, 2, 3, 4, 5, 6;
	get diagnostics n = row_count;
	return n;
end $$;
create index calls_created on calls (created_at);

-- Sums of a span of time: whole days that the night has summed come from usage_daily, its edges from the calls themselves. By the
-- caller's own door.
create function usage_between(p_from timestamptz, p_to timestamptz, p_agent uuid)
returns table (calls bigint, completed bigint, failed bigint, seconds bigint, credits bigint, cost_micros bigint, timed bigint)
language plpgsql stable as $$
declare
	summed date := ((tl_now() - interval '2 hours') at time zone 'UTC')::date;
	d0 date := ((p_from at time zone 'UTC') + interval '1 day' - interval '1 microsecond')::date;
	d1 date := least((p_to at time zone 'UTC')::date, summed);
	t0 timestamptz := case when d0 < d1 then d0::timestamp at time zone 'UTC' else p_to end;
	t1 timestamptz := case when d0 < d1 then d1::timestamp at time zone 'UTC' else p_to end;
begin
	return query select coalesce(sum(x.calls), 0)::bigint, coalesce(sum(x.completed), 0)::bigint, coalesce(sum(x.failed), 0)::bigint,
		coalesce(sum(x.seconds), 0)::bigint, coalesce(sum(x.credits), 0)::bigint, coalesce(sum(x.cost_micros), 0)::bigint,
		coalesce(sum(x.completed), 0)::bigint
	from (
		select u.calls, u.completed, u.failed, u.seconds, u.credits, u.cost_micros from usage_daily u
			where u.day >= d0 and u.day < d1 and (p_agent is null or u.agent_id = p_agent)
		union all
		select count(*), count(*) filter (where c.status = 'completed'), count(*) filter (where call_rank(c.status) = 4 and c.status <> 'completed'),
			coalesce(sum(c.duration_seconds), 0), coalesce(sum(c.credits_charged), 0), coalesce(sum(c.cost_micros), 0)
		from calls c where ((c.created_at >= p_from and c.created_at < t0) or (c.created_at >= t1 and c.created_at < p_to))
			and (p_agent is null or c.agent_id = p_agent)
	) x;
end $$;

-- Every few minutes: calls under way, or unbilled, that no job looks after get one; likewise transcripts and recordings that wait.
create function calls_adrift(p_most integer, out n integer) language plpgsql security definer as $$
declare
	m integer;
begin
	insert into jobs (id, agency_id, client_id, queue, kind, resource_type, resource_id, status, run_at, dedupe_key)
	select gen_random_uuid(), c.agency_id, c.client_id, 'q-campaign-dialer', case when c.ultravox_call_id is null then 'call.lookup'
			else 'call.watch' end, 'call', c.id, 'queued', tl_now(), 'adrift:' || c.id
	from calls c where (c.status in ('dialing', 'unknown', 'ringing', 'in_progress')
			or (c.ultravox_call_id is not null and c.hold_id is not null and c.ended_at is not null and c.billed_seconds is null))
		and c.updated_at < tl_now() - interval '15 minutes'
		and not exists (select from jobs j where j.resource_id = c.id and j.status in ('queued', 'running')) limit p_most
	on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
	get diagnostics n = row_count;
	insert into jobs (id, agency_id, client_id, queue, kind, resource_type, resource_id, status, run_at, dedupe_key)
	select gen_random_uuid(), a.agency_id, a.client_id, 'q-artifacts-sync', 'call.' || a.kind, 'call', a.call_id, 'queued', tl_now(),
		a.kind || ':' || a.call_id
	from call_artifacts a where a.status = 'pending' and a.updated_at < tl_now() - interval '15 minutes'
		and not exists (select from jobs j where j.resource_id = a.call_id and j.kind = 'call.' || a.kind and j.status in ('queued', 'running'))
		limit p_most
	on conflict (dedupe_key) where status in ('queued', 'running') do nothing;
	get diagnostics m = row_count;
	n := n + m;
end $$;
create index call_artifacts_pending on call_artifacts (updated_at) where status = 'pending';
create index jobs_living on jobs (resource_id) where status in ('queued', 'running');

-- Where the streams of some clients stand; for the fan-out of live events.
create function stream_heads(p_ids text) returns table (client_id uuid, last_seq bigint) language sql stable security definer as $$
	select s.client_id, s.last_seq from event_streams s where s.client_id = any (string_to_array(p_ids, ',')::uuid[])
$$;

-- One more proof: a call is settled once, a payment granted once, nothing reversed beyond its grant.
create or replace function ledger_check() returns table (problem text, client_id uuid, detail text) language sql stable security definer as $$
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
	union all
	select 'a call is settled more than once', t.client_id, t.reference_id from credit_transactions t
		where t.type = 'spent' and t.reference_type = 'call' group by t.client_id, t.reference_id having count(*) > 1
	union all
	select 'a payment is granted more than once', t.client_id, t.reference_id from credit_transactions t
		where t.type = 'purchased' group by t.client_id, t.reference_id having count(*) > 1
	union all
	select 'a grant differs from its purchase', g.client_id, g.grant_key from payment_grants g left join credit_transactions t
		on t.client_id = g.client_id and t.type = 'purchased' and t.reference_id = g.grant_key where t.amount is distinct from g.credits
$$;

select definers();
revoke all on function agent_owner(text), grant_owner(text), stripe_owner(text, uuid), holds_expire(integer),
	usage_sum(date, date), calls_adrift(integer), stream_heads(text) from tl_app, tl_agency;
