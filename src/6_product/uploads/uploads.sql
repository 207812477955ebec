-- Uploads. The server makes every key; nobody names one.

-- name: uploads_insert
insert into uploads (id, agency_id, client_id, kind, parent_id, filename, ext, content_type, declared_bytes, s3_key)
values (:id::uuid, tl_agency(), tl_client(), :kind::text, :parent_id::uuid, :filename::text, :ext::text, :content_type::text,
	:bytes::bigint, :key::text)

-- name: uploads_admit
select storage_admit((select coalesce((c.limits ->> 'storage_bytes')::bigint, 53687091200) from clients c where c.id = tl_client()))

-- name: uploads_get
select id, s3_key as object, ext, status, declared_bytes from uploads
where (id = :id::uuid or s3_key = :key::text) and kind = :kind::text and parent_id is not distinct from :parent_id::uuid
	and status in ('pending_upload', 'uploaded', 'used')

-- name: uploads_set
update uploads set status = :status::text, actual_bytes = coalesce(nullif(:bytes::bigint, 0), actual_bytes), updated_at = tl_now()
where id = :id::uuid

-- name: uploads_old
select id, objects from uploads_stale(:most::integer)

-- name: uploads_gone
select uploads_expire(string_to_array(:ids::text, ',')::uuid[])
