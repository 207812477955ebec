/* The key file, what is derived from it, and envelopes. */
#include "vault.h"
#include "core.sql.h"
#include "../0_base/die.h"
#include "../0_base/log.h"
#include "../1_code/b64.h"
#include "../1_code/seal.h"
#include "../1_code/sign.h"
#include "../1_code/uuid.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_KEYS 255
#define ENVELOPE 2
#define BY_SERVICE 0	/* where the version of a file's key would stand */

static char keys[MOST_KEYS + 1][SEAL_KEY_BYTES];	/* by version, from 1 */
static bool present[MOST_KEYS + 1];
static int newest;
static char *key_path;
static struct stat key_stat;
static const struct vault_kek *service;

static void write_file(const char *path, struct str text, int flags)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
	if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n || fsync(fd) != 0)
		die("cannot write the master key %s: %s", path, strerror(errno));
	close(fd);
}

static struct str fresh_key(struct arena *arena)
{
	char raw[SEAL_KEY_BYTES];
	random_bytes(raw, sizeof raw);
	return hex_write(arena, (struct str){ raw, sizeof raw });
}

/* Reads the file; the problem, or NULL. Nothing changes when there is one. */
static const char *read_file(void)
{
	static char fresh[MOST_KEYS + 1][SEAL_KEY_BYTES];
	bool got[MOST_KEYS + 1] = { false };
	char line[80];
	int n = 0;
	FILE *file = fopen(key_path, "re");
	if (!file)
		return "cannot be read";
	struct arena *arena = arena_make();
	const char *problem = NULL;
	while (!problem && fgets(line, sizeof line, file)) {
		struct str raw, hex = { line, strcspn(line, "\r\n ") };
		if (++n > MOST_KEYS)
			problem = "holds too many keys";
		else if (str_is(hex, "-") && n > 1)
			continue;
		else if (!hex_read(arena, hex, &raw) || raw.n != SEAL_KEY_BYTES)
			problem = "must hold 64 hexadecimal digits a line";
		else
			memcpy(fresh[n], raw.p, SEAL_KEY_BYTES), got[n] = true;
	}
	fstat(fileno(file), &key_stat);
	fclose(file);
	arena_drop(arena);
	if (problem || !n || !got[n])
		return problem ? problem : "must end with a key of 64 hexadecimal digits";
	memcpy(keys, fresh, sizeof keys);
	memcpy(present, got, sizeof present);
	newest = n;
	return NULL;
}

void vault_load(const char *path, bool may_create)
{
	if (access(path, R_OK) != 0) {
		if (!may_create)
			die("no usable master key at %s; without it nothing sealed can be opened. "
				"Set MASTER_KEY_FILE to a file with 64 hexadecimal digits", path);
		struct arena *arena = arena_make();
		write_file(path, fresh_key(arena), O_EXCL);
		arena_drop(arena);
	}
	key_path = strdup(path);
	const char *problem = read_file();
	if (problem)
		die("the master key %s %s", path, problem);
}

void vault_watch(void)
{
	struct stat now;
	if (!key_path || stat(key_path, &now) != 0 || (now.st_ino == key_stat.st_ino && now.st_size == key_stat.st_size &&
	    now.st_mtim.tv_sec == key_stat.st_mtim.tv_sec && now.st_mtim.tv_nsec == key_stat.st_mtim.tv_nsec))
		return;
	const char *problem = read_file();
	log_line(problem ? LOG_ERROR : LOG_INFO, "key file read again", "problem", problem, NULL);
}

int vault_version(void) { return newest; }

/* The file as it is in memory, `more` behind it; replaced in one step. */
static void rewrite_file(struct arena *arena, struct str more)
{
	struct buf b = BUF_IN(arena, (MOST_KEYS + 2) * 80);
	for (int v = 1; v <= newest; v++) {
		struct str hex = present[v] ? hex_write(arena, (struct str){ keys[v], SEAL_KEY_BYTES }) : STR("-");
		buf_format(&b, "%.*s\n", STRF(hex));
	}
	buf_str(&b, more);
	struct str beside = str_format(arena, "%s.new", key_path);
	write_file(beside.p, buf_view(&b), O_TRUNC);
	struct stat was;
	if (stat(key_path, &was) == 0 && chown(beside.p, was.st_uid, was.st_gid) != 0)
		die("cannot give %s its owner: %s", beside.p, strerror(errno));
	if (rename(beside.p, key_path) != 0)
		die("cannot replace %s: %s", key_path, strerror(errno));
	const char *problem = read_file();
	if (problem)
		die("the master key %s %s", key_path, problem);
}

void vault_add(void)
{
	struct arena *arena = arena_make();
	if (newest == MOST_KEYS)
		die("the key file holds %d keys already", MOST_KEYS);
	struct str key = fresh_key(arena);
	rewrite_file(arena, str_format(arena, "%.*s\n", STRF(key)));
	arena_drop(arena);
}

void vault_retire(void)
{
	struct arena *arena = arena_make();
	for (int v = 2; v < newest; v++)
		present[v] = false;
	rewrite_file(arena, STR(""));
	arena_drop(arena);
}

/* Derived keys are remembered: every sealing asks for one. */
static struct str derive(struct arena *arena, int version, const char *label)
{
	static struct {
		char label[16], from[SEAL_KEY_BYTES], key[SEAL_KEY_BYTES];
	} memo[16];
	size_t slot = (str_hash(str_of(label)) + (size_t)version) % 16;
	if (strlen(label) >= sizeof memo->label)
		return sign_hmac(arena, (struct str){ keys[version], SEAL_KEY_BYTES }, str_of(label));
	if (strcmp(memo[slot].label, label) != 0 || memcmp(memo[slot].from, keys[version], SEAL_KEY_BYTES) != 0) {
		struct str made = sign_hmac(arena, (struct str){ keys[version], SEAL_KEY_BYTES }, str_of(label));
		memcpy(memo[slot].key, made.p, SEAL_KEY_BYTES);
		memcpy(memo[slot].from, keys[version], SEAL_KEY_BYTES);
		strcpy(memo[slot].label, label);
	}
	return str_copy(arena, (struct str){ memo[slot].key, SEAL_KEY_BYTES });
}

struct str vault_key(struct arena *arena, const char *label) { return derive(arena, 1, label); }

struct str vault_check_value(struct arena *arena)
{
	return hex_write(arena, vault_key(arena, "check"));
}

static struct str bytea(struct arena *arena, struct str bytes)
{
	return str_format(arena, "\\x%.*s", STRF(hex_write(arena, bytes)));
}

static bool open_version(struct arena *arena, struct str context, struct str sealed, struct str *ret)
{
	int version = seal_key_version(sealed);
	if (version && version > newest)
		vault_watch();		/* sealed by a process that has read the file after us */
	return version && version <= newest && present[version] &&
		seal_open(arena, derive(arena, version, "seal"), context, sealed, ret);
}

struct str vault_close(struct arena *arena, struct str context, struct str plain)
{
	return bytea(arena, seal_close(arena, derive(arena, newest, "seal"), newest, context, plain));
}

enum fault vault_open(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain)
{
	if (!open_version(arena, context, sealed, ret_plain))
		return fault_raise(FAULT_INTERNAL_ERROR, "A sealed value cannot be opened");
	return OK;
}

void vault_use_kek(const struct vault_kek *kek) { service = kek; }

/* Envelope: 2, key version (0 = the service's), length of the wrapped key in two bytes, wrapped key, sealed secret. */
static enum fault wrap(struct arena *arena, struct str context, struct str data_key, struct str sealed, struct str *ret)
{
	struct str wrapped = seal_close(arena, derive(arena, newest, "wrap"), newest, context, data_key);
	if (service)
		TRY(service->wrap(arena, data_key, context, &wrapped));
	struct buf b = BUF_IN(arena, sealed.n + wrapped.n + 8);
	buf_char(&b, ENVELOPE);
	buf_char(&b, (char)(service ? BY_SERVICE : newest));
	buf_char(&b, (char)(wrapped.n >> 8));
	buf_char(&b, (char)(wrapped.n & 255));
	buf_str(&b, wrapped);
	buf_str(&b, sealed);
	*ret = bytea(arena, buf_view(&b));
	return OK;
}

static enum fault unwrap(struct arena *arena, struct str context, struct str envelope, struct str *ret_key, struct str *ret_sealed)
{
	const unsigned char *head = (const unsigned char *)envelope.p;
	size_t n = envelope.n >= 4 && head[0] == ENVELOPE ? (size_t)head[2] << 8 | head[3] : 0;
	if (!n || envelope.n < n + 4)
		return fault_raise(FAULT_INTERNAL_ERROR, "A sealed secret is damaged");
	struct str wrapped = { envelope.p + 4, n };
	*ret_sealed = str_from(envelope, 4 + n);
	int version = head[1];
	if (version == BY_SERVICE)
		return service ? service->unwrap(arena, wrapped, context, ret_key)
			: fault_raise(FAULT_UNAVAILABLE, "A secret is wrapped by a key service that is not configured");
	if (version > newest)
		vault_watch();
	if (version > newest || !present[version] || !seal_open(arena, derive(arena, version, "wrap"), context, wrapped, ret_key))
		return fault_raise(FAULT_INTERNAL_ERROR, "A sealed secret cannot be opened");
	return OK;
}

enum fault vault_entrust(struct arena *arena, struct str context, struct str plain, struct str *ret_sealed)
{
	char raw[SEAL_KEY_BYTES];
	random_bytes(raw, sizeof raw);
	struct str data_key = str_copy(arena, (struct str){ raw, sizeof raw });
	return wrap(arena, context, data_key, seal_close(arena, data_key, 1, context, plain), ret_sealed);
}

enum fault vault_reveal(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain)
{
	struct str data_key, inner;
	if (sealed.n && sealed.p[0] != ENVELOPE)
		return vault_open(arena, context, sealed, ret_plain);
	TRY(unwrap(arena, context, sealed, &data_key, &inner));
	if (!seal_open(arena, data_key, context, inner, ret_plain))
		return fault_raise(FAULT_INTERNAL_ERROR, "A sealed secret cannot be opened");
	return OK;
}

enum fault vault_rewrap(struct arena *arena, struct str context, struct str sealed, struct str *ret_sealed)
{
	struct str data_key, inner, plain;
	*ret_sealed = STR_NULL;
	if (sealed.n && sealed.p[0] != ENVELOPE) {
		TRY(vault_open(arena, context, sealed, &plain));
		if (seal_key_version(sealed) != newest)
			*ret_sealed = vault_close(arena, context, plain);
		return OK;
	}
	if (sealed.n > 1 && (unsigned char)sealed.p[1] == (service ? BY_SERVICE : newest))
		return OK;
	TRY(unwrap(arena, context, sealed, &data_key, &inner));
	return wrap(arena, context, data_key, inner, ret_sealed);
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
