-- The client's view of its credits.

-- name: billing_balance
select a.balance, a.held, a.balance - a.held as available, a.debt, c.price_per_minute, c.credits_ceiling,
	(c.settings ->> 'low_balance_threshold')::bigint as low_balance_threshold, tl_now() as as_of
from clients c join credit_accounts a on a.client_id = c.id
