-- Uploads: places in the object store that a client may fill, and what it stores there in all.

create table uploads (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid not null references clients (id),
	kind text not null check (kind in ('voices', 'kb', 'campaigns')),
	parent_id uuid,		-- knowledge base or campaign
	filename text not null,
	ext text not null,
	content_type text,
	declared_bytes bigint not null check (declared_bytes > 0),
	actual_bytes bigint,
	status text not null default 'pending_upload' check (status in ('pending_upload', 'uploaded', 'used', 'failed', 'expired')),
	s3_key text not null,
	created_at timestamptz not null default tl_now(),
	updated_at timestamptz not null default tl_now(),
	unique (client_id, id)
);
create unique index uploads_key on uploads (s3_key);
create index uploads_client on uploads (client_id, created_at, id);
create index uploads_pending on uploads (created_at) where status = 'pending_upload';
select protect('uploads', 'C');

-- Bytes a client has in the store or has been promised room for; the sum of its rows, kept beside them by triggers.
create table storage_used (
	client_id uuid primary key references clients (id),
	agency_id uuid not null,
	bytes bigint not null
);
select protect('storage_used', 'X');
revoke insert on storage_used from tl_app, tl_agency;

create function stored_bytes(p_row jsonb) returns bigint language sql immutable parallel safe as $$
	select case when p_row ->> 'status' in ('pending_upload', 'uploaded', 'used', 'ready')
		then coalesce(p_row ->> 'actual_bytes', p_row ->> 'declared_bytes', p_row ->> 'bytes', '0')::bigint else 0 end
$$;

create function storage_count() returns trigger language plpgsql security definer as $$
declare
	delta bigint := case when tg_op <> 'DELETE' then stored_bytes(to_jsonb(new)) else 0 end
		- case when tg_op <> 'INSERT' then stored_bytes(to_jsonb(old)) else 0 end;
begin
	if delta = 0 then
		return null;
	elsif tg_op = 'DELETE' then
		update storage_used s set bytes = bytes + delta where s.client_id = old.client_id;
	else
		insert into storage_used as s (client_id, agency_id, bytes) values (new.client_id, new.agency_id, delta)
			on conflict (client_id) do update set bytes = s.bytes + delta;
	end if;
	return null;
end $$;
create trigger storage after insert or update or delete on uploads for each row execute function storage_count();
create trigger storage after insert or update or delete on call_artifacts for each row execute function storage_count();
insert into storage_used (client_id, agency_id, bytes)
	select a.client_id, a.agency_id, sum(stored_bytes(to_jsonb(a))) from call_artifacts a group by 1, 2;

-- After the rows are there: is all of it within the quota? The row is locked since they were counted.
create function storage_admit(p_quota bigint) returns void language plpgsql security definer as $$
declare
	n bigint := coalesce((select s.bytes from storage_used s where s.client_id = tl_client()), 0);
begin
	if n > p_quota then
		raise sqlstate 'TL429' using message = 'The storage of this client is full',
			detail = format('"policy":"storage","limit":%s,"remaining":0,"retry_after":3600', p_quota);
	end if;
end $$;

-- For the hourly cleaner: pending for a day, oldest first; and their end.
create function uploads_stale(p_most integer) returns table (id uuid, objects text) language plpgsql stable security definer as $$
begin
	return query select u.id, u.s3_key from uploads u where u.status = 'pending_upload' and u.created_at < tl_now() - interval '24 hours'
		order by u.created_at limit p_most;
end $$;

create function uploads_expire(p_ids uuid[]) returns void language plpgsql security definer as $$
begin
	update uploads u set status = 'expired', updated_at = tl_now() where u.id = any (p_ids) and u.status = 'pending_upload';
end $$;

select definers();
revoke all on function uploads_stale(integer), uploads_expire(uuid[]) from tl_app, tl_agency;
select audited('uploads', 'insert or update or delete');
