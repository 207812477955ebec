-- What a person does to a call.

-- name: manage_lock
select c.status, c.medium, c.phone_number, c.ultravox_call_id, c.cancel_requested, c.archived_at, (select mode from clients) as mode,
	(select g.credential_id from agents g where g.client_id = c.client_id and g.id = c.agent_id) as credential_id, c.provider_max_seconds
from calls c where c.id = :id::uuid for update

-- name: manage_release
select charged from ledger_settle((select hold_id from calls where id = :id::uuid), 0, 'released', false)

-- name: manage_cancel
update calls set cancel_requested = true, updated_at = tl_now() where id = :id::uuid

-- Context merges: a member that is null goes.
-- name: manage_patch
update calls set context = case when :context::jsonb is null then context else jsonb_strip_nulls(context || :context) end,
	call_settings = case when :settings::jsonb is null then call_settings else call_settings || :settings end,
	opt_out = opt_out or :opt_out::boolean, updated_at = tl_now()
where id = :id::uuid

-- name: manage_suppress
insert into suppressions (id, agency_id, client_id, phone_number, reason, source, call_id)
values (:id::uuid, tl_agency(), tl_client(), :number::text, 'opted out in a call', 'call', :call_id::uuid)
on conflict (agency_id, client_id, phone_number) do update set expires_at = null, updated_at = tl_now()
returning id

-- name: manage_objects
select coalesce(string_agg(object_key, ' '), '') as objects from call_artifacts where call_id = :id::uuid and object_key is not null

-- name: manage_mask
select calls_mask(array[:id::uuid], null) as n

-- name: manage_error
update calls set error_code = :code::text, error_message = :message::text where id = :id::uuid

-- name: manage_resolved
select call_resolved(:id::uuid, :outcome::text)

-- name: manage_taken
select id from calls where ultravox_call_id = :provider_id::text and id <> :id::uuid

-- name: manage_hangup_load
select c.status, c.ultravox_call_id, c.ended_at, c.provider_ended_at, (select mode from clients) as mode,
	(select g.credential_id from agents g where g.client_id = c.client_id and g.id = c.agent_id) as credential_id
from calls c where c.id = :id::uuid

-- Numbers that are not called.

-- name: suppressions_insert
insert into suppressions (id, agency_id, client_id, phone_number, reason, source, expires_at)
values (:id::uuid, tl_agency(), tl_client(), :number::text, :reason::text, 'api', :expires_at::timestamptz)
on conflict (agency_id, client_id, phone_number) do update set reason = coalesce(excluded.reason, suppressions.reason),
	expires_at = excluded.expires_at, updated_at = tl_now()
returning id

-- name: suppressions_get
select * from suppression_rows where id = :id::uuid

-- name: suppressions_list list
select * from suppression_rows where (:number::text is null or phone_number = :number)

-- name: suppressions_delete
delete from suppressions where id = :id::uuid returning id

-- name: manage_cost
select c.id as call_id, c.price_per_minute, c.billed_seconds, case when c.billed_seconds is not null then (c.billed_seconds + 59) / 60 end
	as billed_minutes, c.credits_held, c.credits_charged, case when h.status <> 'held' then h.amount - coalesce(h.settled_amount, 0) else 0 end
	as credits_released, (c.cost_micros / 1e6)::float8 as provider_cost_usd, call_rank(c.status) = 4 and coalesce(h.status <> 'held', true) as final,
	coalesce((select t.estimated from credit_transactions t where t.client_id = c.client_id and t.type = 'spent' and t.reference_type = 'call'
		and t.reference_id = c.id::text), false) as estimated
from calls c left join credit_holds h on h.client_id = c.client_id and h.id = c.hold_id
where c.id = :id::uuid
