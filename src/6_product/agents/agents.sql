-- Agents.

-- name: agents_insert
insert into agents (id, agency_id, client_id, name, description, system_prompt, model, settings, status)
values (:id::uuid, tl_agency(), tl_client(), :name::text, :description::text, :system_prompt::text, :model::text,
	jsonb_strip_nulls(coalesce(:settings::jsonb, '{}')), 'creating')

-- name: agents_mode
select mode from clients

-- name: agents_get
select * from agent_rows where id = :id::uuid

-- name: agents_list list
select * from agent_rows
where (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:q::text is null or name ilike '%' || :q || '%')

-- Absent fields keep what is there; description may be cleared.
-- name: agents_patch
update agents set name = coalesce(:name::text, name),
	description = case when :set_description::boolean then :description::text else description end,
	system_prompt = coalesce(:system_prompt::text, system_prompt), model = coalesce(:model::text, model),
	settings = case when :settings::jsonb is null then settings else jsonb_strip_nulls(settings || :settings) end,
	revision = revision + 1, sync_status = 'pending', status = case status when 'failed' then 'creating' else status end,
	last_error = null, updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id

-- name: agents_resync
update agents set sync_status = 'pending', status = case status when 'failed' then 'creating' else status end, last_error = null,
	updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id

-- name: agents_copy
insert into agents (id, agency_id, client_id, name, description, voice_id, system_prompt, model, tools, knowledge_bases, settings, status)
select :id::uuid, tl_agency(), tl_client(), coalesce(:name::text, left(name, 93) || ' (copy)'), description, voice_id, system_prompt,
	model, tools, knowledge_bases, settings, 'creating'
from agents where id = :from::uuid and deleted_at is null
returning id

-- name: agents_delete
update agents set deleted_at = tl_now(), updated_at = tl_now() where id = :id::uuid and deleted_at is null returning id

-- name: agents_push_load
select (select mode from clients) as mode, name, system_prompt, model, settings, status, revision, pushed_revision, ultravox_agent_id, credential_id, deleted_at
from agents where id = :id::uuid

-- name: agents_pushed
update agents set status = 'active', ultravox_agent_id = :provider_id::text, credential_id = :credential_id::uuid,
	pushed_revision = greatest(pushed_revision, :revision::integer),
	sync_status = case when revision <= :revision then 'synced' else 'pending' end, last_error = null, updated_at = tl_now()
where id = :id::uuid
returning status

-- name: agents_push_failed
update agents set status = case when ultravox_agent_id is null then 'failed' else status end, sync_status = 'failed',
	last_error = :error::text, updated_at = tl_now()
where id = :id::uuid
