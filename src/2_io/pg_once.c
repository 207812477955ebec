/* Blocking libpq. */
#include "pg_once.h"
#include "pg_map.h"
#include "../0_base/arena.h"
#include <libpq-fe.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

struct pg_once {
	PGconn *pq;
	PGresult *last;
};

static void no_notice(void *arg, const PGresult *result) { (void)arg, (void)result; }

struct pg_once *pg_once_open(const char *conninfo, char *ret_error, size_t size)
{
	PGconn *pq = PQconnectdb(conninfo);
	if (PQstatus(pq) != CONNECTION_OK) {
		snprintf(ret_error, size, "%s", PQerrorMessage(pq));
		ret_error[strcspn(ret_error, "\n")] = 0;
		PQfinish(pq);
		return NULL;
	}
	PQsetNoticeReceiver(pq, no_notice, NULL);
	struct pg_once *once = must_alloc(sizeof *once);
	once->pq = pq;
	return once;
}

void pg_once_close(struct pg_once *once)
{
	if (!once)
		return;
	PQclear(once->last);
	PQfinish(once->pq);
	free(once);
}

static enum fault take(struct pg_once *once, PGresult *result)
{
	PQclear(once->last);
	once->last = result;
	ExecStatusType status = PQresultStatus(result);
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY)
		return OK;
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	if (state && strncmp(state, "TL", 2) == 0)
		return pg_map_error(result, "command");
	return fault_raise(state && strcmp(state, "23505") == 0 ? FAULT_CONFLICT : FAULT_INTERNAL_ERROR, "%s",
		PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY)
		: PQerrorMessage(once->pq));
}

enum fault pg_once_script(struct pg_once *once, const char *text) { return take(once, PQexec(once->pq, text)); }

enum fault pg_once_run(struct pg_once *once, const char *text, const struct str *values, int n)
{
	const char *texts[16];
	for (int i = 0; i < n && i < 16; i++)
		texts[i] = values[i].p;
	return take(once, PQexecParams(once->pq, text, n, NULL, texts, NULL, NULL, 0));
}

int pg_once_rows(const struct pg_once *once) { return PQntuples(once->last); }
int pg_once_columns(const struct pg_once *once) { return PQnfields(once->last); }
const char *pg_once_name(const struct pg_once *once, int column) { return PQfname(once->last, column); }
unsigned pg_once_type(const struct pg_once *once, int column) { return PQftype(once->last, column); }

const char *pg_once_cell(const struct pg_once *once, int row, int column)
{
	return PQgetisnull(once->last, row, column) ? NULL : PQgetvalue(once->last, row, column);
}

enum fault pg_once_describe(struct pg_once *once, struct arena *arena, const char *text, struct str *ret_columns)
{
	struct buf b = BUF_IN(arena, 65536);
	TRY(take(once, PQprepare(once->pq, "", text, 0, NULL)));
	TRY(take(once, PQdescribePrepared(once->pq, "")));
	for (int i = 0; i < PQnfields(once->last); i++)
		buf_format(&b, "%s:%u\n", PQfname(once->last, i), PQftype(once->last, i));
	*ret_columns = buf_view(&b);
	return OK;
}

static void conninfo_pair(struct buf *b, const char *key, const char *value)
{
	buf_format(b, "%s%s='", b->n ? " " : "", key);
	for (; *value; value++) {
		if (*value == '\'' || *value == '\\')
			buf_char(b, '\\');
		buf_char(b, *value);
	}
	buf_char(b, '\'');
}

/* libpq resolves names while it connects and would hold up a worker's loop: give it the address. A socket
 * folder or several hosts are left as they are. */
static void add_address(struct buf *b, const PQconninfoOption *all)
{
	const char *host = NULL;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
	char text[64];
	for (const PQconninfoOption *o = all; o && o->keyword; o++) {
		if (strcmp(o->keyword, "host") == 0)
			host = o->val;
		if (strcmp(o->keyword, "hostaddr") == 0 && o->val)
			return;
	}
	if (!host || !*host || *host == '/' || *host == '@' || strchr(host, ',') || getaddrinfo(host, NULL, &hints, &found) != 0)
		return;
	if (getnameinfo(found->ai_addr, found->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
		conninfo_pair(b, "hostaddr", text);
	freeaddrinfo(found);
}

struct str pg_once_conninfo(struct arena *arena, struct str base, const char *user, const char *password, const char *database,
	const char *options)
{
	struct buf b = BUF_IN(arena, 8192);
	char *error = NULL;
	PQconninfoOption *all = PQconninfoParse(str_copy(arena, base).p, &error);
	for (PQconninfoOption *o = all; o && o->keyword; o++) {
		const char *value = strcmp(o->keyword, "user") == 0 && user ? user
			: strcmp(o->keyword, "password") == 0 && user ? password
			: strcmp(o->keyword, "dbname") == 0 && database ? database
			: strcmp(o->keyword, "options") == 0 && options ? options : o->val;
		if (value)
			conninfo_pair(&b, o->keyword, value);
	}
	add_address(&b, all);
	PQconninfoFree(all);
	PQfreemem(error);
	return buf_view(&b);
}
