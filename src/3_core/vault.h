/* Keys. The key file holds a key a line, 64 hexadecimal digits: line N is version N, the last one seals, `-` stands for a
 * retired one. Line 1 is the root as well: every other key of the installation is derived from it by label
 * (HMAC-SHA256). A check value in the database refuses a wrong root. */
#ifndef TL_VAULT_H
#define TL_VAULT_H

#include "tenant.h"

/* Reads the file at `path`; dies when missing unless `may_create`. */
void vault_load(const char *path, bool may_create);
void vault_watch(void);						/* reads it again when it has changed; a few times a second is plenty */
int vault_version(void);					/* of the key that seals now */
struct str vault_key(struct arena *arena, const char *label);	/* 32 bytes, from the root */
struct str vault_check_value(struct arena *arena);		/* hex, safe to store */
/* For `trunkline keys`: appends a fresh key to the file, or retires all but the last; dies when it cannot. */
void vault_add(void);
void vault_retire(void);

/* What is ours alone: sealed by the current key. \x.. for bytea. */
struct str vault_close(struct arena *arena, struct str context, struct str plain);
enum fault vault_open(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain) MUST_CHECK;

/* What tenants entrust: envelope encryption. Each secret has a data key of its own (AES-256-GCM, `context` binds owner
 * and row), wrapped by the key-encryption key: the key file's, or one in a key service that was handed in. May wait
 * for that service, so hold no transaction. Opens what vault_close sealed as well. */
struct vault_kek {
	const char *name;
	enum fault (*wrap)(struct arena *arena, struct str data_key, struct str context, struct str *ret_wrapped);
	enum fault (*unwrap)(struct arena *arena, struct str wrapped, struct str context, struct str *ret_data_key);
};
void vault_use_kek(const struct vault_kek *kek);
enum fault vault_entrust(struct arena *arena, struct str context, struct str plain, struct str *ret_sealed) MUST_CHECK;
enum fault vault_reveal(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain) MUST_CHECK;
/* The same secret under the current key; NULL p when it is already. */
enum fault vault_rewrap(struct arena *arena, struct str context, struct str sealed, struct str *ret_sealed) MUST_CHECK;

/* Named secrets of the installation, through the system door. NOT_FOUND when absent. */
enum fault vault_get(struct arena *arena, const char *name, struct str *ret_plain) MUST_CHECK;
enum fault vault_put(struct arena *arena, const char *name, struct str plain) MUST_CHECK;
/* Puts `fresh` unless a value is there; gives what is there then. */
enum fault vault_once(struct arena *arena, const char *name, struct str fresh, struct str *ret_plain) MUST_CHECK;

#endif
