/* What a database error means to a caller. */
#include "pg_map.h"
#include "shared.h"
#include "../0_base/log.h"
#include <stdlib.h>

static const struct {
	const char *state;
	enum fault fault;
	const char *message;	/* NULL = the database's own, which is ours for TL states */
} map[] = {
	{ "TL400", FAULT_BAD_REQUEST, NULL },
	{ "TL401", FAULT_UNAUTHORIZED, NULL },
	{ "TL402", FAULT_PAYMENT_REQUIRED, NULL },
	{ "TL403", FAULT_FORBIDDEN, NULL },
	{ "TL404", FAULT_NOT_FOUND, NULL },
	{ "TL409", FAULT_CONFLICT, NULL },
	{ "TL422", FAULT_VALIDATION_ERROR, NULL },
	{ "TL429", FAULT_RATE_LIMIT_EXCEEDED, NULL },
	{ "TL001", FAULT_STALE_LEASE, NULL },
	{ "23505", FAULT_CONFLICT, "Such a row exists already" },
	{ "23503", FAULT_NOT_FOUND, "A linked row does not exist" },
	{ "55P03", FAULT_SERIALIZE, "A lock was busy; try again" },
	{ "40001", FAULT_SERIALIZE, "The transaction met another; try again" },
	{ "40P01", FAULT_SERIALIZE, "The transaction met another; try again" },
	{ "57014", FAULT_UNAVAILABLE, "The database took too long" },
	{ "57P01", FAULT_UNAVAILABLE, "The database is stopping" },
	{ "57P02", FAULT_UNAVAILABLE, "The database is restarting" },
	{ "57P03", FAULT_UNAVAILABLE, "The database is starting" },
	{ "53300", FAULT_UNAVAILABLE, "The database has no free connection" },
};

enum fault pg_map_error(const PGresult *failed, const char *statement)
{
	const char *state = PQresultErrorField(failed, PG_DIAG_SQLSTATE);
	const char *text = PQresultErrorField(failed, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(failed, PG_DIAG_MESSAGE_DETAIL);
	const char *constraint = PQresultErrorField(failed, PG_DIAG_CONSTRAINT_NAME);
	if (state && strcmp(state, "23505") == 0 && constraint && strcmp(constraint, "idempotency_keys_pkey") == 0)
		return fault_raise(FAULT_SERIALIZE, "Another request with this key has just been answered");
	for (size_t i = 0; state && i < sizeof map / sizeof *map; i++) {
		if (strcmp(state, map[i].state) != 0)
			continue;
		enum fault fault = fault_raise(map[i].fault, "%s", map[i].message ? map[i].message : text);
		if (!map[i].message && detail) {
			const char *retry = strstr(detail, "\"retry_after\":");
			buf_text(&fault_note->details, detail);
			fault_note->retry_after_s = retry ? atoi(retry + strlen("\"retry_after\":")) : 0;
		}
		return fault;
	}
	metric_add(METRIC_sql_errors, 1);
	/* messages about data (classes 22, 23) quote the value, which may be anybody's */
	bool quotes = state && strncmp(state, "22", 2) == 0;
	quotes = quotes || (state && strncmp(state, "23", 2) == 0);
	log_line(LOG_ERROR, "statement failed", "statement", statement, "state", state, "constraint", constraint, "reason",
		quotes ? NULL : text, NULL);
	return fault_raise(FAULT_INTERNAL_ERROR, "Something went wrong; quote the request id");
}
