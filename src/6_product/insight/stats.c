/* Dashboard and usage: sums of whole days that the night has made, and of the calls since. */
#include "insight.h"
#include "stats.sql.h"
#include "../../0_base/clock.h"
#include "../../1_code/uuid.h"

#define DAY_US (86400 * US_PER_S)
#define USAGE_MOST 5000

static const struct shape_field stats_fields[] = {
	{ "total_calls", SHAPE_INT },
	{ "successful_calls", SHAPE_INT },
	{ "failed_calls", SHAPE_INT },
	{ "in_progress_calls", SHAPE_INT, .doc = "now" },
	{ "average_call_duration_seconds", SHAPE_NUMBER },
	{ "total_call_cost_usd", SHAPE_NUMBER, .doc = "what the provider charged" },
	{ "average_call_cost_usd", SHAPE_NUMBER },
	{ "total_campaigns", SHAPE_INT },
	{ "active_campaigns", SHAPE_INT },
	{ "completed_campaigns", SHAPE_INT },
	{ "total_agents", SHAPE_INT },
	{ "active_agents", SHAPE_INT },
	{ "success_rate", SHAPE_NUMBER, .doc = "of the calls that ended, 0..1" },
	{ "credits_balance", SHAPE_INT },
	{ "credits_spent", SHAPE_INT },
	{ "time_range", SHAPE_TEXT },
	{ "start_date", SHAPE_TIME },
	{ "end_date", SHAPE_TIME },
};
static const struct shape stats_shape = SHAPE("dashboard_stats", stats_fields);

static const struct shape_field usage_fields[] = {
	{ "day", SHAPE_TEXT, SHAPE_MAYBE, .doc = "UTC" },
	{ "client_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "agent_id", SHAPE_UUID, SHAPE_MAYBE },
	{ "from_number", SHAPE_TEXT, SHAPE_MAYBE },
	{ "calls", SHAPE_INT },
	{ "completed", SHAPE_INT },
	{ "failed", SHAPE_INT },
	{ "seconds", SHAPE_INT },
	{ "billed_seconds", SHAPE_INT },
	{ "credits", SHAPE_INT },
	{ "cost_usd", SHAPE_NUMBER },
};
static const struct shape usage_shape = SHAPE("usage", usage_fields);
static const struct shape_field usages_fields[] = { { "usage", SHAPE_LIST, .sub = &usage_shape } };
static const struct shape usages_shape = SHAPE("usages", usages_fields);

static enum fault read_agent(struct req *req, struct str *ret)
{
	*ret = req_query(req, "agent_id");
	return ret->p && !uuid_valid(*ret) ? fault_field("agent_id", "must be a UUID") : OK;
}

static enum fault read_time(struct req *req, const char *name, int64_t *at_us)
{
	struct str text = req_query(req, name);
	if (!text.p)
		return OK;
	if (text.n == 10)	/* a day begins at midnight UTC */
		text = str_format(req->arena, "%.*sT00:00:00Z", STRF(text));
	return clock_parse(text, at_us) ? OK : fault_field(name, "must be a date, or a time with offset");
}

/* time_range, overridden by date_from and date_to. */
static enum fault read_span(struct req *req, struct str *ret_range, int64_t *from_us, int64_t *to_us)
{
	static const struct {
		const char *name;
		int days;
	} ranges[] = { { "last_day", 1 }, { "last_week", 7 }, { "last_month", 30 }, { "all_time", 0 } };
	struct str range = req_query(req, "time_range");
	struct rows first;
	struct tx tx;
	int found = -1;
	range = range.p ? range : STR("last_month");
	for (int i = 0; i < 4; i++)
		if (str_is(range, ranges[i].name))
			found = i;
	if (found < 0)
		return fault_field("time_range", "must be last_day, last_week, last_month or all_time");
	*to_us = clock_now_us() + 1;
	*from_us = *to_us - ranges[found].days * DAY_US;
	if (!ranges[found].days) {
		req_read(req, &tx);
		TRY(stats_first(&tx, (struct stats_first){ 0 }, &first));
		*from_us = pg_null(&first, 0, "first") ? *to_us : pg_time_us(&first, 0, "first");
	}
	TRY(read_time(req, "date_from", from_us));
	TRY(read_time(req, "date_to", to_us));
	*ret_range = req_query(req, "date_from").p || req_query(req, "date_to").p ? STR("custom") : range;
	return *from_us <= *to_us ? OK : fault_field("date_from", "must not be after date_to");
}

static enum fault dashboard(struct req *req)
{
	struct str agent, range = STR_NULL;
	struct rows r;
	struct tx tx;
	int64_t from_us, to_us;
	char from[CLOCK_TEXT_BYTES], to[CLOCK_TEXT_BYTES];
	TRY(read_agent(req, &agent));
	TRY(read_span(req, &range, &from_us, &to_us));
	req_read(req, &tx);
	TRY(stats_between(&tx, (struct stats_between){ .from = str_of(clock_text_us(from_us, from)), .to = str_of(clock_text_us(to_us, to)),
		.agent_id = agent }, &r));
	int64_t calls = pg_int(&r, 0, "calls"), good = pg_int(&r, 0, "completed"), bad = pg_int(&r, 0, "failed");
	double cost = (double)pg_int(&r, 0, "cost_micros") / 1e6;
	struct buf b = BUF_IN(req->arena, 4096);
	buf_format(&b, "{\"total_calls\":%lld,\"successful_calls\":%lld,\"failed_calls\":%lld,\"in_progress_calls\":%lld,"
		"\"average_call_duration_seconds\":%.3f,\"total_call_cost_usd\":%.6f,\"average_call_cost_usd\":%.6f,\"total_campaigns\":0,"
		"\"active_campaigns\":0,\"completed_campaigns\":0,\"total_agents\":%lld,\"active_agents\":%lld,\"success_rate\":%.4f,",
		(long long)calls, (long long)good, (long long)bad, (long long)pg_int(&r, 0, "live"),
		good ? (double)pg_int(&r, 0, "seconds") / (double)good : 0, cost, calls ? cost / (double)calls : 0,
		(long long)pg_int(&r, 0, "agents"), (long long)pg_int(&r, 0, "active_agents"), good + bad
			? (double)good / (double)(good + bad) : 0);
	buf_format(&b, "\"credits_balance\":%lld,\"credits_spent\":%lld,\"time_range\":\"%.*s\",\"start_date\":\"%s\",\"end_date\":\"%s\"}",
		(long long)pg_int(&r, 0, "balance"), (long long)pg_int(&r, 0, "credits"), STRF(range), clock_text(from_us, from),
		clock_text(to_us, to));
	reply_json(req, 200, buf_view(&b));
	return OK;
}

static enum fault usage(struct req *req)
{
	static const char *const groups[] = { "day", "client", "agent", "number" };
	struct str rest = req_query(req, "group_by"), agent;
	struct rows rows;
	struct tx tx;
	bool by[4] = { false };
	int64_t to_us = (clock_now_us() / DAY_US + 1) * DAY_US, from_us = to_us - 31 * DAY_US;
	char from[CLOCK_TEXT_BYTES], to[CLOCK_TEXT_BYTES];
	rest = rest.p ? rest : STR("day");
	while (rest.n) {
		struct str one = str_cut(&rest, ',');
		int found = -1;
		for (int i = 0; i < 4; i++)
			if (str_is(one, groups[i]))
				by[found = i] = true;
		if (found < 0)
			return fault_field("group_by", "must be a comma list of day, client, agent, number");
	}
	TRY(read_agent(req, &agent));
	TRY(read_time(req, "date_from", &from_us));
	TRY(read_time(req, "date_to", &to_us));
	if (from_us > to_us || to_us - from_us > 800 * DAY_US)
		return fault_field("date_from", "must not be after date_to, nor 800 days before it");
	req_read(req, &tx);
	TRY(stats_usage(&tx, (struct stats_usage){ .from = (struct str){ clock_text(from_us, from), 10 },
		.to = (struct str){ clock_text(to_us, to), 10 },
		.by_day = by[0], .by_client = by[1], .by_agent = by[2], .by_number = by[3], .agent_id = agent, .most = USAGE_MOST }, &rows));
	struct buf b = BUF_IN(req->arena, (size_t)4 << 20);
	buf_text(&b, "{\"usage\":[");
	for (int i = 0; i < rows.count; i++) {
		buf_text(&b, i ? "," : "");
		row_json(&b, req->arena, &usage_shape, &rows, i);
	}
	buf_text(&b, "]}");
	reply_json(req, 200, buf_view(&b));
	return OK;
}

const struct route stats_routes[] = {
	{ "GET", API "/dashboard/stats", ROLE_R, "calls:read", dashboard, .out = &stats_shape, .status = 200,
		.query = "time_range,date_from,date_to,agent_id", .summary = "Sums for a dashboard" },
	{ "GET", API "/usage", ROLE_R, "billing:read", usage, .out = &usages_shape, .status = 200,
		.query = "group_by,date_from,date_to,agent_id",
		.summary = "Usage by day, client, agent and number" },
	{ 0 },
};
