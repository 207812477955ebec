/* Keys. One master key of 32 bytes; every other key is derived from it by label (HMAC-SHA256), so
 * there is one file to guard. A check value in the database refuses a wrong one. */
#ifndef TL_VAULT_H
#define TL_VAULT_H

#include "tenant.h"

/* Reads 64 hexadecimal digits from `path`; dies when missing unless `may_create`. */
void vault_load(const char *path, bool may_create);
struct str vault_key(struct arena *arena, const char *label);	/* 32 bytes */
struct str vault_check_value(struct arena *arena);		/* hex, safe to store */

struct str vault_close(struct arena *arena, struct str context, struct str plain);	/* \x.. for bytea */
enum fault vault_open(struct arena *arena, struct str context, struct str sealed, struct str *ret_plain) MUST_CHECK;

/* Named secrets of the installation, through the system door. NOT_FOUND when absent. */
enum fault vault_get(struct arena *arena, const char *name, struct str *ret_plain) MUST_CHECK;
enum fault vault_put(struct arena *arena, const char *name, struct str plain) MUST_CHECK;
/* Puts `fresh` unless a value is there; gives what is there then. */
enum fault vault_once(struct arena *arena, const char *name, struct str fresh, struct str *ret_plain) MUST_CHECK;

#endif
