/* The settings table and its three sources. */
#include "config.h"
#include "../0_base/die.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct config config;

enum kind { KIND_text, KIND_secret, KIND_number, KIND_flag };

static const struct setting {
	const char *name, *value, *meaning;
	enum kind kind;
	size_t offset;
} settings[] = {
#define SETTING(name, kind, value, meaning) { #name, value, meaning, KIND_##kind, offsetof(struct config, name) },
#include "../../tbl/settings.def"
#undef SETTING
};

#define COUNT (sizeof settings / sizeof *settings)

/* Names that are read from the environment without the TRUNKLINE_ prefix as well. */
static const char *const bare[] = { "database_url", "ultravox_api_key", "ultravox_base_url", "ultravox_webhook_secret",
	"stripe_secret_key", "stripe_base_url", "stripe_webhook_secret", "telnyx_api_key", "telnyx_base_url",
	"telnyx_public_key", "telnyx_hmac_secret", "elevenlabs_base_url", "s3_endpoint", "s3_bucket", "s3_region",
	"s3_access_key_id", "s3_secret_access_key", "redis_url", "oidc_issuers", "cors_origins", "metrics_token",
	"master_key_file", "provider_wait_ms", "credit_price_cents", "provider_timeout_ms", "default_from_number",
	"default_model" };

static const struct setting *find(const char *name)
{
	for (size_t i = 0; i < COUNT; i++)
		if (strcmp(settings[i].name, name) == 0)
			return &settings[i];
	return NULL;
}

bool config_known(const char *name) { return find(name) != NULL; }

static void store(const struct setting *s, const char *value, const char *where)
{
	char *at = (char *)&config + s->offset;
	int64_t n;
	switch (s->kind) {
	case KIND_number:
		if (!str_int(str_of(value), &n) || n < 0)
			die("%s: %s must be a number, not '%s'", where, s->name, value);
		*(int64_t *)(void *)at = n;
		break;
	case KIND_flag:
		if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0 && strcmp(value, "1") != 0 && strcmp(value, "0") != 0)
			die("%s: %s must be true or false, not '%s'", where, s->name, value);
		*(bool *)at = *value == 't' || *value == '1';
		break;
	default:
		*(struct str *)(void *)at = str_of(strdup(value));
	}
}

void config_set_value(const char *name, const char *value)
{
	const struct setting *s = find(name);
	if (!s)
		die("unknown setting '%s'; `trunkline serve --help` lists them", name);
	store(s, value, "settings");
}

void config_set(const char *assignment)
{
	char name[64];
	const char *equals = strchr(assignment, '=');
	if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof name)
		die("--set takes name=value, not '%s'", assignment);
	memcpy(name, assignment, (size_t)(equals - assignment));
	name[equals - assignment] = 0;
	config_set_value(name, equals + 1);
}

static void load_file(const char *path)
{
	char line[4096];
	int number = 0;
	FILE *file = fopen(path, "r");
	if (!file)
		die("cannot read the settings file %s", path);
	while (fgets(line, sizeof line, file)) {
		struct str value = str_trim((struct str){ line, strcspn(line, "\r\n") });
		number++;
		if (!value.n || value.p[0] == '#')
			continue;
		struct str name = str_trim(str_cut(&value, '='));
		value = str_trim(value);
		char name_text[64] = "", value_text[4096];
		snprintf(name_text, sizeof name_text, "%.*s", STRF(name));
		snprintf(value_text, sizeof value_text, "%.*s", STRF(value));
		if (!find(name_text))
			die("%s:%d: unknown setting '%s'", path, number, name_text);
		store(find(name_text), value_text, path);
	}
	fclose(file);
}

static void upper(const char *name, const char *prefix, char *out, size_t size)
{
	snprintf(out, size, "%s%s", prefix, name);
	for (; *out; out++)
		*out = (char)toupper((unsigned char)*out);
}

extern char **environ;

/* A misspelt TRUNKLINE_ variable would be silence; it is refused instead. */
static void refuse_unknown(void)
{
	static const char *const others[] = { "SHARED_FD", "SLOT", "WORKER", "LISTEN_FD", "ULTRAVOX_SCHEMA", "CONFIG", "PG_BIN" };
	for (char **e = environ; *e; e++) {
		char name[128] = "";
		if (strncmp(*e, "TRUNKLINE_", 10) != 0)
			continue;
		size_t n = strcspn(*e + 10, "=");
		snprintf(name, sizeof name, "%.*s", (int)n, *e + 10);
		bool known = false;
		for (size_t i = 0; i < sizeof others / sizeof *others; i++)
			known |= strcmp(name, others[i]) == 0;
		for (char *p = name; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		if (!known && !find(name))
			die("unknown setting in the environment: TRUNKLINE_%.*s", (int)n, *e + 10);
	}
}

void config_load(const char *file)
{
	char name[128];
	for (size_t i = 0; i < COUNT; i++)
		store(&settings[i], settings[i].value, "defaults");
	if (file)
		load_file(file);
	refuse_unknown();
	for (size_t i = 0; i < sizeof bare / sizeof *bare; i++) {
		upper(bare[i], "", name, sizeof name);
		if (getenv(name))
			store(find(bare[i]), getenv(name), name);
	}
	for (size_t i = 0; i < COUNT; i++) {
		upper(settings[i].name, "TRUNKLINE_", name, sizeof name);
		if (getenv(name))
			store(&settings[i], getenv(name), name);
	}
}

void config_export(void)
{
	char name[128], number[32];
	for (size_t i = 0; i < COUNT; i++) {
		const char *at = (const char *)&config + settings[i].offset, *value = number;
		if (settings[i].kind == KIND_number)
			snprintf(number, sizeof number, "%lld", (long long)*(const int64_t *)(const void *)at);
		else if (settings[i].kind == KIND_flag)
			value = *(const bool *)at ? "true" : "false";
		else
			value = ((const struct str *)(const void *)at)->p;
		upper(settings[i].name, "TRUNKLINE_", name, sizeof name);
		setenv(name, value, 1);
	}
}

void config_help(struct buf *b)
{
	for (size_t i = 0; i < COUNT; i++)
		buf_format(b, "  %-26s %s%s%s%s\n", settings[i].name, settings[i].meaning,
			*settings[i].value ? " [" : "", settings[i].value, *settings[i].value ? "]" : "");
}
