-- Keys of text-to-speech providers, which the voice provider must hold.

-- name: tts_upsert
insert into api_keys (id, agency_id, client_id, service, key_name, sealed, settings, voice_id, sync_status)
values (:id::uuid, tl_agency(), tl_client(), :service::text, :key_name::text, :sealed::bytea, coalesce(:settings::jsonb, '{}'),
	:voice_id::text, :sync_status::text)
on conflict (agency_id, client_id, service, key_name) where revoked_at is null do update set sealed = excluded.sealed,
	settings = coalesce(:settings::jsonb, api_keys.settings), voice_id = coalesce(excluded.voice_id, api_keys.voice_id),
	sync_status = excluded.sync_status, is_active = true, last_error = null, updated_at = tl_now()

-- name: tts_get
select * from api_key_rows where id = :id::uuid

-- name: tts_id
select id from api_keys where service = :service::text and key_name = :key_name::text and revoked_at is null
	and client_id is not distinct from tl_client()

-- name: tts_account
select k.owner_id, k.settings ->> 'dedicated' = 'true' as dedicated, (select mode from clients where id = tl_client()) as mode
from credential_find('ultravox', null) k

-- name: tts_load
select service, sealed, coalesce(client_id, agency_id) as owner_id, sync_status, (select mode from clients where id = tl_client()) as mode
from api_keys where id = :id::uuid and revoked_at is null

-- name: tts_synced
update api_keys set sync_status = :status::text, last_error = :error::text, updated_at = tl_now() where id = :id::uuid
