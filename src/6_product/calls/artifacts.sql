-- Transcripts and recordings, stored once by their job.

-- name: artifacts_load
select (select mode from clients) as mode, (select g.credential_id from agents g where g.client_id = c.client_id and g.id = c.agent_id) as credential_id, c.ultravox_call_id, c.answered_at, c.provider_ended_at, c.created_at, a.status
from calls c join call_artifacts a on a.client_id = c.client_id and a.call_id = c.id and a.kind = :kind::text
where c.id = :id::uuid

-- name: artifacts_store
update call_artifacts set status = :status::text, object_key = :object_key::text, format = :format::text,
	bytes = :bytes::bigint, duration_seconds = :duration_ms::bigint / 1000.0, items = :items::jsonb, sha256 = :sha256::text,
	updated_at = tl_now()
where call_id = :id::uuid and kind = :kind::text and status = 'pending'
returning id
