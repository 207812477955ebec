-- Rates between machines, quotas, and a cheaper idempotency record.

-- GCRA cells that machines draw slices from; worth nothing after a crash, so not logged. Business time does not move them.
create unlogged table rate_buckets (
	key text primary key,
	tat_us bigint not null
);
select protect('rate_buckets', 'S');

-- Up to p_most units of a bucket (generic cell rate algorithm): how many, how many more there would be, and when the next.
create function rate_slice(p_key text, p_rate bigint, p_burst bigint, p_most bigint)
returns table (granted bigint, remaining bigint, wait_us bigint) language plpgsql as $$
declare
	at_us bigint := (extract(epoch from clock_timestamp()) * 1000000)::bigint;
	step numeric := 1000000.0 / p_rate;
	tat bigint;
	room bigint;
begin
	insert into rate_buckets (key, tat_us) values (p_key, at_us) on conflict (key) do nothing;
	select greatest(b.tat_us, at_us) into tat from rate_buckets b where b.key = p_key for update;
	room := floor((at_us + p_burst * step - tat) / step);
	granted := greatest(0, least(p_most, room));
	update rate_buckets b set tat_us = tat + ceil(granted * step)::bigint where b.key = p_key and granted > 0;
	remaining := greatest(0, room - granted);
	wait_us := case when granted > 0 then 0 else greatest(1, ceil(tat + step - p_burst * step - at_us))::bigint end;
	return next;
end $$;
grant execute on function rate_slice(text, bigint, bigint, bigint) to tl_system;

-- Calls of a client on a day, UTC. Counted in the transaction that makes the call, beside its account.
create table calls_daily (
	client_id uuid not null references clients (id),
	agency_id uuid not null,
	day date not null,
	calls bigint not null,
	primary key (client_id, day)
);
select protect('calls_daily', 'X');
revoke insert on calls_daily from tl_app, tl_agency;

-- A call's quota and its hold, among the last statements before COMMIT. p_hold null: the call costs nothing.
create function call_admit(p_call uuid, p_hold uuid, p_amount bigint, p_least bigint, p_quota bigint) returns void
language plpgsql security definer as $$
declare
	today date := (tl_now() at time zone 'UTC')::date;
	n bigint;
begin
	insert into calls_daily as d (client_id, agency_id, day, calls) values (tl_client(), tl_agency(), today, 1)
		on conflict (client_id, day) do update set calls = d.calls + 1 returning calls into n;
	if n > p_quota then
		raise sqlstate 'TL429' using message = 'The calls of this day are used up', detail = format(
			'"policy":"calls-day","limit":%s,"remaining":0,"reset_at":"%sT00:00:00.000Z","retry_after":%s', p_quota, today + 1,
			ceil(extract(epoch from (today + 1)::timestamp at time zone 'UTC' - tl_now())));
	end if;
	if p_hold is not null then
		perform ledger_hold(p_hold, 'call', p_call::text, p_amount, p_least);
	end if;
end $$;

-- For the system door: does this client belong to that agency?
create function client_is_of(p_client uuid, p_agency uuid) returns boolean language plpgsql stable security definer as $$
begin
	return exists (select from clients c where c.id = p_client and c.agency_id = p_agency and c.deleted_at is null);
end $$;

-- The judgement is a plain statement now (core.sql), and the purge needs no exact index.
drop function idem_begin(uuid, text, bytea);
drop index idempotency_expiry;
create index idempotency_expiry on idempotency_keys using brin (expires_at);
select definers();
revoke all on function client_is_of(uuid, uuid) from tl_app, tl_agency;
