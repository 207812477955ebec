/* Settings: one table (tbl/settings.def), read from flags, then environment, then file. Unknown
 * names are refused. The master resolves them and hands them to its children as environment. */
#ifndef TL_CONFIG_H
#define TL_CONFIG_H

#include "../0_base/fault.h"

#define CONFIG_FIELD_text(name) struct str name;
#define CONFIG_FIELD_secret(name) struct str name;
#define CONFIG_FIELD_number(name) int64_t name;
#define CONFIG_FIELD_flag(name) bool name;

struct config {
#define SETTING(name, kind, value, meaning) CONFIG_FIELD_##kind(name)
#include "../../tbl/settings.def"
#undef SETTING
};

extern struct config config;

/* Defaults, then `file` (NULL = none), then environment. A problem ends the program. */
void config_load(const char *file);
/* "name=value" as --set takes it; dies on an unknown name or a bad value. */
void config_set(const char *assignment);
void config_set_value(const char *name, const char *value);
bool config_known(const char *name);
void config_export(void);	/* every setting into the environment, for children */
void config_help(struct buf *buf);

#endif
