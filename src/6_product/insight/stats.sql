-- Sums for people.

-- name: stats_between
select u.calls, u.completed, u.failed, u.seconds, u.credits, u.cost_micros,
	(select count(*) from calls c where call_rank(c.status) < 4 and (:agent_id::uuid is null or c.agent_id = :agent_id)) as live,
	(select count(*) from agents a where a.deleted_at is null) as agents,
	(select count(*) from agents a where a.deleted_at is null and a.status = 'active') as active_agents,
	(select coalesce(sum(k.balance), 0)::bigint from credit_accounts k) as balance
from usage_between(:from::timestamptz, :to::timestamptz, :agent_id::uuid) u

-- name: stats_first
select min(created_at) as first from (select min(day)::timestamptz as created_at from usage_daily union all select min(created_at) from calls) x

-- A row for each combination of what is grouped by; the others are null. Summed days, and today's and yesterday's calls as they are.
-- name: stats_usage fresh
with summed as (select ((tl_now() - interval '2 hours') at time zone 'UTC')::date as until),
used as (
	select u.client_id, u.day, u.agent_id, u.from_number, u.calls, u.completed, u.failed, u.seconds, u.billed_seconds, u.credits, u.cost_micros
	from usage_daily u where u.day >= :from::date and u.day < least(:to::date, (select until from summed))
	union all
	select c.client_id, (c.created_at at time zone 'UTC')::date, c.agent_id, coalesce(c.from_number, ''), 1, (c.status = 'completed')::integer,
		(call_rank(c.status) = 4 and c.status <> 'completed')::integer, coalesce(c.duration_seconds, 0), coalesce(c.billed_seconds, 0),
		c.credits_charged, coalesce(c.cost_micros, 0)
	from calls c where c.created_at >= greatest(:from::date, (select until from summed))::timestamp at time zone 'UTC'
		and c.created_at < (:to::date)::timestamp at time zone 'UTC'
)
select case when :by_day::boolean then day::text end as day, case when :by_client::boolean then client_id end as client_id,
	case when :by_agent::boolean then agent_id end as agent_id, case when :by_number::boolean then from_number end as from_number,
	sum(calls)::bigint as calls, sum(completed)::bigint as completed, sum(failed)::bigint as failed, sum(seconds)::bigint as seconds,
	sum(billed_seconds)::bigint as billed_seconds, sum(credits)::bigint as credits, (sum(cost_micros) / 1e6)::float8 as cost_usd
from used where (:agent_id::uuid is null or agent_id = :agent_id)
group by 1, 2, 3, 4 order by 1 desc nulls last, 5 desc, 2, 3, 4 limit :most::integer

-- name: nightly_usage
select usage_sum(:from::date, :to::date) as n

-- name: nightly_holds
select holds_expire(:most::integer) as n

-- name: nightly_proof
select problem, client_id, detail from ledger_check() limit 20

-- name: adrift
select n from calls_adrift(:most::integer)

-- name: csv_calls
select id, created_at, agent_id, direction, phone_number, from_number, status, outcome, started_at, answered_at, ended_at, duration_seconds,
	billed_seconds, credits_charged, cost_usd, external_ref, end_reason_raw, summary, cursor_us
from call_rows
where (:agent_id::text is null or agent_id = any (string_to_array(:agent_id, ',')::uuid[]))
	and (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:outcome::text is null or outcome = any (string_to_array(:outcome, ',')))
	and (:direction::text is null or direction = any (string_to_array(:direction, ',')))
	and (:created_after::timestamptz is null or created_at >= :created_after)
	and (:created_before::timestamptz is null or created_at < :created_before)
	and ((:after_us::text)::bigint is null or (created_at, id) < (to_timestamp((:after_us)::bigint / 1000000.0), :after_id::uuid))
order by created_at desc, id desc limit :most::integer
