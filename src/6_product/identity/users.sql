-- People: invited or vouched for by a trusted claim.

-- name: users_get
select * from user_rows where id = :id::uuid

-- name: users_list list
select * from user_rows
where (:self::uuid is null or id = :self)

-- name: users_invite
insert into users (id, agency_id, client_id, issuer, subject, email, name, role, invited_at)
select :id::uuid, tl_agency(), tl_client(), :issuer::text, :subject::text, :email::text, :name::text, :role::text, tl_now()
where not exists (select from users where lower(email) = lower(:email) and client_id is not distinct from tl_client()
	and deleted_at is null)
on conflict do nothing
returning id

-- name: users_by_email
select id from users where lower(email) = lower(:email::text) and client_id is not distinct from tl_client()
	and deleted_at is null limit 1

-- name: users_patch
update users set name = case when :set_name::boolean then :name::text else name end, role = coalesce(:role::text, role),
	is_active = coalesce(:is_active::text::boolean, is_active), updated_at = tl_now()
where id = :id::uuid and deleted_at is null
returning id
