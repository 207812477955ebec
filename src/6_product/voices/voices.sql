-- Voices.

-- name: voices_client
select mode, subscription_status from clients

-- name: voices_insert
insert into voices (id, agency_id, client_id, name, description, language, provider, type, provider_voice_id, overrides, status, hold_id, started_at)
values (:id::uuid, tl_agency(), tl_client(), :name::text, :description::text, :language::text, :provider::text, :type::text,
	:provider_voice_id::text, coalesce(:overrides::jsonb, '{}'), 'training', :hold_id::uuid, tl_now())

-- name: voices_sample
insert into voice_samples (agency_id, client_id, voice_id, position, upload_id, text, duration_seconds, format)
values (tl_agency(), tl_client(), :voice_id::uuid, :position::integer, :upload_id::uuid, :text::text, :seconds::numeric, :format::text)

-- name: voices_hold
select ledger_hold(:hold_id::uuid, 'voice_training', :reference::text, :amount::bigint, :amount::bigint)

-- name: voices_get
select * from voice_rows where id = :id::uuid

-- name: voices_list list
select * from voice_rows
where (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:type::text is null or type = any (string_to_array(:type, ',')))
	and (:provider::text is null or provider = any (string_to_array(:provider, ',')))
	and (:q::text is null or name ilike '%' || :q || '%')

-- name: voices_update
update voices set name = coalesce(:name::text, name),
	description = case when :set_description::boolean then :description::text else description end,
	language = coalesce(:language::text, language), revision = revision + 1,
	sync_status = case status when 'active' then 'pending' else sync_status end, updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning status, ultravox_voice_id

-- name: voices_lock
select status, provider, type, trainings, ultravox_voice_id, (select subscription_status from clients) as subscription_status,
	(select mode from clients) as mode
from voices where id = :id::uuid and deleted_at is null for update

-- name: voices_used
select a.id from agents a where a.voice_id = :id::uuid and a.deleted_at is null limit 1

-- name: voices_delete
update voices set deleted_at = tl_now(), updated_at = tl_now() where id = :id::uuid and deleted_at is null

-- name: voices_retrain
update voices set status = 'training', sync_status = 'pending', trainings = trainings + 1, hold_id = :hold_id::uuid, progress = 0,
	started_at = tl_now(), completed_at = null, ultravox_voice_id = null, last_error = null, updated_at = tl_now()
where id = :id::uuid

-- name: voices_resync
update voices set sync_status = 'pending', last_error = null, updated_at = tl_now() where id = :id::uuid

-- name: voices_load
select (select mode from clients) as mode, id, name, description, language, provider, type, provider_voice_id, overrides, status, hold_id,
	trainings, client_id, revision, ultravox_voice_id as provider_id, credential_id, preview, deleted_at
from voices where id = :id::uuid

-- name: voices_samples
select s.upload_id, u.s3_key as object, u.ext, u.actual_bytes, s.format, s.duration_seconds::float8 as seconds
from voice_samples s join uploads u on u.client_id = s.client_id and u.id = s.upload_id
where s.voice_id = :id::uuid order by s.position

-- name: voices_cloned
update voices set provider_voice_id = :provider_voice_id::text, updated_at = tl_now() where id = :id::uuid

-- The provider has it; can it speak already?
-- name: voices_accepted
update voices set ultravox_voice_id = :provider_id::text, credential_id = :credential_id::uuid,
	status = case when :ready::boolean then 'active' else 'training' end,
	progress = case when :ready then 100 else progress end, completed_at = case when :ready then tl_now() end,
	pushed_revision = greatest(pushed_revision, :revision::integer),
	sync_status = case when not :ready or revision > :revision then 'pending' else 'synced' end, last_error = null, updated_at = tl_now()
where id = :id::uuid

-- name: voices_progress
update voices set progress = :progress::integer, updated_at = tl_now() where id = :id::uuid

-- name: voices_failed
update voices set status = case when status = 'training' or :lost::boolean then 'failed' else status end, sync_status = 'failed',
	ultravox_voice_id = case when :lost then null else ultravox_voice_id end, last_error = :error::text, updated_at = tl_now()
where id = :id::uuid

-- A hold that was not settled returns; what was settled is given back.
-- name: voices_charge
select charged from ledger_settle((select hold_id from voices where id = :id::uuid), :amount::bigint, 'Voice training', false)

-- name: voices_refund
select ledger_refund('voice_training', :reference::text, 'Voice training failed')

-- name: voices_previewed
update voices set preview = :preview::jsonb where id = :id::uuid

-- name: voices_drift
select n, living from voices_adrift()
