-- Auto-recharge: purchases that the saved card pays; off unless the client has said so.
alter table checkouts add origin text not null default 'page' check (origin in ('page', 'auto'));
drop view checkout_rows;
create view checkout_rows with (security_invoker = true) as
	select id, client_id, session_id, url, credits, amount_cents, currency, status, origin, sync_status, last_error, expires_at, created_at,
		updated_at, (extract(epoch from created_at) * 1000000)::bigint as cursor_us
	from checkouts;
grant select on checkout_rows to tl_app, tl_agency, tl_system, tl_ledger;

create or replace function credits_low() returns trigger language plpgsql security definer as $$
begin
	perform event_append(gen_random_uuid(), 'credits.low', 'client', new.client_id, jsonb_build_object('credits', new.balance - new.held,
		'balance', new.balance, 'threshold', new.low_threshold));
	if (select (c.settings -> 'auto_recharge' ->> 'enabled')::boolean from clients c where c.id = new.client_id) then
		perform job_add(gen_random_uuid(), 'q-artifacts-sync', 'credits.recharge', '{}', 'client', new.client_id, null, 0,
			'recharge:' || new.client_id);
	end if;
	return null;
end $$;
