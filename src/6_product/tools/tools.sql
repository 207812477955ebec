-- Tools.

-- name: tools_mode
select mode from clients

-- name: tools_insert
insert into tools (id, agency_id, client_id, name, description, category, endpoint, method, authentication, auth_ciphertext, parameters,
	response_schema, timeout_seconds, status)
values (:id::uuid, tl_agency(), tl_client(), :name::text, :description::text, :category::text, :endpoint::text, :method::text,
	:authentication::jsonb, :sealed::bytea, :parameters::jsonb, :response_schema::jsonb, :timeout::integer, 'creating')

-- name: tools_get
select * from tool_rows where id = :id::uuid

-- name: tools_list list
select * from tool_rows
where (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:category::text is null or category = :category)
	and (:q::text is null or name ilike '%' || :q || '%')

-- Everything is given: the handler has merged the body with the row.
-- name: tools_update
update tools set name = :name::text, description = :description::text, category = :category::text, endpoint = :endpoint::text,
	method = :method::text, authentication = :authentication::jsonb,
	auth_ciphertext = case when :reseal::boolean then :sealed::bytea else auth_ciphertext end, parameters = :parameters::jsonb,
	response_schema = :response_schema::jsonb, timeout_seconds = :timeout::integer, revision = revision + 1, sync_status = 'pending',
	status = case status when 'failed' then 'creating' else status end, last_error = null, updated_at = tl_now()
where id = :id::uuid and deleted_at is null and revision = :was::integer
returning id

-- name: tools_resync
update tools set sync_status = 'pending', status = case status when 'failed' then 'creating' else status end, last_error = null,
	updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id

-- name: tools_lock
select ultravox_tool_id from tools where id = :id::uuid and deleted_at is null for update

-- name: tools_used
select a.id from agent_tools l join agents a on a.client_id = l.client_id and a.id = l.agent_id
where l.tool_id = :id::uuid and a.deleted_at is null limit 1

-- name: tools_delete
update tools set deleted_at = tl_now(), auth_ciphertext = null, updated_at = tl_now() where id = :id::uuid and deleted_at is null

-- name: tools_load
select (select mode from clients) as mode, name, description, endpoint, method, authentication, auth_ciphertext as sealed, parameters,
	timeout_seconds, revision, ultravox_tool_id as provider_id, credential_id, deleted_at
from tools where id = :id::uuid

-- name: tools_pushed
update tools set status = 'active', ultravox_tool_id = :provider_id::text, credential_id = :credential_id::uuid,
	pushed_revision = greatest(pushed_revision, :revision::integer),
	sync_status = case when revision <= :revision then 'synced' else 'pending' end, last_error = null, updated_at = tl_now()
where id = :id::uuid

-- Agents name the tool by the provider's id and carry its secret.
-- name: tools_retell
with used as (update agents a set sync_status = 'pending', updated_at = tl_now() from agent_tools l
	where l.tool_id = :id::uuid and l.client_id = a.client_id and l.agent_id = a.id and l.enabled and a.deleted_at is null
		and a.ultravox_agent_id is not null returning a.id)
select job_add(gen_random_uuid(), 'q-artifacts-sync', 'agent.push', '{}', 'agent', id, null, 0, null) from used

-- name: tools_push_failed
update tools set status = case when ultravox_tool_id is null then 'failed' else status end, sync_status = 'failed',
	last_error = :error::text, updated_at = tl_now()
where id = :id::uuid
