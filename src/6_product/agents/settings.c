/* Tuning fields. */
#include "settings.h"

/* KEPT: ours alone, or nothing the provider has. */
enum kind { KEPT, TEXT, SECONDS, NUMBER, FLAG, OBJECT, MEDIUM, MESSAGES, CONNECTION };

/* `there` is the member of callTemplate; one level of nesting by a dot, greetings by who speaks first, and what a voice takes by
 * the provider that speaks it, so a name may stand twice (schemas CallTemplate, VadSettings, FirstSpeakerSettings, ExternalVoice). */
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
	{ "first_message_prompt", "agent.prompt", TEXT },
	{ "fallback_response", "user.fallback.text", TEXT },
	{ "fallback_prompt", "user.fallback.prompt", TEXT },
	{ "fallback_delay", "user.fallback.delay", SECONDS, 0, 60 },
	{ "initial_output_medium", "initialOutputMedium", MEDIUM },
	{ "inactivity_messages", "inactivityMessages", MESSAGES },
	{ "context_schema", "contextSchema", OBJECT },
	{ "data_connection", "dataConnection", CONNECTION },
	{ "speed", "elevenLabs.speed", NUMBER, 0.7, 1.2 },
	{ "speed", "lmnt.speed", NUMBER, 0.25, 2 },
	{ "speed", "google.speakingRate", NUMBER, 0.25, 2 },
	{ "speed", "inworld.speakingRate", NUMBER, 0.5, 1.5 },
	{ "speed", "cartesia.speed", NUMBER, 0.6, 1.5 },
	{ "voice_volume", "cartesia.volume", NUMBER, 0.5, 2 },
	{ "voice_emotion", "cartesia.emotion", TEXT },
	{ "voice_temperature", "inworld.temperature", NUMBER, 0, 2 },
	{ "voice_temperature", "respeecher.temperature", NUMBER, 0, 2 },
	{ "conversational", "lmnt.conversational", FLAG },
	{ "stability", "elevenLabs.stability", NUMBER, 0, 1 },
	{ "similarity", "elevenLabs.similarityBoost", NUMBER, 0, 1 },
	{ "voice_style", "elevenLabs.style", NUMBER, 0, 1 },
	{ "use_speaker_boost", "elevenLabs.useSpeakerBoost", FLAG },
	{ "first_speaker", NULL, KEPT }, { "from_number", NULL, KEPT }, { "selected_llm", NULL, KEPT }, { "voice_pitch", NULL, KEPT },
	{ "turn_timeout", NULL, KEPT }, { "confidence_threshold", NULL, KEPT }, { "timezone", NULL, KEPT }, { "personality", NULL, KEPT },
	{ "knowledge_base_search_enabled", NULL, KEPT }, { "knowledge_base_context_window", NULL, KEPT },
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

#define MESSAGES_MOST 10

static bool is_medium(struct str name) { return str_is(name, "voice") || str_is(name, "text"); }

/* [{message, after_seconds, end_behavior?}]: what is said to one who is silent, each after the one before. */
static bool is_messages(const json_t *list)
{
	size_t i;
	json_t *m;
	json_array_foreach(list, i, m) {
		struct str message = json_text(m, "message"), end = json_text(m, "end_behavior");
		double after = json_number_value(json_object_get(m, "after_seconds"));
		if (!message.n || after < 1 || after > 3600 || (end.p && !str_is(end, "hang_up_soft") && !str_is(end, "hang_up_strict")))
			return false;
	}
	return json_is_array(list) && json_array_size(list) <= MESSAGES_MOST;
}

/* {websocket_url, sample_rate?, channel_mode?}: where the provider streams what happens, and the audio when one of the two is given. */
static bool is_connection(const json_t *c)
{
	struct str mode = json_text(c, "channel_mode");
	json_t *rate = json_object_get(c, "sample_rate");
	return str_starts(json_text(c, "websocket_url"), "wss://") && (!mode.p || str_is(mode, "mixed") || str_is(mode, "separated")) &&
		(!rate || (json_integer_value(rate) >= 8000 && json_integer_value(rate) <= 48000));
}

static bool takes(const struct tuning *t, const json_t *value)
{
	double n = json_number_value(value);
	switch (t->kind) {
	case TEXT: return json_is_string(value) && json_string_length(value);
	case FLAG: return json_is_boolean(value);
	case NUMBER: case SECONDS: return json_is_number(value) && n >= t->least && n <= t->most;
	case OBJECT: return json_is_object(value);
	case MEDIUM: return json_is_string(value) && is_medium((struct str){ json_string_value(value), json_string_length(value) });
	case MESSAGES: return is_messages(value);
	case CONNECTION: return is_connection(value);
	default: return true;
	}
}

static bool any_takes(const char *name, const json_t *value)
{
	for (size_t i = 0; i < COUNT; i++)
		if (strcmp(table[i].name, name) == 0 && takes(&table[i], value))
			return true;
	return false;
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
	if (!json_is_null(value) && !any_takes(t->name, value))
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

static void put_messages(struct buf *b, const json_t *list)
{
	size_t i;
	json_t *m;
	json_array_foreach(list, i, m) {
		struct str end = json_text(m, "end_behavior");
		buf_format(b, "%s{\"duration\":\"%.9gs\",\"message\":", i ? "," : "[", json_number_value(json_object_get(m, "after_seconds")));
		buf_json(b, json_text(m, "message"));
		if (end.p)
			buf_format(b, ",\"endBehavior\":\"END_BEHAVIOR_HANG_UP_%s\"", str_is(end, "hang_up_soft") ? "SOFT" : "STRICT");
		buf_char(b, '}');
	}
	buf_text(b, i ? "]" : "[]");
}

static void put_connection(struct buf *b, const json_t *c)
{
	struct str mode = json_text(c, "channel_mode");
	json_t *rate = json_object_get(c, "sample_rate");
	buf_text(b, "{\"websocketUrl\":");
	buf_json(b, json_text(c, "websocket_url"));
	if (rate || mode.p)
		buf_format(b, ",\"audioConfig\":{\"sampleRate\":%lld,\"channelMode\":\"CHANNEL_MODE_%s\"}",
			(long long)(rate ? json_integer_value(rate) : 16000), str_is(mode, "mixed") ? "MIXED" : "SEPARATED");
	buf_char(b, '}');
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
	else if (t->kind == MEDIUM)
		buf_format(b, "\"MESSAGE_MEDIUM_%s\"", strcmp(json_string_value(value), "text") == 0 ? "TEXT" : "VOICE");
	else if (t->kind == OBJECT)
		buf_str(b, json_dump(b->arena, value));
	else if (t->kind == MESSAGES)
		put_messages(b, value);
	else if (t->kind == CONNECTION)
		put_connection(b, value);
	else
		buf_text(b, json_is_true(value) ? "true" : "false");
}

/* The members of one group (prefix with its dot), as an object's inside. */
static struct str group(struct buf *b, const json_t *settings, const char *prefix)
{
	struct buf inside = BUF_IN(b->arena, 256 << 10);
	size_t n = strlen(prefix);
	bool said = false;	/* words of ours, so that none are made up */
	for (size_t i = 0; i < COUNT; i++) {
		const struct tuning *t = &table[i];
		json_t *value = json_object_get(settings, t->name);
		bool mine = t->there && strncmp(t->there, prefix, n) == 0 && !strchr(t->there + n, '.');
		if (!mine || !value || json_is_null(value) || !takes(t, value) || (said && strcmp(t->there + n, "prompt") == 0))
			continue;
		said |= strcmp(t->there + n, "text") == 0;
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

void agent_settings_voice(struct buf *b, const json_t *settings, struct str provider)
{
	static const struct {
		const char *ours, *theirs, *open, *close;
	} speakers[] = {
		{ "elevenlabs", "elevenLabs", "", "" }, { "lmnt", "lmnt", "", "" }, { "google_cloud", "google", "", "" },
		{ "inworld", "inworld", "", "" }, { "respeecher", "respeecher", "", "" }, { "cartesia", "cartesia", "\"generationConfig\":{", "}" },
	};
	for (size_t i = 0; i < sizeof speakers / sizeof *speakers; i++) {
		struct str inside = str_is(provider, speakers[i].ours)
			? group(b, settings, str_format(b->arena, "%s.", speakers[i].theirs).p) : STR_NULL;
		if (inside.n)
			buf_format(b, ",\"voiceOverrides\":{\"%s\":{%s%.*s%s}}", speakers[i].theirs, speakers[i].open, STRF(inside), speakers[i].close);
	}
}
