/* Ultravox's tools, corpora, uploads, sources and voices. A source takes 20 s; one whose file is named *broken* never is ready. A clone
 * named *slow* is not to be found for 180 s, one named *broken* is refused. */
#include "sandbox.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../1_code/url.h"
#include "../1_code/uuid.h"
#include <math.h>
#include <stdlib.h>
#include <strings.h>

#define SOURCE_US (20 * US_PER_S)
#define SLOW_US (180 * US_PER_S)
#define UPLOAD_US (300 * US_PER_S)
#define SOURCES_MOST 20
#define KEPT_BYTES ((size_t)64 << 10)

enum kind { TOOL, CORPUS, SOURCE, DOCUMENT, VOICE };
static const char *const id_fields[] = { "toolId", "corpusId", "sourceId", "documentId", "voiceId" };

static struct thing {
	struct thing *next;
	enum kind kind;
	json_t *object;
	struct str id, parent;		/* of a source or document: its corpus */
	struct str type, text;		/* of a document: its media type; what was put */
	int64_t born_us;
	bool gone, filled, broken;
} *first, **last = &first;

static struct thing *make(struct http_request *r, enum kind kind, json_t *object, struct str parent)
{
	struct thing *t = must_alloc(sizeof *t);
	*t = (struct thing){ .kind = kind, .object = object, .id = keep(uuid_make(r->arena)), .parent = parent, .born_us = clock_now_us() };
	json_object_set_new(object, id_fields[kind], json_string(t->id.p));
	if (kind != VOICE && kind != DOCUMENT)
		json_object_set_new(object, "created", now_text());
	*last = t;
	last = &t->next;
	return t;
}

static struct thing *find(enum kind kind, struct str id)
{
	for (struct thing *t = first; t; t = t->next)
		if (t->kind == kind && !t->gone && str_eq(t->id, id))
			return t;
	return NULL;
}

static void list(struct http_request *r, enum kind kind, struct str parent)
{
	struct str search = url_query(r->arena, r->query, "search");
	json_t *all = json_array();
	for (struct thing *t = first; t; t = t->next)
		if (t->kind == kind && !t->gone && (!parent.p || str_eq(t->parent, parent)) &&
		    (!search.n || strstr(json_text(t->object, "name").p, search.p)))
			json_array_append(all, t->object);
	say_page(r, all);
}

static bool good_name(struct http_request *r, const json_t *in, size_t most)
{
	struct str name = json_text(in, "name");
	if (name.n && str_chars(name) <= most)
		return true;
	refuse(r, 400, "name: is required and has a greatest length");
	return false;
}

/* tools */

static void tool(struct http_request *r, struct str id, const json_t *in)
{
	struct thing *t = id.n ? find(TOOL, id) : NULL;
	bool writes = str_is(r->method, "POST") || str_is(r->method, "PUT");
	if (id.n && !t) {
		refuse(r, 404, "No Tool matches the given query.");
	} else if (writes) {
		struct str model = json_text(in, "definition.modelToolName");
		if (!good_name(r, in, 40))
			return;
		if (!model.n || !json_text(in, "definition.http.baseUrlPattern").n) {
			refuse(r, 400, "definition: modelToolName and one of http, client, dataConnection are required");
			return;
		}
		if (!t)
			t = make(r, TOOL, json_pack("{s:s}", "ownership", "private"), STR_NULL);
		json_object_set(t->object, "name", json_object_get(in, "name"));
		json_object_set(t->object, "definition", json_object_get(in, "definition"));
		say(r, id.n ? 200 : 201, t->object);
	} else if (str_is(r->method, "DELETE")) {
		t->gone = true;
		http_reply(r, 204, NULL, STR(""));
	} else if (id.n) {
		say(r, 200, t->object);
	} else {
		list(r, TOOL, STR_NULL);
	}
}

/* corpora */

static bool ready(const struct thing *source) { return !source->broken && clock_now_us() >= source->born_us + SOURCE_US; }

static void source_stats(struct thing *s)
{
	size_t n = json_array_size(json_at(s->object, "upload.documentIds")) + json_array_size(json_at(s->object, "crawl.startUrls"));
	json_object_set_new(s->object, "stats", json_pack("{s:s,s:o,s:i}", "status", ready(s)
		? "SOURCE_STATUS_READY" : "SOURCE_STATUS_INITIALIZING",
		"lastUpdated", time_text(s->born_us), "numDocs", ready(s) ? (int)n : 0));
}

static void corpus_stats(struct thing *c)
{
	int docs = 0, all = 0, waiting = 0;
	for (struct thing *s = first; s; s = s->next)
		if (s->kind == SOURCE && !s->gone && str_eq(s->parent, c->id))
			all++, ready(s) ? docs++ : waiting++;
	json_object_set_new(c->object, "stats", json_pack("{s:s,s:o,s:i,s:i,s:i}", "status", !all ? "CORPUS_STATUS_EMPTY" : waiting
		? "CORPUS_STATUS_UPDATING" : "CORPUS_STATUS_READY", "lastUpdated", now_text(), "numChunks", docs, "numDocs", docs,
		"numVectors", docs));
}

static void source_make(struct http_request *r, struct thing *corpus, const json_t *in)
{
	json_t *ids = json_at(in, "upload.documentIds"), *one, *object = json_object();
	size_t i;
	int there = 0;
	bool broken = false;
	for (struct thing *s = first; s; s = s->next)
		there += s->kind == SOURCE && !s->gone && str_eq(s->parent, corpus->id);
	if (there >= SOURCES_MOST) {
		json_decref(object);
		refuse(r, 400, "A corpus holds at most 20 sources.");
		return;
	}
	json_array_foreach(ids, i, one) {
		struct thing *d = find(DOCUMENT, str_of(json_string_value(one)));
		if (!d || !d->filled || !str_eq(d->parent, corpus->id)) {
			json_decref(object);
			refuse(r, 400, "upload: unknown or empty document");
			return;
		}
		broken |= d->broken;
	}
	if (!json_array_size(ids) && !json_array_size(json_at(in, "crawl.startUrls"))) {
		json_decref(object);
		refuse(r, 400, "one of upload, crawl, advanced is required");
		return;
	}
	json_object_update(object, (json_t *)in);
	struct thing *s = make(r, SOURCE, object, corpus->id);
	json_object_set_new(object, "corpusId", json_string(corpus->id.p));
	s->broken = broken || strstr(json_dump(r->arena, in).p, "broken");
	source_stats(s);
	say(r, 201, s->object);
}

static void upload_make(struct http_request *r, struct thing *corpus, const json_t *in)
{
	struct str type = json_text(in, "mimeType");
	if (!type.n) {
		refuse(r, 400, "mimeType: This field is required.");
		return;
	}
	struct thing *d = make(r, DOCUMENT, json_object(), corpus->id);
	d->type = keep(type);
	d->broken = json_text(in, "fileName").n && strcasestr(json_text(in, "fileName").p, "broken");
	json_t *out = json_pack("{s:s,s:s}", "documentId", d->id.p, "presignedUrl", str_format(r->arena, "http://%.*s/uploads/%.*s",
		STRF(http_header(r, "host")), STRF(d->id)).p);
	say(r, 201, out);
	json_decref(out);
}

bool upload_handle(struct http_request *r, struct str body)
{
	if (!str_starts(r->path, "/uploads/"))
		return false;
	struct thing *d = find(DOCUMENT, str_from(r->path, strlen("/uploads/")));
	bool good = d && str_is(r->method, "PUT") && str_eq(http_header(r, "content-type"), d->type) && !http_header(r, "x-api-key").p &&
		clock_now_us() <= d->born_us + UPLOAD_US;
	if (!good) {
		http_reply(r, 403, "application/xml", STR("<Error><Code>SignatureDoesNotMatch</Code></Error>"));
		return true;
	}
	d->filled = true;
	d->text = keep(str_clip(body, KEPT_BYTES));
	http_reply(r, 200, NULL, STR(""));
	return true;
}

/* The words of the question that a document holds, as a share of all: enough to be useful offline. */
static double score(struct arena *arena, struct str query, const struct thing *document)
{
	struct str rest = query, text = str_lower(arena, document->text);
	int words = 0, found = 0;
	while (rest.n) {
		struct str word = str_lower(arena, str_cut(&rest, ' '));
		if (!word.n)
			continue;
		words++;
		found += memmem(text.p, text.n, word.p, word.n) != NULL;
	}
	return words ? (double)found / words : 0;
}

static void query(struct http_request *r, const struct thing *corpus, const json_t *in)
{
	json_t *out = json_array(), *ids, *one, *most = json_object_get(in, "maxResults");
	size_t i;
	for (struct thing *s = first; s; s = s->next) {
		if (s->kind != SOURCE || s->gone || !str_eq(s->parent, corpus->id) || !ready(s))
			continue;
		ids = json_at(s->object, "upload.documentIds");
		json_array_foreach(ids, i, one) {
			struct thing *d = find(DOCUMENT, str_of(json_string_value(one)));
			double points = d && str_utf8(d->text) ? score(r->arena, json_text(in, "query"), d) : 0;
			struct str text = points > 0 ? str_copy(r->arena, str_clip(d->text, 500)) : STR("");
			if (points > 0 && (!json_is_integer(most) || (json_int_t)json_array_size(out) < json_integer_value(most)))
				json_array_append_new(out, json_pack("{s:s,s:f,s:{s:s,s:s}}", "content", text.p, "score", points, "citation",
					"sourceId", s->id.p, "documentId", d->id.p));
		}
	}
	say(r, 200, out);
	json_decref(out);
}

static void source_one(struct http_request *r, struct str id)
{
	struct thing *s = find(SOURCE, id);
	if (!s) {
		refuse(r, 404, "No CorpusSource matches the given query.");
	} else if (str_is(r->method, "DELETE")) {
		s->gone = true;
		http_reply(r, 204, NULL, STR(""));
	} else {
		source_stats(s);
		say(r, 200, s->object);
	}
}

static void corpus_one(struct http_request *r, struct thing *c, struct str part, const json_t *in)
{
	struct str rest = part, what = str_cut(&rest, '/');
	bool post = str_is(r->method, "POST");
	if (str_is(what, "uploads") && post) {
		upload_make(r, c, in);
	} else if (str_is(what, "sources") && rest.n) {
		source_one(r, rest);
	} else if (str_is(what, "sources")) {
		post ? source_make(r, c, in) : list(r, SOURCE, c->id);
	} else if (str_is(what, "query") && post) {
		query(r, c, in);
	} else if (part.n) {
		refuse(r, 404, "Not found.");
	} else if (str_is(r->method, "DELETE")) {
		c->gone = true;
		http_reply(r, 204, NULL, STR(""));
	} else {
		static const char *const fields[] = { "name", "description" };
		for (int i = 0; i < 2 && !str_is(r->method, "GET"); i++)
			if (json_object_get(in, fields[i]))
				json_object_set(c->object, fields[i], json_object_get(in, fields[i]));
		corpus_stats(c);
		say(r, 200, c->object);
	}
}

static void corpus(struct http_request *r, struct str id, struct str part, const json_t *in)
{
	struct thing *c = id.n ? find(CORPUS, id) : NULL;
	if (c) {
		corpus_one(r, c, part, in);
	} else if (id.n) {
		refuse(r, 404, "No Corpus matches the given query.");
	} else if (str_is(r->method, "POST")) {
		if (!good_name(r, in, 255))
			return;
		c = make(r, CORPUS, json_deep_copy(in), STR_NULL);
		corpus_stats(c);
		say(r, 201, c->object);
	} else {
		list(r, CORPUS, STR_NULL);
	}
}

/* voices */

static struct thing *voice_make(struct http_request *r, struct str name, json_t *definition, const char *provider, const char *billing)
{
	json_t *o = json_pack("{s:s#,s:n,s:n,s:s,s:s,s:s?,s:o}", "name", name.p, (int)name.n, "primaryLanguage", "languageLabel",
		"ownership", "private",
		"billingStyle", billing, "provider", provider, "definition", definition);
	struct thing *v = make(r, VOICE, o, STR_NULL);
	json_object_set_new(o, "previewUrl", json_string(str_format(r->arena, "http://%.*s/api/voices/%.*s/preview", STRF(http_header(r,
		"host")),
		STRF(v->id)).p));
	return v;
}

static bool name_taken(struct http_request *r, struct str name)
{
	for (struct thing *t = first; t; t = t->next)
		if (t->kind == VOICE && !t->gone && str_eq(json_text(t->object, "name"), name)) {
			refuse(r, 400, "name: a voice with this name already exists");
			return true;
		}
	return false;
}

static void voice_clone(struct http_request *r, struct str body)
{
	struct form_field file, name;
	struct str rest = body;
	if (!form_part(r, &rest, "file", &file) || !file.value.n || (!str_is(file.type, "audio/wav") && !str_is(file.type, "audio/mpeg"))) {
		refuse(r, 400, "file: a wav or mp3 file is required");
		return;
	}
	rest = body;
	if (!form_part(r, &rest, "name", &name) || !name.value.n || str_chars(name.value) > 40) {
		refuse(r, 400, "name: is required, at most 40 characters");
		return;
	}
	if (memmem(name.value.p, name.value.n, "broken", 6)) {
		refuse(r, 400, "file: no voice could be heard in it");
		return;
	}
	if (name_taken(r, name.value))
		return;
	struct thing *v = voice_make(r, name.value, json_object(), NULL, "VOICE_BILLING_STYLE_INCLUDED");
	say(r, 201, v->object);
}

static void voice_import(struct http_request *r, const json_t *in)
{
	json_t *definition = json_object_get(in, "definition");
	if (!good_name(r, in, 40) || name_taken(r, json_text(in, "name")))
		return;
	if (json_object_size(definition) != 1 || strstr(json_dump(r->arena, definition).p, "broken")) {
		refuse(r, 400, "definition: the voice is not known to its provider");
		return;
	}
	struct thing *v = voice_make(r, json_text(in, "name"), json_deep_copy(definition), json_object_iter_key(json_object_iter(definition)),
		"VOICE_BILLING_STYLE_EXTERNAL");
	say(r, 201, v->object);
}

/* Half a second of 440 Hz, 8 kHz 16 bit mono. */
static struct str tone(struct arena *arena)
{
	static const unsigned char head[44] = { 'R', 'I', 'F', 'F', 0x64, 0x1f, 0, 0, 'W', 'A', 'V', 'E', 'f', 'm', 't', ' ', 16, 0, 0,
		0, 1, 0, 1, 0,
		0x40, 0x1f, 0, 0, 0x80, 0x3e, 0, 0, 2, 0, 16, 0, 'd', 'a', 't', 'a', 0x40, 0x1f, 0, 0 };
	struct buf b = BUF_IN(arena, 8192);
	buf_add(&b, head, sizeof head);
	for (int i = 0; i < 4000; i++) {
		int v = (int)(8000 * sin(i * 440 * 2 * M_PI / 8000));
		buf_char(&b, (char)(v & 255));
		buf_char(&b, (char)(v >> 8 & 255));
	}
	return buf_view(&b);
}

static void voice(struct http_request *r, struct str id, struct str part, const json_t *in, struct str body)
{
	struct thing *v = id.n ? find(VOICE, id) : NULL;
	bool slow = v && strstr(json_text(v->object, "name").p, "slow") && clock_now_us() < v->born_us + SLOW_US;
	if (!id.n && str_is(r->method, "POST")) {
		in ? voice_import(r, in) : voice_clone(r, body);
	} else if (!id.n) {
		list(r, VOICE, STR_NULL);
	} else if (!v || slow) {
		refuse(r, 404, "No Voice matches the given query.");
	} else if (str_is(part, "preview")) {
		http_reply(r, 200, "audio/wav", tone(r->arena));
	} else if (str_is(r->method, "DELETE")) {
		v->gone = true;
		http_reply(r, 204, NULL, STR(""));
	} else {
		static const char *const fields[] = { "name", "description", "primaryLanguage" };
		for (int i = 0; i < 3 && !str_is(r->method, "GET"); i++)
			if (json_object_get(in, fields[i]))
				json_object_set(v->object, fields[i], json_object_get(in, fields[i]));
		say(r, 200, v->object);
	}
}

bool making_handle(struct http_request *r, struct str area, struct str id, struct str part, const json_t *in, struct str body)
{
	if (str_is(area, "tools") && !part.n)
		tool(r, id, in);
	else if (str_is(area, "corpora"))
		corpus(r, id, part, in);
	else if (str_is(area, "voices"))
		voice(r, id, part, in, body);
	else
		return false;
	return true;
}
