-- Provider events: stored raw once, processed by a job.

-- name: inbound_store
with fresh as (
	insert into inbound_events (id, provider, dedupe_key, type, headers, body, verified_at, status)
	values (:id::uuid, :provider::text, :dedupe_key::text, :type::text, :headers::jsonb, :body::text, tl_now(), 'received')
	on conflict (provider, dedupe_key) do nothing returning id
)
select id, job_add(:job_id::uuid, 'q-artifacts-sync', 'inbound.process', '{}', 'inbound_event', id, null, 0,
	'inbound:' || id) from fresh

-- name: inbound_load
select provider, type, headers, body, status from inbound_events where id = :id::uuid

-- name: inbound_mark
update inbound_events set status = :status::text, attempts = attempts + 1, error = :error::text,
	agency_id = :agency_id::uuid, client_id = :client_id::uuid, updated_at = tl_now()
where id = :id::uuid

-- name: inbound_agent
select agent_id, client_id, agency_id from agent_owner(:provider_id::text)

-- Timestamps and cursor as of every list.
-- name: inbound_list fresh
select id, client_id, provider, type, status, attempts, error, created_at, updated_at, cursor_us
from inbound_page(:provider::text, :status::text, :type::text, :created_after::timestamptz, :created_before::timestamptz,
	(:after_us::text)::bigint, :after_id::uuid, :limit::bigint)

-- name: inbound_again
select id from inbound_again(:id::uuid)
