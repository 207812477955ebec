-- The client's view of its credits, and the till.

-- name: billing_balance
select a.balance, a.held, a.balance - a.held as available, a.debt, c.price_per_minute, c.credits_ceiling,
	(c.settings ->> 'low_balance_threshold')::bigint as low_balance_threshold, tl_now() as as_of
from clients c join credit_accounts a on a.client_id = c.id

-- name: transactions_list list
select * from transaction_rows
where (:type::text is null or type = any (string_to_array(:type, ',')))
	and (:reference_type::text is null or reference_type = any (string_to_array(:reference_type, ',')))
	and (:reference_id::text is null or reference_id = :reference_id)

-- name: transactions_get
select * from transaction_rows where id = :id::uuid

-- name: billing_adjust
select ledger_adjust(:id::uuid, :amount::bigint, :reason::text)

-- name: checkout_prospect
select c.mode, c.credits_ceiling, coalesce(a.balance, 0) as balance, c.settings -> 'return_hosts' as return_hosts
from clients c left join credit_accounts a on a.client_id = c.id

-- name: checkouts_insert
insert into checkouts (id, agency_id, client_id, credits, amount_cents, currency, status, success_url, cancel_url)
values (:id::uuid, tl_agency(), tl_client(), :credits::bigint, :cents::bigint, :currency::text, 'pending', :success_url::text, :cancel_url::text)

-- name: checkouts_get
select * from checkout_rows where id = :id::uuid

-- name: checkouts_load
select (select mode from clients) as mode, (select stripe_customer_id from clients) as customer, (select name from clients) as client_name,
	(select email from clients) as client_email,
	coalesce((select (settings -> 'auto_recharge' ->> 'enabled')::boolean from clients), false) as saves, credits, amount_cents, currency, status, success_url, cancel_url
from checkouts where id = :id::uuid

-- name: customer_keep
select customer_set(:customer::text) as customer

-- name: checkouts_opened
update checkouts set status = 'open', sync_status = 'synced', session_id = :session_id::text, url = :url::text,
	expires_at = to_timestamp(:expires::bigint), last_error = null, updated_at = tl_now()
where id = :id::uuid and status = 'pending'

-- name: checkouts_failed
update checkouts set status = 'failed', sync_status = 'failed', last_error = :error::text, updated_at = tl_now()
where id = :id::uuid and status = 'pending'

-- A purchase begun is gone on with, whatever the balance says meanwhile.
-- name: recharge_prospect
select c.mode, c.stripe_customer_id as customer, c.credits_ceiling, a.balance, (c.settings -> 'auto_recharge' ->> 'credits')::bigint as credits,
	coalesce((c.settings -> 'auto_recharge' ->> 'most_per_day')::bigint, 3) as most,
	(select count(*) from checkouts where origin = 'auto' and created_at > tl_now() - interval '1 day') as today,
	case when :id::uuid is not null then exists (select from checkouts k where k.id = :id and k.status = 'pending')
		else coalesce((c.settings -> 'auto_recharge' ->> 'enabled')::boolean, false) and c.subscription_status = 'active'
			and a.balance - a.held < a.low_threshold
			and not exists (select from checkouts where origin = 'auto' and status = 'open' and created_at > tl_now() - interval '1 hour')
		end as wanted
from clients c join credit_accounts a on a.client_id = c.id

-- name: recharge_insert
insert into checkouts (id, agency_id, client_id, credits, amount_cents, currency, status, success_url, cancel_url, origin)
values (:id::uuid, tl_agency(), tl_client(), :credits::bigint, :cents::bigint, :currency::text, 'pending', '', '', 'auto')

-- name: recharge_sent
update checkouts set status = 'open', sync_status = 'synced', payment_intent = :payment_intent::text, last_error = null, updated_at = tl_now()
where id = :id::uuid and status = 'pending'

-- What events tell.

-- name: till_owner
select client_id, agency_id, mode, customer from stripe_owner(:customer::text, :client_id::uuid)

-- name: till_checkout
select id, credits, amount_cents, currency, status from checkouts where id = :id::uuid

-- Upwards only: paid stays paid but for a reversal.
-- name: till_checkout_moved
update checkouts set status = :status::text, payment_intent = coalesce(:payment_intent::text, payment_intent), updated_at = tl_now()
where id = :id::uuid and (status in ('pending', 'open', 'failed') or (status = 'expired' and :status = 'paid') or
	(status = 'paid' and :status = 'reversed'))

-- name: till_checkout_of
update checkouts set status = :status::text, updated_at = tl_now()
where payment_intent = :payment_intent::text and status in ('paid', 'reversed') and status <> :status

-- name: till_grant
select granted, balance, id from ledger_grant(:key::text, :credits::bigint, :cents::bigint, :currency::text, :event::uuid)

-- name: till_grant_owner
select client_id, agency_id from grant_owner(:key::text)

-- name: till_reverse
select changed, balance from ledger_reverse(:key::text, :refunded::bigint, :disputed::bigint, :created::bigint, :type::text, :reference::text)

-- name: till_subscription
select changed from subscription_set(:status::text, :customer::text, :created::bigint, :first::boolean)
