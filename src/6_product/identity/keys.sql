-- Platform keys and provider credentials.

-- name: keys_get
select * from api_key_rows where id = :id::uuid

-- name: keys_list list
select * from api_key_rows
where (:service::text is null or service = any (string_to_array(:service, ',')))
	and (:is_active::text is null or is_active = (:is_active = 'true'))

-- name: keys_mode
select mode from clients where id = tl_client()

-- name: keys_platform_insert
insert into api_keys (id, agency_id, client_id, service, key_name, role, scopes, key_prefix, secret_hash, expires_at)
values (:id::uuid, tl_agency(), tl_client(), 'trunkline', :key_name::text, :role::text, string_to_array(:scopes::text, ','),
	:prefix::text, :hash::bytea, :expires_at::timestamptz)
on conflict (agency_id, client_id, service, key_name) where revoked_at is null do nothing
returning id

-- name: keys_provider_insert
insert into api_keys (id, agency_id, client_id, service, key_name, sealed, settings)
values (:id::uuid, tl_agency(), tl_client(), :service::text, :key_name::text, :sealed::bytea, coalesce(:settings::jsonb, '{}'))
on conflict (agency_id, client_id, service, key_name) where revoked_at is null do nothing
returning id

-- name: keys_by_name
select id from api_keys where service = :service::text and key_name = :key_name::text and revoked_at is null
	and client_id is not distinct from tl_client()

-- name: keys_kind
select service, role, client_id from api_keys where id = :id::uuid and revoked_at is null

-- name: keys_patch
update api_keys set key_name = coalesce(:key_name::text, key_name), settings = coalesce(:settings::jsonb, settings),
	is_active = coalesce(:is_active::text::boolean, is_active), sealed = coalesce(:sealed::bytea, sealed),
	scopes = coalesce(string_to_array(:scopes::text, ','), scopes),
	expires_at = case when :set_expires::boolean then :expires_at::timestamptz else expires_at end, updated_at = tl_now()
where id = :id::uuid and revoked_at is null
returning id

-- The row stays for the audit; what it could do is gone, a provider's secret with it.
-- name: keys_revoke
update api_keys set revoked_at = tl_now(), is_active = false, sealed = null, updated_at = tl_now()
where id = :id::uuid and revoked_at is null
returning id, revoked_at
