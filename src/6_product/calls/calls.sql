-- Calls as the API sees them. The door decides whose rows these are.

-- What a new call needs to know: the agent, the price, what is available and how many lines are busy.
-- name: calls_prospect
select c.price_per_minute, c.subscription_status, c.mode, coalesce((c.limits ->> 'concurrent_calls')::integer, 10) as most,
	coalesce((c.limits ->> 'calls_per_day')::bigint, 10000) as quota,
	c.settings ->> 'from_number' as client_number,
	coalesce(k.balance - k.held, 0) as available, a.id as agent_id, a.status as agent_status,
	coalesce((select n.phone_number from phone_numbers n where n.client_id = c.client_id and n.outbound_agent_id = a.id and n.status = 'active'
		order by n.created_at limit 1), a.settings ->> 'from_number') as agent_number, a.settings ->> 'max_conversation_duration' as agent_max,
	(select count(*) from calls where status in ('dialing', 'unknown', 'ringing', 'in_progress')) as current,
	:number::text is not null and number_suppressed(:number) as suppressed
from clients c
left join credit_accounts k on k.client_id = c.id
left join agents a on a.client_id = c.id and a.id = :agent_id::uuid and a.deleted_at is null

-- name: calls_insert
insert into calls (id, agency_id, client_id, agent_id, external_ref, phone_number, from_number, direction, medium, status,
	context, call_settings, price_per_minute, hold_id, credits_held, provider_max_seconds)
values (:id::uuid, tl_agency(), tl_client(), :agent_id::uuid, :external_ref::text, :phone_number::text,
	:from_number::text, :direction::text, :medium::text, 'queued', coalesce(:context::jsonb, '{}'), :call_settings::jsonb,
	:price::integer, :hold_id::uuid, :held::integer, :max_seconds::integer)

-- name: calls_admit
select call_admit(:call_id::uuid, :hold_id::uuid, :amount::bigint, :least::bigint, :quota::bigint)

-- name: calls_get
select * from call_rows where id = :id::uuid

-- name: calls_get_test
select id, id as call_id, agent_id, status, join_url, created_at, ultravox_call_id, error from call_rows where id = :id::uuid

-- name: calls_list list
select * from call_rows
where (:agent_id::text is null or agent_id = any (string_to_array(:agent_id, ',')::uuid[]))
	and (:campaign_id::text is null or campaign_id = any (string_to_array(:campaign_id, ',')::uuid[]))
	and (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:outcome::text is null or outcome = any (string_to_array(:outcome, ',')))
	and (:direction::text is null or direction = any (string_to_array(:direction, ',')))
	and (:phone_number::text is null or phone_number = :phone_number)
	and (:external_ref::text is null or external_ref = :external_ref)

-- name: calls_artifact
select a.status, a.object_key, a.format, a.bytes, a.duration_seconds::float8 as duration_seconds, a.items,
	c.status as call_status, c.ended_at, c.summary, c.call_settings
from calls c left join call_artifacts a on a.client_id = c.client_id and a.call_id = c.id and a.kind = :kind::text
where c.id = :id::uuid
