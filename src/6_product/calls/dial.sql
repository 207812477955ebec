-- Dialing: intent, then what became of it.

-- Wanting: not ended, and the provider's id is not known. The carrier may ring before we learn it.
-- name: dial_load
select call_rank(c.status) < 4 and c.ultravox_call_id is null as wanting, (select mode from clients) as mode, (select g.credential_id from agents g where g.client_id = c.client_id and g.id = c.agent_id) as credential_id, c.id, c.status, c.medium, c.phone_number, c.from_number, c.context, c.call_settings, c.provider_max_seconds, c.created_at,
	c.intended_at, c.cancel_requested, c.ultravox_call_id, c.hold_id, a.ultravox_agent_id
from calls c join agents a on a.client_id = c.client_id and a.id = c.agent_id
where c.id = :id::uuid

-- name: dial_intend
select verdict, current from call_intend(:id::uuid)

-- name: dial_accept
update calls set ultravox_call_id = :provider_id::text, join_url = :join_url::text,
	started_at = coalesce(started_at, tl_now()), updated_at = tl_now()
where id = :id::uuid and ultravox_call_id is null

-- name: dial_error
update calls set error_code = :code::text, error_message = :message::text where id = :id::uuid

-- name: dial_release
select charged from ledger_settle((select hold_id from calls where id = :id::uuid), 0, 'released', false)
