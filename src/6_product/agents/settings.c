/* Tuning fields. */
#include "settings.h"

enum kind { KEPT, TEXT, SECONDS, NUMBER, FLAG };	/* KEPT: ours alone, or nothing the provider has */

/* `there` is the member of callTemplate; one level of nesting by a dot, and greetings by who speaks first. */
static const struct tuning {
	const char *name, *there;
	enum kind kind;
	double least, most;
} table[] = {
	{ "agent_language", "languageHint", TEXT },
	{ "temperature", "temperature", NUMBER, 0, 1 },
	{ "join_timeout", "joinTimeout", SECONDS, 1, 3600 },
	{ "max_conversation_duration", "maxDuration", SECONDS, 10, 14400 },
	{ "time_exceeded_message", "timeExceededMessage", TEXT },
	{ "turn_endpoint_delay", "vadSettings.turnEndpointDelay", SECONDS, 0, 10 },
	{ "minimum_turn_duration", "vadSettings.minimumTurnDuration", SECONDS, 0, 10 },
	{ "minimum_interruption_duration", "vadSettings.minimumInterruptionDuration", SECONDS, 0, 10 },
	{ "frame_activation_threshold", "vadSettings.frameActivationThreshold", NUMBER, 0.1, 1 },
	{ "first_message", "agent.text", TEXT },
	{ "first_message_delay", "agent.delay", SECONDS, 0, 60 },
	{ "disable_interruptions", "agent.uninterruptible", FLAG },
	{ "fallback_response", "user.fallback.text", TEXT },
	{ "first_speaker", NULL, KEPT }, { "from_number", NULL, KEPT }, { "selected_llm", NULL, KEPT }, { "stability", NULL, KEPT },
	{ "similarity", NULL, KEPT }, { "speed", NULL, KEPT }, { "voice_pitch", NULL, KEPT }, { "voice_style", NULL, KEPT },
	{ "use_speaker_boost", NULL, KEPT }, { "turn_timeout", NULL, KEPT }, { "confidence_threshold", NULL, KEPT },
	{ "timezone", NULL, KEPT }, { "personality", NULL, KEPT }, { "knowledge_base_search_enabled", NULL, KEPT },
	{ "knowledge_base_context_window", NULL, KEPT },
};
#define COUNT (sizeof table / sizeof *table)

/* maxDuration and max_duration are one name. */
static struct str snake(struct arena *arena, const char *name)
{
	struct buf b = BUF_IN(arena, 256);
	for (; *name && b.n < 200; name++) {
		if (*name >= 'A' && *name <= 'Z') {
			buf_char(&b, '_');
			buf_char(&b, (char)(*name - 'A' + 'a'));
		} else {
			buf_char(&b, *name);
		}
	}
	return str_copy(arena, buf_view(&b));
}

static const struct tuning *find(struct str name)
{
	for (size_t i = 0; i < COUNT; i++)
		if (str_is(name, table[i].name))
			return &table[i];
	return NULL;
}

static bool takes(const struct tuning *t, const json_t *value)
{
	double n = json_number_value(value);
	switch (t->kind) {
	case TEXT: return json_is_string(value) && json_string_length(value);
	case FLAG: return json_is_boolean(value);
	case NUMBER: case SECONDS: return json_is_number(value) && n >= t->least && n <= t->most;
	default: return true;
	}
}

static void warn(struct req *req, struct str field, const char *reason)
{
	struct shape_warning *w = arena_new(req->arena, struct shape_warning);
	*w = (struct shape_warning){ .next = req->warnings, .field = field, .reason = reason };
	req->warnings = w;
}

static void take_back(struct req *req, const char *field)
{
	for (struct shape_warning **w = &req->warnings; *w; w = &(*w)->next)
		if (str_is((*w)->field, field)) {
			*w = (*w)->next;
			return;
		}
}

static void take(struct req *req, json_t *into, const char *key, json_t *value, const char *prefix)
{
	struct str name = snake(req->arena, key), field = str_format(req->arena, "%s%s", prefix, key);
	const struct tuning *t = find(name);
	if (!t) {
		if (*prefix)
			warn(req, field, "unknown setting, ignored");
		return;		/* at the top level the shape has warned already */
	}
	if (!*prefix)
		take_back(req, key);
	if (!json_is_null(value) && !takes(t, value))
		warn(req, field, "the provider cannot take this value: kept, not sent");
	json_object_set(into, name.p, value);
}

struct str agent_settings_read(struct req *req, struct str settings)
{
	json_t *all = json_object(), *own, *value;
	const char *key;
	arena_defer(req->arena, (void (*)(void *))json_decref, all);
	if (settings.p && json_read(req->arena, settings, &own) == OK)
		json_object_foreach(own, key, value)
			take(req, all, key, value, "settings.");
	json_object_foreach(req->json, key, value)
		if (find(snake(req->arena, key)))
			take(req, all, key, value, "");
	return json_object_size(all) || settings.p ? json_dump(req->arena, all) : STR_NULL;
}

static void put(struct buf *b, const struct tuning *t, const json_t *value, const char *name)
{
	buf_format(b, "\"%s\":", name);
	if (t->kind == TEXT)
		buf_json(b, (struct str){ json_string_value(value), json_string_length(value) });
	else if (t->kind == SECONDS)
		buf_format(b, "\"%.9gs\"", json_number_value(value));
	else if (t->kind == NUMBER)
		buf_format(b, "%.9g", json_number_value(value));
	else
		buf_text(b, json_is_true(value) ? "true" : "false");
}

/* The members of one group (prefix with its dot), as an object's inside. */
static struct str group(struct buf *b, const json_t *settings, const char *prefix)
{
	struct buf inside = BUF_IN(b->arena, 65536);
	size_t n = strlen(prefix);
	for (size_t i = 0; i < COUNT; i++) {
		const struct tuning *t = &table[i];
		json_t *value = json_object_get(settings, t->name);
		bool mine = t->there && strncmp(t->there, prefix, n) == 0 && !strchr(t->there + n, '.');
		if (!mine || !value || json_is_null(value) || !takes(t, value))
			continue;
		if (inside.n)
			buf_char(&inside, ',');
		put(&inside, t, value, t->there + n);
	}
	return buf_view(&inside);
}

void agent_settings_template(struct buf *b, const json_t *settings)
{
	struct str plain = group(b, settings, ""), vad = group(b, settings, "vadSettings.");
	struct str agent = group(b, settings, "agent."), fallback = group(b, settings, "user.fallback.");
	bool user = str_is(json_text(settings, "first_speaker"), "user");
	if (plain.n)
		buf_format(b, ",%.*s", STRF(plain));
	if (vad.n)
		buf_format(b, ",\"vadSettings\":{%.*s}", STRF(vad));
	if (user && fallback.n)
		buf_format(b, ",\"firstSpeakerSettings\":{\"user\":{\"fallback\":{%.*s}}}", STRF(fallback));
	else if (user)
		buf_text(b, ",\"firstSpeakerSettings\":{\"user\":{}}");
	else if (agent.n)
		buf_format(b, ",\"firstSpeakerSettings\":{\"agent\":{%.*s}}", STRF(agent));
}
