-- Who may come in: invited users, platform keys, provider credentials, and doors that ask for their state.

alter table users alter column issuer drop not null, alter column subject drop not null,
	add column invited_at timestamptz, add column deleted_at timestamptz,
	add check ((issuer is null) = (subject is null));
drop index users_subject;
create unique index users_subject on users (agency_id, issuer, subject, client_id) nulls not distinct where subject is not null;
create unique index users_invited on users (agency_id, client_id, lower(email)) nulls not distinct
	where invited_at is not null and deleted_at is null;
create index users_identity on users (issuer, subject) where subject is not null;
create index users_unbound on users (lower(email)) where subject is null and deleted_at is null;

-- Both kinds of key: ours (service trunkline; only a digest is kept) and a provider's (sealed, see vault.h).
create table api_keys (
	id uuid primary key,
	agency_id uuid not null references agencies (id),
	client_id uuid references clients (id),	-- null: the agency's own
	service text not null,
	key_name text not null check (length(key_name) between 1 and 100),
	is_active boolean not null default true,
	role text check (role in ('agency_admin', 'client_admin', 'client_user')),
	scopes text[],
	key_prefix text,
	secret_hash bytea,
	expires_at timestamptz,
	last_used_at timestamptz,
	sealed bytea,
	settings jsonb not null default '{}',
	voice_id text,
	sync_status text check (sync_status in ('synced', 'pending', 'stored_only', 'failed')),
	last_error text,
	revoked_at timestamptz,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	check ((service = 'trunkline') = (secret_hash is not null and role is not null and scopes is not null and key_prefix is not null)),
	check (service = 'trunkline' or sealed is not null or revoked_at is not null)
);
create unique index api_keys_client_id on api_keys (client_id, id);
create unique index api_keys_name on api_keys (agency_id, client_id, service, key_name) nulls not distinct where revoked_at is null;
create unique index api_keys_prefix on api_keys (key_prefix) where key_prefix is not null;
create index api_keys_agency on api_keys (agency_id, created_at, id);
select protect('api_keys', 'A');

-- The account an agent's copy lives in: a tenant's own credential, or null for the platform's. Calls follow their agent.
alter table agents add column credential_id uuid;

drop function tl_enter(uuid, uuid, text, text, text, text);
drop function user_seen(uuid, uuid, uuid, text, text, text, text, text, text);

-- Opens a door: checks the tenant and the state of user or key against the rows, then sets the tenant for the
-- rest of the transaction; answers the client's limits. With p_client null the whole agency is meant, with
-- p_user and p_key null one of our own jobs. p_source is address and agent of a write, for the audit; null for a read,
-- which needs neither actor nor request. Assignments, because plpgsql evaluates them without the executor.
create function tl_enter(p_agency uuid, p_client uuid, p_user uuid, p_key uuid, p_now text, p_request text, p_source text)
returns jsonb language plpgsql security definer as $$
declare
	limits jsonb;
	alive boolean;
	k record;
	done text;
begin
	if p_client is not null then
		select c.limits, u.is_active into limits, alive from clients c
			left join users u on u.id = p_user and u.agency_id = p_agency and u.deleted_at is null
				and (u.client_id is null or u.client_id = p_client)
			where c.id = p_client and c.agency_id = p_agency
				and (c.deleted_at is null or (p_user is null and p_key is null));	-- our own jobs still tidy up there
		if not found then
			raise sqlstate 'TL403' using message = 'This client is not yours', detail = '"reason":"foreign_client"';
		end if;
	else
		select a.limits, u.is_active into limits, alive from agencies a
			left join users u on u.id = p_user and u.agency_id = p_agency and u.deleted_at is null
			where a.id = p_agency and a.is_active;
		if not found then
			raise sqlstate 'TL403' using message = 'No such agency', detail = '"reason":"no_tenant"';
		end if;
	end if;
	if p_key is not null then
		select a.revoked_at is null and a.is_active as alive, a.expires_at <= p_now::timestamptz as expired into k from api_keys a
			where a.id = p_key and a.agency_id = p_agency and (a.client_id is null or a.client_id = p_client);
		if not coalesce(k.alive, false) then
			raise sqlstate 'TL401' using message = 'This key is revoked', detail = '"reason":"revoked"';
		elsif k.expired then
			raise sqlstate 'TL401' using message = 'This key has expired', detail = '"reason":"expired"';
		end if;
	elsif p_user is not null and not coalesce(alive, false) then
		raise sqlstate 'TL401' using message = 'This user is deactivated', detail = '"reason":"deactivated"';
	end if;
	done := set_config('tl.agency', p_agency::text, true);
	done := set_config('tl.client', coalesce(p_client::text, ''), true);
	done := set_config('tl.now', p_now, true);
	if p_source is not null then
		done := set_config('tl.request', p_request, true);
		done := set_config('tl.source', p_source, true);
		done := set_config('tl.actor', case when p_key is not null then 'key:' || p_key when p_user is not null then 'user:' || p_user
			else 'system' end, true);
	end if;
	return limits;
end $$;

-- Whom a token means, from the rows alone. A tenant claimed by a trusted issuer (p_agency or p_client) finds the row
-- of that tenant, else the subject's first. No row: principal_bind may make one.
create function principal_find(p_issuer text, p_subject text, p_agency uuid, p_client uuid)
returns table (user_id uuid, agency_id uuid, client_id uuid, role text, is_active boolean, mode text, seen_at timestamptz)
language plpgsql stable security definer as $$
begin
	return query select u.id, u.agency_id, u.client_id, u.role, u.is_active, c.mode, u.last_seen_at
	from users u left join clients c on c.id = u.client_id
	where u.issuer = p_issuer and u.subject = p_subject and u.deleted_at is null and c.deleted_at is null
		and case when p_agency is null and p_client is null then true
			else u.client_id is not distinct from p_client and u.agency_id = coalesce(p_agency, u.agency_id) end
	order by u.created_at limit 1;
end $$;

-- First sight. With a claimed tenant: one users row, however many come at once, never a client and never a role above
-- the claim's. Without: the invitation for a verified address, bound once; p_only is the agency the issuer is good for.
create function principal_bind(p_id uuid, p_issuer text, p_subject text, p_agency uuid, p_client uuid, p_role text, p_email text,
	p_name text, p_verified boolean, p_only uuid, p_now text) returns text language plpgsql security definer as $$
declare
	a uuid := p_agency;
	invited uuid;
begin
	perform set_config('tl.now', p_now, true), set_config('tl.actor', 'user:' || p_id, true);
	if p_client is not null then
		select c.agency_id into a from clients c where c.id = p_client and c.deleted_at is null
			and c.agency_id = coalesce(p_agency, c.agency_id);
	end if;
	if p_agency is not null or p_client is not null then
		if a is null or not exists (select from agencies g where g.id = a and g.is_active and g.id = coalesce(p_only, g.id)) then
			return 'no_tenant';
		end if;
		insert into users (id, agency_id, client_id, issuer, subject, email, name, role, last_seen_at)
			values (p_id, a, p_client, p_issuer, p_subject, p_email, p_name, p_role, tl_now())
			on conflict (agency_id, issuer, subject, client_id) where subject is not null do nothing;
		return 'bound';
	end if;
	if not p_verified or p_email is null then
		return 'no_tenant';
	end if;
	select u.id into invited from users u where lower(u.email) = lower(p_email) and u.subject is null and u.deleted_at is null
		and u.invited_at is not null and u.is_active and u.agency_id = coalesce(p_only, u.agency_id) order by u.invited_at limit 1 for update;
	if invited is null then
		return 'no_tenant';
	end if;
	update users set issuer = p_issuer, subject = p_subject, name = coalesce(name, p_name), last_seen_at = tl_now(),
		updated_at = tl_now() where id = invited and subject is null;
	return 'bound';
end $$;

create function key_find(p_prefix text)
returns table (key_id uuid, agency_id uuid, client_id uuid, role text, scopes text, secret_hash bytea, live boolean,
	expires_at timestamptz, mode text, seen_at timestamptz) language plpgsql stable security definer as $$
begin
	return query select k.id, k.agency_id, k.client_id, k.role, array_to_string(k.scopes, ','), k.secret_hash,
		k.revoked_at is null and k.is_active, k.expires_at, c.mode, k.last_used_at
	from api_keys k left join clients c on c.id = k.client_id where k.key_prefix = p_prefix;
end $$;

-- "Last used" and "last seen", at most once a minute each.
create function principal_touch(p_user uuid, p_key uuid, p_now text) returns void language plpgsql security definer as $$
begin
	update users set last_seen_at = p_now::timestamptz where id = p_user
		and (last_seen_at is null or last_seen_at < p_now::timestamptz - interval '1 minute');
	update api_keys set last_used_at = p_now::timestamptz where id = p_key
		and (last_used_at is null or last_used_at < p_now::timestamptz - interval '1 minute');
end $$;

-- A new client's accounts, stream and first event, from its agency's door.
create function client_open(p_client uuid, p_event uuid, p_data jsonb) returns void language plpgsql security definer as $$
begin
	if not exists (select from clients c where c.id = p_client and c.agency_id = tl_agency()) then
		raise sqlstate 'TL404' using message = 'No such client';
	end if;
	perform ledger_open(p_client, tl_agency());
	perform set_config('tl.client', p_client::text, true);
	perform event_append(p_event, 'client.created', 'client', p_client, p_data);
	perform set_config('tl.client', '', true);
end $$;

-- The sealed credential a job may use: the one named by p_id, else the client's own, else its agency's.
create function credential_find(p_service text, p_id uuid) returns table (key_id uuid, owner_id uuid, sealed bytea, settings jsonb)
language plpgsql stable security definer as $$
begin
	return query select k.id, coalesce(k.client_id, k.agency_id), k.sealed, k.settings from api_keys k
	where k.agency_id = tl_agency() and (k.client_id = tl_client() or k.client_id is null) and k.service = p_service
		and k.is_active and k.revoked_at is null and k.sealed is not null and k.id = coalesce(p_id, k.id)
	order by k.client_id nulls last, k.created_at desc limit 1;
end $$;

create function timezone_known(p_name text) returns boolean language plpgsql stable as $$
begin
	perform timezone(p_name, tl_now());
	return p_name !~ '[0-9<>]';	-- names of places, not "UTC+3", which POSIX reads the wrong way round
exception when invalid_parameter_value then
	return false;
end $$;

create function definers() returns void language plpgsql as $$
declare
	f regprocedure;
begin
	for f in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'public'::regnamespace and p.prosecdef
		and p.proowner <> 'tl_ledger'::regrole loop
		execute format('alter function %s owner to tl_ledger', f);
		execute format('revoke all on function %s from public', f);
		execute format('grant execute on function %s to tl_app, tl_agency, tl_system, tl_migrate, tl_ledger', f);
	end loop;
end $$;
select definers();
revoke all on function principal_find(text, text, uuid, uuid), key_find(text), principal_touch(uuid, uuid, text),
	principal_bind(uuid, text, text, uuid, uuid, text, text, text, boolean, uuid, text) from tl_app, tl_agency;

create view user_rows with (security_invoker = true) as
	select id, client_id, agency_id, email, name, role, is_active, subject is not null as joined, invited_at, last_seen_at,
		created_at, updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from users where deleted_at is null;

create view api_key_rows with (security_invoker = true) as
	select id, client_id, service, key_name, is_active, role, to_jsonb(scopes) as scopes, key_prefix, expires_at, last_used_at,
		settings, voice_id, sync_status, last_error, revoked_at, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from api_keys;

grant select on user_rows, api_key_rows to tl_app, tl_agency, tl_system, tl_ledger;
