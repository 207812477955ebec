-- Agents.

-- name: agents_insert
insert into agents (id, agency_id, client_id, name, description, voice_id, system_prompt, model, settings, status)
values (:id::uuid, tl_agency(), tl_client(), :name::text, :description::text, :voice_id::uuid, :system_prompt::text, :model::text,
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
	voice_id = case when :set_voice::boolean then :voice_id::uuid else voice_id end,
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
insert into agents (id, agency_id, client_id, name, description, voice_id, system_prompt, model, settings, status)
select :id::uuid, tl_agency(), tl_client(), coalesce(:name::text, left(name, 93) || ' (copy)'), description, voice_id, system_prompt,
	model, settings, 'creating'
from agents where id = :from::uuid and deleted_at is null
returning id

-- name: agents_copy_tools
insert into agent_tools (agency_id, client_id, agent_id, tool_id, position, enabled, parameters)
select agency_id, client_id, :id::uuid, tool_id, position, enabled, parameters from agent_tools where agent_id = :from::uuid

-- name: agents_copy_kbs
insert into agent_knowledge_bases (agency_id, client_id, agent_id, knowledge_base_id, position)
select agency_id, client_id, :id::uuid, knowledge_base_id, position from agent_knowledge_bases where agent_id = :from::uuid

-- What an agent may be linked to: there, and at the provider. Locked, so that nobody deletes it before the link commits.
-- name: agents_voice_there
select ultravox_voice_id is not null and status = 'active' as usable from voices where id = :id::uuid and deleted_at is null for share

-- name: agents_tools_there
select id, ultravox_tool_id is not null as usable from tools where id = any (string_to_array(:ids::text, ',')::uuid[])
	and deleted_at is null order by id for share

-- name: agents_kbs_there
select id, ultravox_corpus_id is not null as usable from knowledge_bases where id = any (string_to_array(:ids::text, ',')::uuid[])
	and deleted_at is null order by id for share

-- name: agents_no_tools
delete from agent_tools where agent_id = :id::uuid

-- name: agents_no_kbs
delete from agent_knowledge_bases where agent_id = :id::uuid

-- Nothing when the agent is not there.
-- name: agents_link_tools
insert into agent_tools (agency_id, client_id, agent_id, tool_id, position, enabled, parameters)
select a.agency_id, a.client_id, a.id, (t ->> 'tool_id')::uuid, n, coalesce((t ->> 'enabled')::boolean, true), coalesce(t -> 'parameters', '{}')
from agents a cross join jsonb_array_elements(:tools::jsonb) with ordinality x (t, n) where a.id = :id::uuid and a.deleted_at is null

-- name: agents_link_kbs
insert into agent_knowledge_bases (agency_id, client_id, agent_id, knowledge_base_id, position)
select a.agency_id, a.client_id, a.id, k::uuid, n
from agents a cross join jsonb_array_elements_text(:ids::jsonb) with ordinality x (k, n) where a.id = :id::uuid and a.deleted_at is null

-- name: agents_lock
select exists (select from phone_numbers n where (n.agent_id = a.id or n.outbound_agent_id = a.id) and n.status in ('pending', 'active')) as used
from agents a where a.id = :id::uuid and a.deleted_at is null for update

-- name: agents_delete
update agents set deleted_at = tl_now(), updated_at = tl_now() where id = :id::uuid and deleted_at is null returning id

-- name: agents_push_load
select (select mode from clients) as mode, name, system_prompt, model, settings, revision, ultravox_agent_id as provider_id,
	credential_id, deleted_at
from agents where id = :id::uuid

-- name: agents_push_links
select 'voice' as kind, v.id, v.name, v.ultravox_voice_id as provider_id, v.credential_id, null::jsonb as parameters,
	null::jsonb as authentication, null::bytea as sealed, 0 as position,
	v.ultravox_voice_id is null and v.status = 'training' as coming, v.provider
from agents a join voices v on v.client_id = a.client_id and v.id = a.voice_id where a.id = :id::uuid
union all
select 'tool', t.id, t.name, t.ultravox_tool_id, t.credential_id, l.parameters, t.authentication, t.auth_ciphertext, l.position,
	t.ultravox_tool_id is null and t.status = 'creating', null
from agent_tools l join tools t on t.client_id = l.client_id and t.id = l.tool_id where l.agent_id = :id::uuid and l.enabled
union all
select 'knowledge base', k.id, k.name, k.ultravox_corpus_id, k.credential_id, null, null, null, 1000 + l.position,
	k.ultravox_corpus_id is null and k.status = 'creating', null
from agent_knowledge_bases l join knowledge_bases k on k.client_id = l.client_id and k.id = l.knowledge_base_id where l.agent_id = :id::uuid
order by 9

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

-- Moving a setup: everything by our ids, which are only references to whoever imports it.

-- name: moving_agents
select a.id, jsonb_build_object('ref', a.id, 'name', a.name, 'description', a.description, 'system_prompt', a.system_prompt,
	'model', a.model, 'settings', a.settings,
	'voice', (select jsonb_build_object('name', v.name, 'provider', v.provider, 'type', v.type, 'provider_voice_id', v.provider_voice_id,
		'language', v.language) from voices v where v.client_id = a.client_id and v.id = a.voice_id),
	'tools', (select coalesce(jsonb_agg(jsonb_build_object('ref', l.tool_id, 'enabled', l.enabled, 'parameters', l.parameters)
		order by l.position), '[]') from agent_tools l where l.client_id = a.client_id and l.agent_id = a.id),
	'knowledge_bases', (select coalesce(jsonb_agg(l.knowledge_base_id order by l.position), '[]') from agent_knowledge_bases l
		where l.client_id = a.client_id and l.agent_id = a.id))::text as doc
from agents a where a.deleted_at is null and (:ids::text is null or a.id = any (string_to_array(:ids, ',')::uuid[]))
order by a.created_at, a.id limit :most::integer

-- name: moving_tools
select jsonb_build_object('ref', t.id, 'name', t.name, 'description', t.description, 'category', t.category, 'endpoint', t.endpoint,
	'method', t.method, 'authentication', t.authentication, 'parameters', t.parameters, 'response_schema', t.response_schema,
	'timeout_seconds', t.timeout_seconds)::text as doc
from tools t where t.deleted_at is null and t.id in (select l.tool_id from agent_tools l
	where l.agent_id = any (string_to_array(:ids::text, ',')::uuid[])) order by t.created_at, t.id

-- name: moving_kbs
select k.id, jsonb_build_object('ref', k.id, 'name', k.name, 'description', k.description, 'language', k.language)::text as doc
from knowledge_bases k where k.deleted_at is null and k.id in (select l.knowledge_base_id from agent_knowledge_bases l
	where l.agent_id = any (string_to_array(:ids::text, ',')::uuid[])) order by k.created_at, k.id

-- name: moving_documents
select d.knowledge_base_id, d.kind, d.file_name, d.file_size, d.url, d.crawl, u.s3_key as object, u.ext
from kb_documents d left join uploads u on u.client_id = d.client_id and u.id = d.upload_id
where d.deleted_at is null and d.status in ('indexed', 'processing', 'failed') and d.knowledge_base_id in (select l.knowledge_base_id
	from agent_knowledge_bases l where l.agent_id = any (string_to_array(:ids::text, ',')::uuid[])) order by d.created_at, d.id

-- The client's own voice that is the one meant: the same reference, else the same name.
-- name: moving_voice
select id from voices where deleted_at is null and status = 'active'
	and ((:provider_voice_id::text is not null and provider = :provider::text and provider_voice_id = :provider_voice_id)
		or (name = :name::text and provider = :provider))
order by (provider_voice_id = :provider_voice_id) desc nulls last, created_at limit 1
