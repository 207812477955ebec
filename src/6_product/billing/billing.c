/* billing/balance. The ledger itself is SQL: db/schema, functions ledger_*. */
#include "billing.h"
#include "billing.sql.h"

static const struct shape_field balance_fields[] = {
	{ "balance", SHAPE_INT, .doc = "credits owned, held ones included" },
	{ "held", SHAPE_INT, .doc = "reserved for calls under way" },
	{ "available", SHAPE_INT },
	{ "debt", SHAPE_INT },
	{ "price_per_minute", SHAPE_INT },
	{ "credits_ceiling", SHAPE_INT },
	{ "low_balance_threshold", SHAPE_INT, SHAPE_MAYBE },
	{ "as_of", SHAPE_TIME },
};
static const struct shape balance_shape = SHAPE("balance", balance_fields);

static enum fault balance(struct req *req)
{
	struct rows row;
	struct tx tx;
	TRY(req_need_client(req));
	req_read(req, &tx);
	TRY(billing_balance(&tx, (struct billing_balance){ 0 }, &row));
	if (!row.count)
		return fault_raise(FAULT_NOT_FOUND, "This client has no account");
	reply_row(req, 200, &balance_shape, &row, 0);
	return OK;
}

const struct route billing_routes[] = {
	{ "GET", API "/billing/balance", ROLE_R, "billing:read", balance, .out = &balance_shape, .status = 200, .summary = "Read the balance" },
	{ 0 },
};
