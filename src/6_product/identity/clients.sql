-- Clients of an agency.

-- name: clients_get
select * from client_rows where id = :id::uuid

-- name: clients_list list
select * from client_rows
where (:q::text is null or name ilike '%' || :q || '%')
	and (:subscription_status::text is null or subscription_status = any (string_to_array(:subscription_status, ',')))

-- name: clients_insert
insert into clients (id, agency_id, name, email, mode, price_per_minute, credits_ceiling, limits, settings)
values (:id::uuid, tl_agency(), :name::text, :email::text, :mode::text, :price::integer, :ceiling::integer,
	jsonb_strip_nulls(coalesce(:limits::jsonb, '{}')), jsonb_strip_nulls(coalesce(:settings::jsonb, '{}')))
on conflict (agency_id, email) where deleted_at is null do nothing
returning id

-- name: clients_by_email
select id from clients where email = :email::text and deleted_at is null

-- name: clients_open
select client_open(:id::uuid, :event_id::uuid, :data::jsonb)

-- Absent fields keep what is there; a null inside limits or settings takes that member away.
-- name: clients_patch
update clients set name = coalesce(:name::text, name), email = coalesce(:email::text, email),
	settings = jsonb_strip_nulls(settings || coalesce(:settings::jsonb, '{}')),
	limits = jsonb_strip_nulls(limits || coalesce(:limits::jsonb, '{}')),
	subscription_status = coalesce(:subscription_status::text, subscription_status),
	price_per_minute = coalesce(:price::text::integer, price_per_minute),
	credits_ceiling = coalesce(:ceiling::text::integer, credits_ceiling), updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id

-- name: clients_timezone
select timezone_known(:name::text) as known
