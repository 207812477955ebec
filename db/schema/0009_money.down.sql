alter table calls drop constraint calls_number,
	add constraint calls_number check (phone_number is not null or medium = 'web'), drop column opt_out;
alter table audit_log drop constraint audit_log_action_check,
	add constraint audit_log_action_check check (action in ('create', 'update', 'delete', 'use')) not valid;
drop index jobs_living, call_artifacts_pending;
drop function stream_heads(text), calls_adrift(integer), usage_between(timestamptz, timestamptz, uuid), usage_sum(date, date), holds_expire(integer), stripe_owner(text, uuid), grant_owner(text), subscription_set(text, text, bigint, boolean), customer_set(text),
	ledger_reverse(text, bigint, bigint, bigint, text, text),
	ledger_grant(text, bigint, bigint, text, uuid), inbound_again(uuid),
	inbound_page(text, text, text, timestamptz, timestamptz, bigint, uuid, bigint), agent_owner(text), call_resolved(uuid, text),
	number_suppressed(text);
drop trigger low_threshold on clients;
drop trigger low on credit_accounts;
drop function low_threshold_kept(), credits_low();
alter table credit_accounts drop column low_threshold;
drop index calls_created, inbound_events_agency, clients_stripe;
drop view checkout_rows, transaction_rows, suppression_rows;
drop table usage_daily, payment_grants, checkouts, suppressions;
alter table clients drop column stripe_customer_id, drop column subscription_told;

create or replace function ledger_check() returns table (problem text, client_id uuid, detail text) language sql stable security definer as $$
	select 'transaction does not sum to zero', e.client_id, e.transaction_id::text from ledger_entries e
		group by e.client_id, e.transaction_id having sum(e.amount) <> 0
	union all
	select 'account differs from its entries', a.client_id,
		format('available %s entries %s, held %s entries %s', a.balance - a.held, s.available, a.held, s.held)
	from credit_accounts a cross join lateral (
		select coalesce(sum(e.amount) filter (where l.kind = 'available'), 0) available,
			coalesce(sum(e.amount) filter (where l.kind = 'held'), 0) held
		from ledger_accounts l left join ledger_entries e on e.client_id = l.client_id and e.account_id = l.id
		where l.client_id = a.client_id) s
	where s.available <> a.balance - a.held or s.held <> a.held
	union all
	select 'balance differs from its transactions', a.client_id, format('balance %s sum %s', a.balance, coalesce(sum(t.delta), 0))
	from credit_accounts a left join credit_transactions t on t.client_id = a.client_id
	group by a.client_id, a.balance having a.balance <> coalesce(sum(t.delta), 0)
	union all
	select 'held differs from open holds', a.client_id, format('held %s holds %s', a.held, coalesce(sum(h.amount), 0))
	from credit_accounts a left join credit_holds h on h.client_id = a.client_id and h.status = 'held'
	group by a.client_id, a.held having a.held <> coalesce(sum(h.amount), 0)
$$;
