-- Back to the doors of 0002. Rows that only this version can hold (invitations, keys) go.
drop view api_key_rows, user_rows;
drop function definers, timezone_known, credential_find, client_open, principal_touch, key_find, principal_bind, principal_find, tl_enter;
drop table api_keys;
alter table agents drop column credential_id;
delete from users where subject is null or deleted_at is not null;
drop index users_unbound, users_identity, users_invited, users_subject;
alter table users drop constraint users_check, drop column invited_at, drop column deleted_at, alter column issuer set not null,
	alter column subject set not null;
create unique index users_subject on users (agency_id, issuer, subject, client_id) nulls not distinct;

-- Opens a door: checks what the credential claims against the rows, then sets the tenant for the
-- rest of the transaction; answers the client's limits. With p_client null the whole agency is meant.
-- One query and a plain result, because every request begins here.
create function tl_enter(p_agency uuid, p_client uuid, p_issuer text, p_subject text, p_now text, p_request text)
returns jsonb language plpgsql security definer as $$
declare
	r record;
begin
	if p_client is not null then
		select c.limits, u.id, u.is_active into r from clients c left join lateral (
			select u.id, u.is_active from users u
			where u.agency_id = p_agency and u.issuer = p_issuer and u.subject = p_subject
				and (u.client_id is null or u.client_id = p_client)
			order by u.is_active limit 1) u on true
		where c.id = p_client and c.agency_id = p_agency and c.deleted_at is null;
		if not found then
			raise sqlstate 'TL403' using message = 'This client is not yours', detail = '"reason":"foreign_client"';
		end if;
	else
		select a.limits, u.id, u.is_active into r from agencies a left join lateral (
			select u.id, u.is_active from users u
			where u.agency_id = p_agency and u.issuer = p_issuer and u.subject = p_subject
			order by u.is_active limit 1) u on true
		where a.id = p_agency and a.is_active;
		if not found then
			raise sqlstate 'TL403' using message = 'No such agency', detail = '"reason":"no_tenant"';
		end if;
	end if;
	if p_subject is not null and r.id is null then
		raise sqlstate 'TL002' using message = 'unseen user';
	elsif not r.is_active then
		raise sqlstate 'TL401' using message = 'This user is deactivated', detail = '"reason":"deactivated"';
	end if;
	perform set_config('tl.agency', p_agency::text, true), set_config('tl.client', coalesce(p_client::text, ''), true),
		set_config('tl.now', p_now, true), set_config('tl.request', p_request, true),
		set_config('tl.actor', coalesce(r.id::text, 'system'), true);
	return r.limits;
end $$;

-- First sight of a subject that a trusted claim vouches for. Two at once make one row.
create function user_seen(p_id uuid, p_agency uuid, p_client uuid, p_issuer text, p_subject text, p_email text,
	p_name text, p_role text, p_now text) returns void language plpgsql security definer as $$
begin
	perform set_config('tl.now', p_now, true);
	if p_client is not null and not exists (select from clients c where c.id = p_client and c.agency_id = p_agency) then
		raise sqlstate 'TL403' using message = 'This client is not yours', detail = '"reason":"foreign_client"';
	elsif not exists (select from agencies a where a.id = p_agency and a.is_active) then
		raise sqlstate 'TL403' using message = 'No such agency', detail = '"reason":"no_tenant"';
	end if;
	insert into users (id, agency_id, client_id, issuer, subject, email, name, role, last_seen_at)
		values (p_id, p_agency, p_client, p_issuer, p_subject, p_email, p_name, p_role, tl_now())
		on conflict (agency_id, issuer, subject, client_id) do nothing;
end $$;

alter function tl_enter(uuid, uuid, text, text, text, text) owner to tl_ledger;
alter function user_seen(uuid, uuid, uuid, text, text, text, text, text, text) owner to tl_ledger;
revoke all on function tl_enter(uuid, uuid, text, text, text, text),
	user_seen(uuid, uuid, uuid, text, text, text, text, text, text) from public;
grant execute on function tl_enter(uuid, uuid, text, text, text, text) to tl_app, tl_agency, tl_system, tl_migrate, tl_ledger;
grant execute on function user_seen(uuid, uuid, uuid, text, text, text, text, text, text) to tl_system, tl_migrate, tl_ledger;
