/* Making the provider's copy of an agent follow its row. What must never happen here: two copies of one agent. */
#include "agents.h"
#include "agents.sql.h"
#include "settings.h"
#include "../../3_core/events.h"
#include "../../4_out/voice_provider.h"

#define NAME_AT_PROVIDER 64

/* The provider's name begins with our id, so that a lost answer can be looked up. */
static struct str push_body(struct job *job, const struct rows *row, const json_t *settings)
{
	struct buf b = BUF_IN(job->arena, 262144);
	struct str name = pg_col(job->arena, row, 0, "name");
	size_t room = NAME_AT_PROVIDER - 37, n = 0, chars = 0;
	while (n < name.n && (chars < room || ((unsigned char)name.p[n] & 0xC0) == 0x80))
		chars += ((unsigned char)name.p[n++] & 0xC0) != 0x80;
	buf_text(&b, "{\"name\":");
	buf_json(&b, str_format(job->arena, "%.*s %.*s", STRF(job->resource_id), (int)n, name.p));
	buf_text(&b, ",\"callTemplate\":{\"systemPrompt\":");
	buf_json(&b, pg_col(job->arena, row, 0, "system_prompt"));
	buf_text(&b, ",\"model\":");
	buf_json(&b, pg_col(job->arena, row, 0, "model"));
	agent_settings_template(&b, settings);
	buf_text(&b, "}}");
	return buf_view(&b);
}

static enum fault pushed(struct job *job, const struct voice_account *account, struct str provider_id, int64_t revision)
{
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	agents_pushed_later(&tx, (struct agents_pushed){ .id = job->resource_id, .provider_id = provider_id,
		.credential_id = account->credential_id, .revision = revision }, NULL);
	job_done(job, &tx);
	return tx_commit(&tx);
}

static enum fault push_failed(struct job *job, struct str error)
{
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	agents_push_failed_later(&tx, (struct agents_push_failed){ .id = job->resource_id, .error = error }, NULL);
	job_fail(job, &tx, error.p);
	event_emit(&tx, "agent.failed", "agent", job->resource_id, agent_event_data(job->arena, job->resource_id, "failed"));
	return tx_commit(&tx);
}

/* Notes before the POST that it was made, and in whose account, so that a lost answer is looked for in the right place. */
static enum fault note_posted(struct job *job, const struct voice_account *account)
{
	struct tx tx;
	struct buf b = BUF_IN(job->arena, 256);
	buf_format(&b, "{\"posted\":true,\"repair\":%s,\"credential_id\":", json_is_true(json_object_get(job->payload, "repair"))
		? "true" : "false");
	buf_json(&b, account->credential_id);
	buf_char(&b, '}');
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	job_note(job, &tx, buf_view(&b));
	return tx_commit(&tx);
}

/* Creates once: after any doubt the provider's list is asked first. */
static enum fault push_new(struct job *job, struct str mode, struct str body, int64_t revision)
{
	struct voice_account account;
	bool posted = json_object_get(job->payload, "posted");
	TRY(posted ? voice_account_open(job->arena, &job->scope, mode, json_text(job->payload, "credential_id"), &account)
		: voice_account_choose(job->arena, &job->scope, mode, &account));
	if (posted) {
		json_t *found;
		TRY(voice_find_agent(job->arena, &account, job->resource_id, &found));
		if (found)
			return pushed(job, &account, json_text(found, "agentId"), revision);
	}
	TRY(note_posted(job, &account));
	struct voice_answer v = voice_create(job->arena, &account, "/api/agents", body, "agentId");
	struct str why = str_format(job->arena, "Ultravox answered %d: %.*s", v.http_status, STRF(v.problem));
	if (v.verdict == VOICE_ACCEPTED)
		return pushed(job, &account, v.id, revision);
	if (v.verdict == VOICE_REFUSED || job->attempts >= 5)
		return push_failed(job, why);
	return fault_raise(FAULT_IO, "%.*s", STRF(why));	/* put back; the look-up comes first then */
}

enum fault agent_push(struct job *job)
{
	struct voice_account account;
	struct rows row;
	struct tx tx;
	json_t *settings, *ignored;
	tenant_read(&tx, job->arena, &job->scope);
	TRY(agents_push_load(&tx, (struct agents_push_load){ .id = job->resource_id }, &row));
	if (!row.count)
		return OK;
	TRY(json_read(job->arena, pg_col(job->arena, &row, 0, "settings"), &settings));
	struct str provider_id = pg_col(job->arena, &row, 0, "ultravox_agent_id"), mode = pg_col(job->arena, &row, 0, "mode");
	struct str path = str_format(job->arena, "/api/agents/%.*s", STRF(provider_id));
	bool deleted = !pg_null(&row, 0, "deleted_at");
	if (deleted && !provider_id.n)
		return OK;
	int64_t revision = pg_int(&row, 0, "revision");
	struct str body = push_body(job, &row, settings);
	bool repair = json_is_true(json_object_get(job->payload, "repair")), posted = json_object_get(job->payload, "posted");
	if (!provider_id.n || (repair && posted))
		return push_new(job, mode, body, revision);
	enum fault fault = voice_account_open(job->arena, &job->scope, mode, pg_col(job->arena, &row, 0, "credential_id"), &account);
	if (fault == FAULT_NOT_FOUND)
		return deleted ? OK : push_failed(job, STR("The credential of the agent's account is gone"));
	TRY(fault);
	if (deleted) {
		fault = voice_call(job->arena, &account, "DELETE", path.p, STR_NULL, &ignored);
		return fault == FAULT_NOT_FOUND ? OK : fault;
	}
	fault = voice_call(job->arena, &account, "PATCH", path.p, body, &ignored);
	if (fault == OK)
		return pushed(job, &account, provider_id, revision);
	if (fault == FAULT_NOT_FOUND && repair)		/* asked for by a person: a lost copy is made again */
		return push_new(job, mode, body, revision);
	if (fault == FAULT_NOT_FOUND || fault == FAULT_PROVIDER_ERROR || job->attempts >= 5)
		return push_failed(job, str_copy(job->arena, str_of(fault_note->message)));
	return fault;
}
