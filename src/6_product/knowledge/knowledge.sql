-- Knowledge bases.

-- name: kb_mode
select mode from clients

-- name: kb_insert
insert into knowledge_bases (id, agency_id, client_id, name, description, language, status)
values (:id::uuid, tl_agency(), tl_client(), :name::text, :description::text, :language::text, 'creating')

-- name: kb_get
select * from kb_rows where id = :id::uuid

-- name: kb_list list
select * from kb_rows
where (:status::text is null or status = any (string_to_array(:status, ',')))
	and (:q::text is null or name ilike '%' || :q || '%')

-- name: kb_update
update knowledge_bases set name = coalesce(:name::text, name),
	description = case when :set_description::boolean then :description::text else description end, revision = revision + 1,
	sync_status = 'pending', status = case status when 'failed' then 'creating' else status end, last_error = null, updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning ultravox_corpus_id

-- name: kb_resync
update knowledge_bases set sync_status = 'pending', status = case status when 'failed' then 'creating' else status end, last_error = null,
	updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id

-- name: kb_lock
select status, ultravox_corpus_id from knowledge_bases where id = :id::uuid and deleted_at is null for update

-- name: kb_used
select a.id from agent_knowledge_bases l join agents a on a.client_id = l.client_id and a.id = l.agent_id
where l.knowledge_base_id = :id::uuid and a.deleted_at is null limit 1

-- name: kb_delete
update knowledge_bases set deleted_at = tl_now(), updated_at = tl_now() where id = :id::uuid and deleted_at is null

-- name: kb_load
select (select mode from clients) as mode, name, description, revision, ultravox_corpus_id as provider_id, credential_id, deleted_at
from knowledge_bases where id = :id::uuid

-- name: kb_pushed
update knowledge_bases k set status = case when status not in ('creating', 'failed') then status
		when exists (select from kb_documents d where d.client_id = k.client_id and d.knowledge_base_id = k.id and d.deleted_at is null
			and d.status = 'processing') then 'processing' else 'ready' end,
	ultravox_corpus_id = :provider_id::text, credential_id = :credential_id::uuid,
	pushed_revision = greatest(pushed_revision, :revision::integer),
	sync_status = case when revision <= :revision then 'synced' else 'pending' end, last_error = null, updated_at = tl_now()
where id = :id::uuid

-- name: kb_push_failed
update knowledge_bases set status = case when ultravox_corpus_id is null then 'failed' else status end, sync_status = 'failed',
	last_error = :error::text, updated_at = tl_now()
where id = :id::uuid

-- A corpus made again is empty: everything is read anew, and agents learn its new id.
-- name: kb_refill
with again as (update kb_documents set status = 'processing', ultravox_source_id = null, error_message = null, started_at = tl_now(),
		updated_at = tl_now()
	where knowledge_base_id = :id::uuid and deleted_at is null and status in ('indexed', 'processing', 'failed') returning id),
busy as (update knowledge_bases set status = 'processing' where id = :id::uuid and exists (select from again) returning id),
used as (update agents a set sync_status = 'pending', updated_at = tl_now() from agent_knowledge_bases l
	where l.knowledge_base_id = :id::uuid and l.client_id = a.client_id and l.agent_id = a.id and a.deleted_at is null
		and a.ultravox_agent_id is not null returning a.id)
select job_add(gen_random_uuid(), 'q-artifacts-sync', 'kb.ingest', '{}', 'kb_document', id, null, 0, 'ingest:' || id)
from again left join busy using (id)
union all
select job_add(gen_random_uuid(), 'q-artifacts-sync', 'agent.push', '{}', 'agent', id, null, 0, null) from used

-- Documents.

-- name: docs_insert_file
insert into kb_documents (id, agency_id, client_id, knowledge_base_id, kind, upload_id, file_name, file_type, file_size, status)
values (:id::uuid, tl_agency(), tl_client(), :kb::uuid, 'file', :id, :name::text, :type::text, :bytes::bigint, 'pending_upload')

-- name: docs_insert_url
insert into kb_documents (id, agency_id, client_id, knowledge_base_id, kind, url, crawl, status, started_at)
values (:id::uuid, tl_agency(), tl_client(), :kb::uuid, 'url', :url::text, :crawl::jsonb, 'processing', tl_now())

-- name: docs_insert_moved
insert into kb_documents (id, agency_id, client_id, knowledge_base_id, kind, upload_id, file_name, file_type, file_size, copy_from, status,
	started_at)
values (:id::uuid, tl_agency(), tl_client(), :kb::uuid, 'file', :id, :name::text, :type::text, :bytes::bigint, :object::text, 'processing',
	tl_now())

-- name: docs_copied
update kb_documents set copy_from = null where id = :id::uuid

-- Those of the list that belong here and may begin.
-- name: docs_begin
update kb_documents set status = 'processing', error_message = null, started_at = tl_now(), updated_at = tl_now()
where knowledge_base_id = :kb::uuid and id = any (string_to_array(:ids::text, ',')::uuid[]) and deleted_at is null
	and status in ('pending_upload', 'uploaded', 'failed')
returning id, ultravox_source_id

-- name: docs_known
select id from kb_documents where knowledge_base_id = :kb::uuid and id = any (string_to_array(:ids::text, ',')::uuid[])
	and deleted_at is null

-- name: kb_busy
update knowledge_bases set status = 'processing', updated_at = tl_now() where id = :id::uuid and status in ('ready', 'processing')

-- name: docs_get
select * from kb_document_rows where id = :id::uuid and knowledge_base_id = :kb::uuid

-- name: docs_some
select doc_id, status, ultravox_source_id, error_message from kb_document_rows
where knowledge_base_id = :kb::uuid and id = any (string_to_array(:ids::text, ',')::uuid[]) order by created_at, id

-- name: docs_list list
select * from kb_document_rows
where knowledge_base_id = :kb::uuid and (:status::text is null or status = any (string_to_array(:status, ',')))

-- name: docs_delete
update kb_documents set deleted_at = tl_now(), updated_at = tl_now()
where id = :id::uuid and knowledge_base_id = :kb::uuid and deleted_at is null
returning id

-- name: docs_load
select (select mode from clients) as mode, d.kind, d.file_name, d.file_type, d.url, d.crawl, d.status, d.ultravox_source_id, d.started_at,
	d.deleted_at, d.upload_id, d.copy_from, u.s3_key as object, u.declared_bytes, k.id as kb_id, k.ultravox_corpus_id, k.credential_id,
	k.deleted_at as kb_deleted_at, k.status as kb_status
from kb_documents d join knowledge_bases k on k.client_id = d.client_id and k.id = d.knowledge_base_id
left join uploads u on u.client_id = d.client_id and u.id = d.upload_id
where d.id = :id::uuid

-- name: docs_source
update kb_documents set ultravox_source_id = :source_id::text, updated_at = tl_now() where id = :id::uuid and deleted_at is null returning id

-- name: docs_end
update kb_documents set status = :status::text, error_message = :error::text, updated_at = tl_now()
where id = :id::uuid and status = 'processing'

-- Locked by the caller. When nothing is left to read the base is ready again.
-- name: kb_settle
update knowledge_bases k set status = 'ready', updated_at = tl_now()
where id = :id::uuid and status = 'processing' and not exists (select from kb_documents d
	where d.client_id = k.client_id and d.knowledge_base_id = k.id and d.deleted_at is null and d.status = 'processing')
returning ultravox_corpus_id, (select document_counts from kb_rows r where r.id = k.id) as counts

-- name: docs_by_source
select id, file_name, url, ultravox_source_id from kb_documents where knowledge_base_id = :kb::uuid and deleted_at is null
	and ultravox_source_id is not null
