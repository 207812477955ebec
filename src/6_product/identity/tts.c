/* auth/providers/tts and the jobs that carry credentials to the voice provider. That provider keeps one key a speech
 * provider and account, so a key is pushed only to an account nobody else speaks through. */
#include "identity.h"
#include "tts.sql.h"
#include "../../1_code/uuid.h"
#include "../../3_core/config.h"
#include "../../3_core/credentials.h"
#include "../../3_core/vault.h"
#include "../../4_out/voice_provider.h"

struct tts_in {
	struct str provider, api_key, voice_id, settings;
};

#define FIELD(field, ...) { .name = #field, .offset = offsetof(struct tts_in, field), __VA_ARGS__ }
static const struct shape_field tts_fields[] = {
	FIELD(provider, .type = SHAPE_ENUM, .flags = SHAPE_REQUIRED,
		.values = "google,google_cloud,elevenlabs,cartesia,lmnt,inworld,respeecher,aws,azure,openai"),
	FIELD(api_key, .type = SHAPE_TEXT, .flags = SHAPE_REQUIRED, .min = 8, .max = 8192),
	FIELD(voice_id, .type = SHAPE_TEXT, .min = 1, .max = 200),
	FIELD(settings, .type = SHAPE_OBJECT, .max = 16384),
};
static const struct shape tts_shape = SHAPE("tts_key", tts_fields);

/* The voice provider's name for a speech provider (its schema, SetTtsApiKeysRequest); NULL: it takes none. */
static const char *name_there(struct str service)
{
	static const char *const names[][2] = { { "google_cloud", "google" }, { "elevenlabs", "elevenLabs" }, { "cartesia", "cartesia" },
		{ "lmnt", "lmnt" }, { "inworld", "inworld" }, { "respeecher", "respeecher" } };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (str_is(service, names[i][0]))
			return names[i][1];
	return NULL;
}

/* Is there a voice account of the caller's own, or one declared to serve nobody else? */
static enum fault may_push(struct req *req, struct str owner, bool *ret)
{
	struct rows r;
	struct tx tx;
	req_read(req, &tx);
	TRY(tts_account(&tx, (struct tts_account){ 0 }, &r));
	*ret = r.count && (str_eq(pg_col(req->arena, &r, 0, "owner_id"), owner) || pg_bool(&r, 0, "dedicated"));
	return OK;
}

static void warn_stored_only(struct req *req, bool taken)
{
	struct shape_warning *w = arena_new(req->arena, struct shape_warning);
	*w = (struct shape_warning){ .next = req->warnings, .field = STR("provider"), .reason = taken
		? "stored only: there is no voice account of your own; add an ultravox credential"
		: "stored only: the voice provider takes no such key" };
	req->warnings = w;
}

static enum fault answer(struct req *req, struct str id)
{
	struct rows row;
	struct tx tx;
	req_read(req, &tx);
	TRY(tts_get(&tx, (struct tts_get){ .id = id }, &row));
	struct str status = pg_col(req->arena, &row, 0, "sync_status");
	if (str_is(status, "failed")) {
		enum fault fault = fault_raise(FAULT_PROVIDER_ERROR, "%.*s", STRF(pg_col(req->arena, &row, 0, "last_error")));
		fault_detail("provider", STR("ultravox"));
		return fault;
	}
	reply_row(req, str_is(status, "pending") ? 202 : 200, &api_key_shape, &row, 0);
	return OK;
}

static enum fault set(struct req *req)
{
	struct tts_in *in = req->in;
	struct rows old, row;
	struct tx tx;
	bool own;
	struct str owner = req->scope.client_id.p ? req->scope.client_id : req->scope.agency_id, sealed;
	in->provider = credential_service(in->provider);
	const char *there = name_there(in->provider);
	struct str name = str_format(req->arena, "%.*s TTS key", STRF(in->provider));
	req_read(req, &tx);
	TRY(tts_id(&tx, (struct tts_id){ .service = in->provider, .key_name = name }, &old));
	struct str id = old.count ? pg_col(req->arena, &old, 0, "id") : uuid_make(req->arena);
	TRY(may_push(req, owner, &own));
	TRY(vault_entrust(req->arena, credential_context(req->arena, owner, id), in->api_key, &sealed));
	bool push = own && there;
	TRY(req_begin(req));
	tts_upsert_later(&req->tx, (struct tts_upsert){ .id = id, .service = in->provider, .key_name = name, .sealed = sealed,
		.settings = in->settings, .voice_id = in->voice_id, .sync_status = push ? STR("pending") : STR("stored_only") }, NULL);
	TRY(tts_get(&req->tx, (struct tts_get){ .id = id }, &row));
	if (!row.count)		/* another request made the row between our look and our write, under another id */
		return FAULT_SERIALIZE;
	if (!push) {
		warn_stored_only(req, there);
		reply_row(req, 200, &api_key_shape, &row, 0);
		return req_commit(req, false);
	}
	struct job_order order = { .kind = "credential.push", .resource_type = "api_key", .resource_id = id };
	struct str job = req->respond_async ? job_add(&req->tx, &order) : job_add_here(&req->tx, &order);
	struct buf plain = req->meta;
	reply_meta(req, "job_id", str_format(req->arena, "\"%.*s\"", STRF(job)));
	reply_row(req, 202, &api_key_shape, &row, 0);
	TRY(req_commit(req, !req->respond_async));
	if (req->respond_async)
		return OK;
	if (job_run_here(job, &order, &req->scope, config.provider_wait_ms, NULL, NULL))
		req->meta = plain;
	TRY(answer(req, id));
	req_finish(req);
	return OK;
}

static enum fault synced(struct job *job, const char *status, struct str error)
{
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	tts_synced_later(&tx, (struct tts_synced){ .id = job->resource_id, .status = str_of(status), .error = error }, NULL);
	if (error.p)
		job_fail(job, &tx, error.p);
	else
		job_done(job, &tx);
	return tx_commit(&tx);
}

/* PATCH of the account's keys: the same key twice is the same key, so it may be repeated freely. */
static enum fault push(struct job *job)
{
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *ignored;
	struct str secret;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(tts_load(&tx, (struct tts_load){ .id = job->resource_id }, &row));
	if (!row.count)
		return OK;	/* revoked meanwhile */
	TRY(vault_reveal(job->arena, credential_context(job->arena, pg_col(job->arena, &row, 0, "owner_id"), job->resource_id),
		pg_col(job->arena, &row, 0, "sealed"), &secret));
	TRY(voice_account_choose(job->arena, &job->scope, pg_col(job->arena, &row, 0, "mode"), &account));
	if (!account.credential_id.p)	/* the account was taken back meanwhile: the platform's is not ours to change */
		return synced(job, "stored_only", STR_NULL);
	struct buf b = BUF_IN(job->arena, 65536);
	buf_format(&b, "{\"%s\":", name_there(pg_col(job->arena, &row, 0, "service")));
	buf_json(&b, secret);
	buf_char(&b, '}');
	enum fault fault = voice_call(job->arena, &account, "PATCH", "/api/accounts/me/tts_api_keys", buf_view(&b), &ignored);
	if (fault == OK)
		return synced(job, "synced", STR_NULL);
	if (fault == FAULT_PROVIDER_ERROR || fault == FAULT_NOT_FOUND || job->attempts >= 5)
		return synced(job, "failed", str_copy(job->arena, str_of(fault_note->message)));
	return fault;
}

const struct route tts_routes[] = {
#define TTS(path) { "PATCH", API path, ROLE_W, "accounts:write", set, &tts_shape, sizeof(struct tts_in), &api_key_shape, 200, \
	.flags = ROUTE_AGENCY | ROUTE_ASYNC, .summary = "Set the key of a text-to-speech provider" }
	TWICE(TTS, "/providers/tts"),
	{ 0 },
};

const struct job_kind identity_jobs[] = {
	{ "credential.push", "q-artifacts-sync", push, 8 },
	{ 0 },
};
