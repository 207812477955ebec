-- Uploads. The server makes every key; nobody names one.

-- name: uploads_quota
select coalesce((c.limits ->> 'storage_bytes')::bigint, 53687091200) as quota from clients c where c.id = tl_client()

-- name: uploads_insert
insert into uploads (id, agency_id, client_id, kind, parent_id, filename, ext, content_type, declared_bytes, s3_key)
values (:id::uuid, tl_agency(), tl_client(), :kind::text, :parent_id::uuid, :filename::text, :ext::text, :content_type::text,
	:bytes::bigint, :key::text)

-- name: uploads_admit
select storage_admit(:quota::bigint)

-- name: uploads_old
select id, objects from uploads_stale(:most::integer)

-- name: uploads_gone
select uploads_expire(string_to_array(:ids::text, ',')::uuid[])
