/* Rotation. Each sealed value is opened and sealed again by compare and set, so a value that a server writes
 * meanwhile is never overwritten; passes repeat until one finds nothing sealed by an older key. */
#include "keys.h"
#include "cluster.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/fault.h"
#include "1_code/b64.h"
#include "2_io/fiber.h"
#include "2_io/loop.h"
#include "2_io/pg_once.h"
#include "3_core/config.h"
#include "3_core/vault.h"
#include "4_out/kms.h"
#include <stdio.h>
#include <stdlib.h>

#define BATCH "500"
#define READ_AGAIN_MS 3000	/* servers look at the key file every second */

/* Where sealed values lie, and the context each is bound to. */
static const struct {
	const char *table, *column, *context, *where;
} places[] = {
	{ "api_keys", "sealed", "'credential:' || coalesce(client_id, agency_id) || ':' || id", "sealed is not null" },
	{ "webhook_endpoints", "secret_sealed", "'webhook:' || client_id", "true" },
	{ "tools", "auth_ciphertext", "'tool:' || id", "auth_ciphertext is not null" },
	{ "vault", "sealed", "name", "name <> 'master_key_check'" },
	{ "idempotency_keys", "body_sealed", "'idem:' || scope_id || ':' || key", "true" },
};

static void must(enum fault fault)
{
	if (fault != OK)
		die("%s", fault_note->message);
}

/* Seals one value anew; false when that was not needed. A row that moved meanwhile is for the next pass. */
static bool seal_anew(struct pg_once *write, size_t place, const char *ctid, const char *context, const char *hex)
{
	struct arena *arena = arena_make();
	struct str old, fresh;
	if (!hex_read(arena, str_of(hex), &old))
		bug("hexadecimal digits of our own asking");
	must(vault_rewrap(arena, str_of(context), old, &fresh));
	if (fresh.p) {
		struct str values[] = { fresh, str_of(ctid), str_format(arena, "\\x%s", hex) };
		struct str update = str_format(arena, "update %s set %s = $1::bytea where ctid = $2::tid and %s = $3::bytea",
			places[place].table, places[place].column, places[place].column);
		must(pg_once_run(write, update.p, values, 3));
	}
	bool needed = fresh.p;
	arena_drop(arena);
	return needed;
}

/* One pass over a place by a cursor, in constant memory; how many values were sealed anew. */
static int64_t pass(struct pg_once *read, struct pg_once *write, size_t place)
{
	int64_t done = 0;
	struct arena *arena = arena_make();
	must(pg_once_script(read, str_format(arena, "begin; declare places no scroll cursor for select ctid::text, %s, encode(%s, 'hex') "
		"from %s where %s", places[place].context, places[place].column, places[place].table, places[place].where).p));
	do {
		must(pg_once_run(read, "fetch " BATCH " from places", NULL, 0));
		for (int i = 0; i < pg_once_rows(read); i++)
			done += seal_anew(write, place, pg_once_cell(read, i, 0), pg_once_cell(read, i, 1), pg_once_cell(read, i, 2));
	} while (pg_once_rows(read));
	must(pg_once_script(read, "commit"));
	arena_drop(arena);
	return done;
}

static struct pg_once *open_owner(struct arena *arena)
{
	char error[300] = "";
	struct pg_once *once = pg_once_open(cluster_conninfo(arena, "tl_migrate").p, error, sizeof error);
	if (!once)
		die("no database answers for %s; start `trunkline serve` first (%s)", config.data.p, error);
	must(pg_once_script(once, "set tl.actor = 'operator'"));
	return once;
}

static void rotate(void *argument)
{
	bool retire = *(bool *)argument;
	struct arena *arena = arena_make();
	fault_clear(arena);
	struct pg_once *read = open_owner(arena), *write = open_owner(arena);
	vault_add();
	printf("key %d sealed from now on; waiting for running servers to read it\n", vault_version());
	fflush(stdout);
	fiber_sleep_ms(READ_AGAIN_MS);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		int64_t total = 0, n;
		do
			total += n = pass(read, write, i);
		while (n);
		printf("%-18s %lld sealed anew\n", places[i].table, (long long)total);
		fflush(stdout);
	}
	if (retire)
		vault_retire();
	if (retire)
		printf("older keys have left the key file; line 1 stays as the root of derived keys\n");
	pg_once_close(read);
	pg_once_close(write);
	fflush(stdout);
	exit(0);
}

int keys_rotate(bool retire)
{
	loop_init();
	vault_use_kek(kms_kek());
	fiber_spawn(rotate, &retire, false);
	loop_run();
	return 0;
}
