/* Calls that come in: somebody rang one of our agents, and the provider tells us. The row, its hold and its events are as of a call we
 * placed; without credits for one minute it is hung up, and what the hold pays for is where it ends. */
#include "calls.h"
#include "calls.sql.h"
#include "dial.h"
#include "dial.sql.h"
#include "progress.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"

enum fault call_ring_in(struct arena *a, const struct scope *scope, const struct call_ring *ring, struct str *ret_id)
{
	struct rows p;
	struct tx tx;
	int64_t most_s = 3600;
	bool moved;
	struct str id = uuid_make(a);
	*ret_id = id;
	TRY(tenant_begin(&tx, a, scope));
	TRY(calls_prospect(&tx, (struct calls_prospect){ .agent_id = ring->agent_id }, &p));
	if (!p.count || pg_null(&p, 0, "agent_id")) {
		tx_abort(&tx);
		return fault_raise(FAULT_NOT_FOUND, "Not one of our agents");
	}
	int64_t price = pg_int(&p, 0, "price_per_minute"), available = pg_int(&p, 0, "available"), wanted;
	if (str_int(pg_col(a, &p, 0, "agent_max"), &wanted) && wanted >= 10 && wanted <= 14400)
		most_s = wanted;
	int64_t minutes = (most_s + 59) / 60;
	if (price && available / price < minutes)
		minutes = available / price;
	bool funds = minutes >= 1 && str_is(pg_col(a, &p, 0, "subscription_status"), "active");
	struct str hold = funds && price ? uuid_make(a) : STR_NULL;
	most_s = minutes * 60 < most_s ? minutes * 60 : most_s;
	calls_insert_later(&tx, (struct calls_insert){ .id = id, .agent_id = ring->agent_id, .phone_number = ring->from,
		.from_number = ring->to,
		.direction = STR("inbound"), .medium = STR("bridge"), .price = price, .hold_id = hold, .held = funds ? minutes * price : 0,
		.max_seconds = most_s, .call_settings = str_format(a, "{\"recording_enabled\":true,\"transcription_enabled\":true,"
			"\"max_duration_seconds\":%lld}", (long long)most_s) }, NULL);
	dial_accept_later(&tx, (struct dial_accept){ .id = id, .provider_id = ring->provider_id }, NULL);
	TRY(call_move(&tx, id, "dialing", NULL, "webhook", STR("rang in"), &moved));
	if (!funds)
		TRY(call_move(&tx, id, "cancelled", "no_funds", "webhook", STR("no credits for one minute"), &moved));
	struct job_order hangup = { .kind = "call.hangup", .resource_type = "call", .resource_id = id, .payload = STR("{\"force\":true}"),
		.run_at_us = funds ? ring->created_us + most_s * US_PER_S : 0 };
	job_add(&tx, &hangup);
	if (funds)
		calls_admit_later(&tx, (struct calls_admit){ .call_id = id, .hold_id = hold, .amount = minutes * price, .least = price,
			.quota = pg_int(&p, 0, "quota") }, NULL);
	call_tell(&tx, id, "call.created");
	if (!funds)
		call_tell(&tx, id, "call.cancelled");
	return tx_commit(&tx);
}
