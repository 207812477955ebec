drop function client_is_of, call_admit, rate_slice;
drop table calls_daily, rate_buckets;
drop index idempotency_expiry;
create index idempotency_expiry on idempotency_keys (expires_at);

-- Idempotency. state: new, running, reused, replay.
create function idem_begin(p_scope uuid, p_key text, p_fingerprint bytea)
returns table (state text, status_code integer, body_sealed bytea) language plpgsql as $$
declare
	r idempotency_keys;
begin
	if not pg_try_advisory_xact_lock(hashtextextended(p_scope::text || ':' || p_key, 0)) then
		state := 'running';
		return next;
		return;
	end if;
	select * into r from idempotency_keys k where k.scope_id = p_scope and k.key = p_key and k.expires_at > tl_now();
	if not found then
		state := 'new';
	elsif r.fingerprint <> p_fingerprint then
		state := 'reused';
	elsif r.state = 'in_flight' and r.lease_until > tl_now() then
		state := 'running';
	else
		state := 'replay';
		status_code := r.status_code;
		body_sealed := r.body_sealed;
	end if;
	return next;
end $$;
