/* The master key and what is derived from it. */
#include "vault.h"
#include "core.sql.h"
#include "../0_base/die.h"
#include "../1_code/b64.h"
#include "../1_code/seal.h"
#include "../1_code/sign.h"
#include "../1_code/uuid.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static char master[SEAL_KEY_BYTES];

static void create(const char *path)
{
	struct arena *arena = arena_make();
	char raw[SEAL_KEY_BYTES];
	random_bytes(raw, sizeof raw);
	struct str hex = hex_write(arena, (struct str){ raw, sizeof raw });
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, hex.p, hex.n) != (ssize_t)hex.n || fsync(fd) != 0)
		die("cannot write the master key %s: %s", path, strerror(errno));
	close(fd);
	arena_drop(arena);
}

void vault_load(const char *path, bool may_create)
{
	char text[80] = "";
	if (access(path, R_OK) != 0) {
		if (!may_create)
			die("no usable master key at %s; without it nothing sealed can be opened. "
				"Set MASTER_KEY_FILE to a file with 64 hexadecimal digits", path);
		create(path);
	}
	FILE *file = fopen(path, "r");
	if (!file || !fgets(text, sizeof text, file))
		die("cannot read the master key %s", path);
	fclose(file);
	struct arena *arena = arena_make();
	struct str raw, hex = { text, strcspn(text, "\r\n ") };
	if (!hex_read(arena, hex, &raw) || raw.n != SEAL_KEY_BYTES)
		die("the master key %s must be 64 hexadecimal digits", path);
	memcpy(master, raw.p, sizeof master);
	arena_drop(arena);
}

struct str vault_key(struct arena *arena, const char *label)
{
	return sign_hmac(arena, (struct str){ master, sizeof master }, str_of(label));
}

struct str vault_check_value(struct arena *arena)
{
	return hex_write(arena, vault_key(arena, "check"));
}

struct str vault_close(struct arena *arena, struct str context, struct str plain)
{
	struct str sealed = seal_close(arena, vault_key(arena, "seal"), context, plain);
	struct str hex = hex_write(arena, sealed);
	return str_format(arena, "\\x%.*s", STRF(hex));
}

enum fault vault_open(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain)
{
	if (!seal_open(arena, vault_key(arena, "seal"), context, sealed, ret_plain))
		return fault_raise(FAULT_INTERNAL_ERROR, "A sealed value cannot be opened");
	return OK;
}

enum fault vault_get(struct arena *arena, const char *name, struct str *ret_plain)
{
	struct rows rows;
	struct tx tx;
	system_read(&tx, arena);
	TRY(vault_select(&tx, (struct vault_select){ .name = str_of(name) }, &rows));
	if (!rows.count)
		return fault_raise(FAULT_NOT_FOUND, "No %s in the vault", name);
	return vault_open(arena, str_of(name), pg_col(arena, &rows, 0, "sealed"), ret_plain);
}

enum fault vault_put(struct arena *arena, const char *name, struct str plain)
{
	struct tx tx;
	TRY(system_begin(&tx, arena));
	vault_upsert_later(&tx, (struct vault_upsert){ .name = str_of(name),
		.sealed = vault_close(arena, str_of(name), plain), .keep = false }, NULL);
	return tx_commit(&tx);
}

enum fault vault_once(struct arena *arena, const char *name, struct str fresh, struct str *ret_plain)
{
	struct tx tx;
	TRY(system_begin(&tx, arena));
	vault_upsert_later(&tx, (struct vault_upsert){ .name = str_of(name),
		.sealed = vault_close(arena, str_of(name), fresh), .keep = true }, NULL);
	TRY(tx_commit(&tx));
	return vault_get(arena, name, ret_plain);
}
