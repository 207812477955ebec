-- The audit: every change of a sensitive row, written by triggers when its transaction commits, one hash chain per client
-- and one per agency. The chain's head is locked at COMMIT alone, so it is never held while anything waits.

create table audit_chains (
	agency_id uuid not null,
	client_id uuid,
	last_seq bigint not null,
	last_hash bytea not null,
	anchor_seq bigint not null default 0,	-- rows up to here have outlived their keeping time
	anchor_hash bytea not null default '\x',
	unique nulls not distinct (agency_id, client_id)
);

create table audit_log (
	id uuid primary key,
	agency_id uuid not null,
	client_id uuid,		-- null: the agency's own chain
	seq bigint not null,
	actor_type text not null,
	actor_id text,
	action text not null check (action in ('create', 'update', 'delete', 'use')),
	table_name text not null,
	record_id text not null,
	diff jsonb,		-- null: erased; the digest stays
	diff_digest bytea not null,
	ip_address text,
	user_agent text,
	request_id text,
	prev_hash bytea not null,
	hash bytea not null,
	created_at timestamptz not null,
	unique nulls not distinct (agency_id, client_id, seq)
);
create index audit_log_client on audit_log (client_id, created_at, id);
create index audit_log_agency on audit_log (agency_id, created_at, id);
create index audit_log_record on audit_log (agency_id, record_id);

select protect('audit_chains', 'X'), protect('audit_log', 'X');
revoke insert on audit_chains, audit_log from tl_app, tl_agency;
-- an agency's own row has no client
alter table audit_log add unique (client_id, id);

-- SHA-256 over the hash before, the fixed fields as a JSON array, and the SHA-256 of the diff.
create function audit_hash(p audit_log) returns bytea language sql immutable parallel safe as $$
	select sha256(p.prev_hash || convert_to(jsonb_build_array(p.agency_id, p.client_id, p.seq,
		(extract(epoch from p.created_at) * 1000000)::bigint, p.actor_type, p.actor_id, p.action, p.table_name, p.record_id,
		p.ip_address, p.user_agent, p.request_id)::text, 'UTF8') || p.diff_digest)
$$;

create function audit_append(p_agency uuid, p_client uuid, p_action text, p_table text, p_record text, p_diff jsonb) returns void
language plpgsql security definer as $$
declare
	r audit_log;
	actor text := coalesce(tl_actor(), 'operator');
	source text := coalesce(current_setting('tl.source', true), '');
begin
	insert into audit_chains (agency_id, client_id, last_seq, last_hash) values (p_agency, p_client, 0, '\x')
		on conflict (agency_id, client_id) do nothing;
	select c.last_seq + 1, c.last_hash into r.seq, r.prev_hash from audit_chains c
		where c.agency_id = p_agency and c.client_id is not distinct from p_client for update;
	-- begins with the sequence number, so that entries of one instant list in their order
	r.id := (lpad(to_hex(r.seq), 16, '0') || substr(replace(gen_random_uuid()::text, '-', ''), 1, 16))::uuid;
	r.agency_id := p_agency;
	r.client_id := p_client;
	r.actor_type := split_part(actor, ':', 1);
	r.actor_id := nullif(split_part(actor, ':', 2), '');
	r.action := p_action;
	r.table_name := p_table;
	r.record_id := p_record;
	r.diff := p_diff;
	r.diff_digest := sha256(convert_to(p_diff::text, 'UTF8'));
	r.ip_address := nullif(split_part(source, E'\n', 1), '');
	r.user_agent := nullif(split_part(source, E'\n', 2), '');
	r.request_id := nullif(current_setting('tl.request', true), '');
	r.created_at := tl_now();
	r.hash := audit_hash(r);
	insert into audit_log select r.*;
	update audit_chains c set last_seq = r.seq, last_hash = r.hash
		where c.agency_id = p_agency and c.client_id is not distinct from p_client;
end $$;

-- What changed, secrets shown as "changed". Columns that move by themselves are no change.
create function audit_row() returns trigger language plpgsql security definer as $$
declare
	o jsonb := case when tg_op <> 'INSERT' then to_jsonb(old) end;
	n jsonb := case when tg_op <> 'DELETE' then to_jsonb(new) end;
	before jsonb := '{}';
	after jsonb := '{}';
	k text;
	secret boolean;
begin
	for k in select jsonb_object_keys(coalesce(n, o)) loop
		continue when k in ('updated_at', 'last_used_at', 'last_seen_at') or o -> k is not distinct from n -> k
			or (tg_op = 'INSERT' and n -> k = 'null') or (tg_op = 'DELETE' and o -> k = 'null');
		secret := k in ('sealed', 'secret_sealed', 'secret_hash', 'auth_ciphertext', 'subject_value');
		if o is not null then
			before := before || jsonb_build_object(k, case when secret and o -> k <> 'null' then '"changed"' else o -> k end);
		end if;
		if n is not null then
			after := after || jsonb_build_object(k, case when secret and n -> k <> 'null' then '"changed"' else n -> k end);
		end if;
	end loop;
	if before = '{}' and after = '{}' then
		return null;
	end if;
	perform audit_append((coalesce(n, o) ->> 'agency_id')::uuid, (coalesce(n, o) ->> 'client_id')::uuid,
		case tg_op when 'INSERT' then 'create' when 'UPDATE' then 'update' else 'delete' end, tg_table_name,
		coalesce(n, o) ->> 'id', jsonb_strip_nulls(jsonb_build_object('before', case when o is not null then before end,
			'after', case when n is not null then after end)));
	return null;
end $$;

-- p_ops: any of insert, update, delete, joined by "or".
create function audited(p_table regclass, p_ops text) returns void language plpgsql as $$
begin
	execute format('create constraint trigger audit after %s on %s deferrable initially deferred for each row
		execute function audit_row()', p_ops, p_table);
end $$;
select audited('agencies', 'insert or update or delete'), audited('clients', 'insert or update or delete'), audited('users', 'insert or update or delete'),
	audited('api_keys', 'insert or update or delete'), audited('agents', 'insert or update or delete'),
	audited('webhook_endpoints', 'insert or update or delete'), audited('credit_transactions', 'insert'),
	audited('calls', 'delete');

-- Nothing is rewritten: a diff may be erased, and the broom takes rows from the start of a chain.
create function audit_guard() returns trigger language plpgsql as $$
begin
	if tg_op = 'UPDATE' and new.diff is null and to_jsonb(new) - 'diff' = to_jsonb(old) - 'diff' then
		return new;
	elsif tg_op = 'DELETE' and current_setting('tl.audit_broom', true) = 'on' then
		return old;
	end if;
	raise exception 'the audit is append-only';
end $$;
create trigger guard before update or delete on audit_log for each row execute function audit_guard();

create function credential_used(p_id uuid) returns void language plpgsql security definer as $$
begin
	perform audit_append(k.agency_id, k.client_id, 'use', 'api_keys', k.id::text, jsonb_build_object('service', k.service))
	from api_keys k where k.id = p_id and k.agency_id = tl_agency() and (k.client_id = tl_client() or k.client_id is null);
end $$;

-- Walks one chain: how many rows, how many diffs erased, the first bad row and what is wrong with it.
create function audit_walk(p_agency uuid, p_client uuid)
returns table (checked bigint, erased bigint, first_bad_seq bigint, problem text) language plpgsql stable security definer as $$
declare
	c audit_chains;
	seen bigint;
	tail bytea;
begin
	select * into c from audit_chains h where h.agency_id = p_agency and h.client_id is not distinct from p_client;
	select count(*), count(*) filter (where l.diff is null), max(l.seq), (array_agg(l.hash order by l.seq desc))[1]
		into checked, erased, seen, tail from audit_log l where l.agency_id = p_agency and l.client_id is not distinct from p_client;
	select w.seq, case when w.seq <> w.seq_before + 1 then 'rows before it are missing'
			when w.prev_hash <> w.hash_before then 'it does not follow the row before it'
			when w.diff_differs then 'its diff was changed' else 'its fields were changed' end into first_bad_seq, problem
	from (select l.seq, l.prev_hash, l.hash, audit_hash(l) as right_hash,
			lag(l.seq, 1, coalesce(c.anchor_seq, 0)) over o as seq_before,
			lag(l.hash, 1, coalesce(c.anchor_hash, '\x')) over o as hash_before,
			l.diff is not null and l.diff_digest <> sha256(convert_to(l.diff::text, 'UTF8')) as diff_differs
		from audit_log l where l.agency_id = p_agency and l.client_id is not distinct from p_client window o as (order by l.seq)) w
	where w.seq <> w.seq_before + 1 or w.prev_hash <> w.hash_before or w.hash <> w.right_hash or w.diff_differs
	order by w.seq limit 1;
	if first_bad_seq is null and (c.last_seq is distinct from coalesce(seen, c.anchor_seq)
			or c.last_hash is distinct from coalesce(tail, c.anchor_hash)) then
		first_bad_seq := coalesce(seen, c.anchor_seq, 0) + 1;
		problem := 'rows at the end are missing';
	end if;
	return next;
end $$;

-- The chains a door may see: one client's, or all of an agency.
create function audit_verify() returns table (client_id uuid, checked bigint, erased bigint, first_bad_seq bigint, problem text)
language plpgsql stable security definer as $$
begin
	return query select h.client_id, w.* from audit_chains h cross join lateral audit_walk(h.agency_id, h.client_id) w
	where h.agency_id = tl_agency() and (tl_client() is null or h.client_id = tl_client()) order by h.client_id nulls first;
end $$;

select definers();
revoke all on function audit_append(uuid, uuid, text, text, text, jsonb), audit_walk(uuid, uuid) from tl_app, tl_agency, tl_system;

create view audit_rows with (security_invoker = true) as
	select id, seq, created_at as at, client_id, jsonb_build_object('type', actor_type, 'id', actor_id) as actor, action, table_name,
		record_id, diff, ip_address, user_agent, request_id, encode(prev_hash, 'hex') as prev_hash, encode(hash, 'hex') as hash,
		created_at, actor_id, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from audit_log;
grant select on audit_rows to tl_app, tl_agency, tl_system, tl_ledger;
