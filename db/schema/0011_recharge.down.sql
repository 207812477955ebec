create or replace function credits_low() returns trigger language plpgsql security definer as $$
begin
	perform event_append(gen_random_uuid(), 'credits.low', 'client', new.client_id, jsonb_build_object('credits', new.balance - new.held,
		'balance', new.balance, 'threshold', new.low_threshold));
	return null;
end $$;

drop view checkout_rows;
create view checkout_rows with (security_invoker = true) as
	select id, client_id, session_id, url, credits, amount_cents, currency, status, sync_status, last_error, expires_at, created_at, updated_at,
		(extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from checkouts;
grant select on checkout_rows to tl_app, tl_agency, tl_system, tl_ledger;
alter table checkouts drop column origin;
