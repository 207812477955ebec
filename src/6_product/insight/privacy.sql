-- Requests to export or erase, and the nightly broom.

-- name: privacy_insert
insert into privacy_requests (id, agency_id, client_id, kind, subject_type, subject_value, due_at)
values (:id::uuid, tl_agency(), tl_client(), :kind::text, :type::text, :value::text,
	case when :kind = 'erasure' then tl_now() + interval '30 days' end)

-- name: privacy_get
select * from privacy_rows where id = :id::uuid and kind = :kind::text

-- name: privacy_list list
select * from privacy_rows
where kind = :kind::text and (:status::text is null or status = any (string_to_array(:status, ',')))

-- name: privacy_user
select id from users where deleted_at is null and (id::text = lower(:value::text) or lower(email) = lower(:value)) order by created_at limit 1

-- name: privacy_load
select kind, subject_type, subject_value, status, due_at from privacy_requests where id = :id::uuid

-- name: privacy_running
update privacy_requests set status = 'running', updated_at = tl_now() where id = :id::uuid and status = 'queued'

-- name: privacy_done
update privacy_requests set status = 'done', finished_at = tl_now(), object_key = :object_key::text, bytes = :bytes::text::bigint,
	subject_value = case kind when 'erasure' then encode(sha256(convert_to(subject_value, 'UTF8')), 'hex') else subject_value end,
	updated_at = tl_now()
where id = :id::uuid

-- name: privacy_failed
update privacy_requests set status = 'failed', finished_at = tl_now(), error = :error::text, updated_at = tl_now() where id = :id::uuid

-- name: export_next
select id, doc from export_page(:table::text, :type::text, :value::text, :after::uuid, :most::integer)

-- Ended calls to be masked: of a number, or all of the client's.
-- name: erase_calls
select c.id, array_to_string(array(select a.object_key from call_artifacts a where a.client_id = c.client_id and a.call_id = c.id
	and a.object_key is not null), ' ') as objects
from calls c
where c.archived_at is null and call_rank(c.status) = 4
	and (:phone::text is null or c.phone_number = :phone or (c.direction = 'inbound' and c.from_number = :phone))
order by c.created_at limit :most::integer

-- name: erase_live
select count(*) as live from calls c where call_rank(c.status) < 4
	and (:phone::text is null or c.phone_number = :phone or (c.direction = 'inbound' and c.from_number = :phone))

-- name: erase_mask
select calls_mask(string_to_array(:ids::text, ',')::uuid[], :request::uuid)

-- name: erase_raw
select inbound_forget(:text::text)

-- name: erase_user
select user_forget(:id::uuid)

-- name: erase_user_row
delete from users where id = :id::uuid

-- name: erase_audit
select audit_forget(:record::text)

-- name: erase_client
select client_forget(:id::uuid) as agent_id

-- name: erase_uploads
select u.id, u.s3_key as objects from uploads u limit :most::integer

-- name: erase_upload_rows
delete from uploads where id = any (string_to_array(:ids::text, ',')::uuid[])

-- name: erase_due_calls
select c.id, c.ultravox_call_id, (select mode from clients where id = tl_client()) as mode,
	(select g.credential_id from agents g where g.client_id = c.client_id and g.id = c.agent_id) as credential_id
from calls c where c.erasure_id = :request::uuid limit :most::integer

-- name: erase_call_row
delete from calls where id = any (string_to_array(:ids::text, ',')::uuid[])

-- name: erase_purge
select client_purge(:id::uuid, :most::integer) as more

-- name: retain_start
select retention_start(:after::uuid, :most::integer) as last

-- name: retain_calls
select c.id, '' as objects, c.created_at, tl_now() - retention_days('calls', 90) as cutoff
from calls c left join retention_marks m on m.client_id = c.client_id
where c.created_at >= coalesce(m.calls_until, '-infinity') and c.created_at < tl_now() - retention_days('calls', 90)
	and c.archived_at is null and call_rank(c.status) = 4
order by c.created_at, c.id limit :most::integer

-- name: retain_mark
select retention_mark(tl_now() - retention_days('calls', 90) - interval '1 day')

-- name: retain_mask
update calls set phone_number = 'erased', from_number = case when direction = 'inbound' then 'erased' else from_number end,
	context = '{}', summary = null, external_ref = null, error_message = null, join_url = null,
	call_settings = call_settings - 'greeting' - 'voicemail_message', archived_at = tl_now(), updated_at = tl_now()
where id = any (string_to_array(:ids::text, ',')::uuid[])

-- name: retain_erase
select job_add(gen_random_uuid(), 'q-artifacts-sync', 'call.erase', '{}', 'call', c.id, null, 0, 'erase:' || c.id)
from calls c where c.id = any (string_to_array(:ids::text, ',')::uuid[]) and c.ultravox_call_id is not null

-- name: retain_artifacts
select a.id, a.object_key as objects from call_artifacts a
where a.status = 'ready' and ((a.kind = 'recording' and a.created_at < tl_now() - retention_days('recordings', 90))
	or (a.kind = 'transcript' and a.created_at < tl_now() - retention_days('transcripts', 180)))
limit :most::integer

-- name: retain_artifacts_gone
update call_artifacts set status = 'deleted', items = null, object_key = null, updated_at = tl_now()
where id = any (string_to_array(:ids::text, ',')::uuid[])

-- name: retain_events
select retention_events(:most::integer) as removed

-- name: retain_audit
select retention_audit(tl_agency(), tl_client(), :most::integer) as removed
