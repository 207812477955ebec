-- What happens to a call after it was accepted.

-- name: progress_move
with old as (
	select id, client_id, status from calls where id = :id::uuid for update
), moved as (
	update calls c set status = :status::text, outcome = coalesce(:outcome::text, nullif(c.outcome, 'unknown')), updated_at = tl_now(),
		ended_at = case when call_rank(:status) = 4 then coalesce(c.provider_ended_at, c.ended_at, tl_now()) else c.ended_at end,
		duration_seconds = case when call_rank(:status) = 4 and c.answered_at is not null
			then greatest(0, round(extract(epoch from coalesce(c.provider_ended_at, tl_now()) - c.answered_at)))::integer
			else c.duration_seconds end
	from old where c.id = old.id
		and (call_rank(:status) > call_rank(old.status) or (old.status = 'dialing' and :status = 'unknown')
			or (old.status = 'unknown' and :status = 'dialing'))
	returning c.id, c.client_id, c.agency_id, old.status as from_status
), noted as (
	insert into call_transitions (agency_id, client_id, call_id, seq, from_status, to_status, source, raw)
	select m.agency_id, m.client_id, m.id,
		(select coalesce(max(t.seq), 0) + 1 from call_transitions t where t.client_id = m.client_id and t.call_id = m.id),
		m.from_status, :status, :source::text, :raw::text
	from moved m
)
select from_status from moved

-- Facts fill empty fields, whatever the state.
-- name: progress_facts
update calls set ultravox_call_id = coalesce(ultravox_call_id, :provider_id::text),
	join_url = coalesce(join_url, :join_url::text),
	started_at = coalesce(started_at, tl_now()),
	answered_at = coalesce(answered_at, :joined::timestamptz),
	provider_ended_at = coalesce(provider_ended_at, :ended::timestamptz),
	end_reason_raw = coalesce(end_reason_raw, :end_reason::text),
	summary = coalesce(summary, :summary::text), updated_at = tl_now()
where id = :id::uuid
returning status, cancel_requested, hold_id, answered_at, provider_ended_at, billed_seconds, price_per_minute, end_reason_raw,
	provider_max_seconds, ended_at

-- name: progress_carrier
update calls set carrier_call_id = coalesce(carrier_call_id, :carrier_id::text),
	carrier_cause = coalesce(:cause::text, carrier_cause) where id = :id::uuid

-- name: progress_load
select status, (select mode from clients) as mode, (select g.credential_id from agents g where g.client_id = calls.client_id and g.id = calls.agent_id) as credential_id,  answered_at, provider_ended_at, end_reason_raw, carrier_cause, ultravox_call_id, hold_id, price_per_minute,
	billed_seconds, call_settings, phone_number, ended_at, cancel_requested
from calls where id = :id::uuid

-- name: progress_billed
update calls set billed_seconds = :seconds::integer, cost_micros = :cost::bigint, updated_at = tl_now()
where id = :id::uuid and billed_seconds is null returning id

-- name: progress_settle
select charged from ledger_settle((select hold_id from calls where id = :id::uuid), :amount::bigint, :description::text,
	:estimated::boolean)

-- name: progress_charged
update calls c set credits_charged = coalesce((select settled_amount from credit_holds h where h.client_id = c.client_id
	and h.id = c.hold_id), 0) where c.id = :id::uuid

-- name: progress_event
select event_append(:event_id::uuid, :type::text, 'call', c.id, jsonb_strip_nulls(jsonb_build_object('call_id', c.id,
	'agent_id', c.agent_id, 'ultravox_call_id', c.ultravox_call_id, 'phone_number', c.phone_number, 'direction', c.direction,
	'status', c.status, 'outcome', c.outcome, 'end_reason_raw', c.end_reason_raw, 'duration_seconds', c.duration_seconds,
	'billed_seconds', c.billed_seconds, 'credits_charged', case when c.billed_seconds is not null then c.credits_charged end,
	'cost_usd', c.cost_micros / 1e6, 'error_message', c.error_message)))
from calls c where c.id = :id::uuid

-- name: progress_artifact
insert into call_artifacts (id, agency_id, client_id, call_id, kind, status)
values (gen_random_uuid(), tl_agency(), tl_client(), :call_id::uuid, :kind::text, :status::text)
on conflict (client_id, call_id, kind) do nothing

-- name: progress_owner
select id, client_id, agency_id from call_owner(:call_id::uuid, :provider_id::text, :carrier_id::text)
