/* Reading cells of binary results. OIDs are those of pg_type.dat, fixed for built-in types. */
#include "pg.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../1_code/b64.h"
#include "../1_code/uuid.h"
#include <endian.h>
#include <libpq-fe.h>
#include <stdio.h>

enum { BOOL = 16, BYTEA = 17, INT8 = 20, INT2 = 21, INT4 = 23, TEXT = 25, JSON = 114, FLOAT8 = 701,
	VARCHAR = 1043, TIMESTAMPTZ = 1184, UUID = 2950, JSONB = 3802 };

#define PG_EPOCH_US (INT64_C(946684800) * 1000000)	/* 2000-01-01 */

static int64_t integer(const char *p, int n)
{
	uint16_t two;
	uint32_t four;
	uint64_t eight;
	switch (n) {
	case 1: return *p;
	case 2: memcpy(&two, p, 2); return (int16_t)be16toh(two);
	case 4: memcpy(&four, p, 4); return (int32_t)be32toh(four);
	case 8: memcpy(&eight, p, 8); return (int64_t)be64toh(eight);
	default: bug("an integer of %d bytes", n);
	}
}

static double real(const char *p)
{
	uint64_t bits = (uint64_t)integer(p, 8);
	double value;
	memcpy(&value, &bits, 8);
	return value;
}

struct str pg_text(struct arena *arena, const struct rows *rows, int row, int column)
{
	const PGresult *r = rows->result;
	if (row >= rows->count || PQgetisnull(r, row, column))
		return STR_NULL;
	const char *p = PQgetvalue(r, row, column);
	int n = PQgetlength(r, row, column);
	char at[CLOCK_TEXT_BYTES];
	switch (PQftype(r, column)) {
	case BOOL: return *p ? STR("true") : STR("false");
	case INT2: case INT4: case INT8: return str_format(arena, "%lld", (long long)integer(p, n));
	case FLOAT8: return str_format(arena, "%.10g", real(p));
	case TIMESTAMPTZ: return str_copy(arena, str_of(clock_text(integer(p, n) + PG_EPOCH_US, at)));
	case UUID: return uuid_text(arena, (const unsigned char *)p);
	case JSONB: return (struct str){ p + 1, (size_t)n - 1 };	/* after the version byte */
	default: return (struct str){ p, (size_t)n };
	}
}

static int column_of(const struct rows *rows, const char *name)
{
	int column = PQfnumber(rows->result, name);
	if (column < 0)
		bug("no column %s", name);
	return column;
}

struct str pg_col(struct arena *arena, const struct rows *rows, int row, const char *name)
{
	return rows->count ? pg_text(arena, rows, row, column_of(rows, name)) : STR_NULL;
}

int64_t pg_int(const struct rows *rows, int row, const char *name)
{
	int c = column_of(rows, name);
	return PQgetisnull(rows->result, row, c) ? 0
		: integer(PQgetvalue(rows->result, row, c), PQgetlength(rows->result, row, c));
}

bool pg_bool(const struct rows *rows, int row, const char *name) { return pg_int(rows, row, name) != 0; }

bool pg_null(const struct rows *rows, int row, const char *name)
{
	return PQgetisnull(rows->result, row, column_of(rows, name));
}

int64_t pg_time_us(const struct rows *rows, int row, const char *name)
{
	return pg_null(rows, row, name) ? 0 : pg_int(rows, row, name) + PG_EPOCH_US;
}

const char *pg_name(const struct rows *rows, int column) { return PQfname(rows->result, column); }

void pg_json(struct buf *b, struct arena *arena, const struct rows *rows, int row, int column)
{
	const PGresult *r = rows->result;
	if (PQgetisnull(r, row, column)) {
		buf_text(b, "null");
		return;
	}
	const char *p = PQgetvalue(r, row, column);
	int n = PQgetlength(r, row, column);
	switch (PQftype(r, column)) {
	case INT2: case INT4: case INT8:
		buf_int(b, integer(p, n));
		break;
	case BOOL: case FLOAT8: case JSONB: case JSON:
		buf_str(b, pg_text(arena, rows, row, column));
		break;
	case BYTEA:
		buf_json(b, b64_write(arena, (struct str){ p, (size_t)n }));
		break;
	default:
		buf_json(b, pg_text(arena, rows, row, column));
	}
}
