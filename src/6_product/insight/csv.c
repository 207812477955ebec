/* CSV exports (RFC 4180). Written page by page into a file of our own that has no name, then sent from it: constant memory whatever
 * the length. A cell that a spreadsheet would take for a formula gets an apostrophe. */
#include "insight.h"
#include "stats.sql.h"
#include "../../1_code/uuid.h"
#include "../../2_io/file.h"
#include "../../3_core/config.h"
#include <fcntl.h>

#define PAGE 1000

static const char *const columns[] = { "id", "created_at", "agent_id", "direction", "phone_number", "from_number", "status", "outcome",
	"started_at", "answered_at", "ended_at", "duration_seconds", "billed_seconds", "credits_charged", "cost_usd", "external_ref",
	"end_reason_raw", "summary" };
#define COLUMNS (int)(sizeof columns / sizeof *columns)

static void put_cell(struct buf *b, struct str text)
{
	bool formula = text.n && strchr("=+-@\t\r", text.p[0]);
	bool quoted = formula || (text.n && (memchr(text.p, ',', text.n) || memchr(text.p, '"', text.n) || memchr(text.p, '\n', text.n) ||
		memchr(text.p, '\r', text.n)));
	if (quoted)
		buf_char(b, '"');
	if (formula)
		buf_char(b, '\'');
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '"')
			buf_char(b, '"');
		buf_char(b, text.p[i]);
	}
	if (quoted)
		buf_char(b, '"');
}

static enum fault write_page(struct req *req, int fd, struct csv_calls *in, char after_us[24], char after_id[40], int *ret_count)
{
	struct arena *arena = arena_make();
	struct rows rows;
	struct tx tx;
	tenant_read(&tx, arena, &req->scope);
	enum fault fault = csv_calls(&tx, *in, &rows);
	struct buf b = BUF_IN(arena, (size_t)64 << 20);
	*ret_count = fault == OK ? rows.count : 0;
	for (int i = 0; i < *ret_count; i++) {
		for (int c = 0; c < COLUMNS; c++) {
			if (c)
				buf_char(&b, ',');
			put_cell(&b, pg_text(arena, &rows, i, c));
		}
		buf_text(&b, "\r\n");
	}
	if (*ret_count) {
		struct str us = pg_col(arena, &rows, *ret_count - 1, "cursor_us"), id = pg_col(arena, &rows, *ret_count - 1, "id");
		memcpy(after_us, us.p, us.n + 1);
		memcpy(after_id, id.p, id.n + 1);
		in->after_us = str_of(after_us);
		in->after_id = str_of(after_id);
		fault = file_write(fd, buf_view(&b));
	}
	arena_drop(arena);
	return fault;
}

static enum fault write_all(struct req *req, int fd, struct csv_calls *in)
{
	struct buf head = BUF_IN(req->arena, 1024);
	char after_us[24], after_id[40];
	for (int c = 0; c < COLUMNS; c++)
		buf_format(&head, "%s%s", c ? "," : "", columns[c]);
	buf_text(&head, "\r\n");
	TRY(file_write(fd, buf_view(&head)));
	for (int n = PAGE; n == PAGE;)
		TRY(write_page(req, fd, in, after_us, after_id, &n));
	return OK;
}

static enum fault export_calls(struct req *req)
{
	static const char *const filters[] = { "agent_id", "status", "outcome", "direction", NULL };
	struct page page;
	struct file_stat stat;
	int fd;
	TRY(req_page(req, filters, &page));
	struct str agents = req_query(req, "agent_id"), rest = agents;
	while (rest.n)
		if (!uuid_valid(str_cut(&rest, ',')))
			return fault_field("agent_id", "must be a UUID or a comma list of them");
	struct csv_calls in = { .agent_id = agents, .status = req_query(req, "status"), .outcome = req_query(req, "outcome"),
		.direction = req_query(req, "direction"), .created_after = page.created_after, .created_before = page.created_before,
		.most = PAGE };
	struct str path = str_format(req->arena, "%.*s/tmp/csv-%.*s", STRF(config.data), STRF(req->request_id));
	TRY(file_make_folders(req->arena, path.p));
	TRY(file_open(path.p, O_RDWR | O_CREAT | O_TRUNC, &fd));
	enum fault fault = file_remove(path.p);
	if (fault == OK)
		fault = write_all(req, fd, &in);
	if (fault == OK)
		fault = file_size(fd, &stat);
	if (fault != OK) {
		file_close(fd);
		return fault;
	}
	http_reply_header(req->http, "Content-Disposition", STR("attachment; filename=\"calls.csv\""));
	http_reply_header(req->http, "Cache-Control", STR("no-store"));
	http_reply(req->http, 200, "text/csv; charset=utf-8", STR(""));
	req->http->reply_fd = fd;
	req->http->reply_offset = 0;
	req->http->reply_length = stat.size;
	return OK;
}

const struct route csv_routes[] = {
	{ "GET", API "/export/calls", ROLE_W, "export:read", export_calls, .status = 200, .media = "text/csv",
		.query = "agent_id,status,outcome,direction,created_after,created_before", .summary = "Calls as CSV, newest first" },
	{ 0 },
};
