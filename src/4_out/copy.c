/* Keeping copies at the voice provider. */
#include "copy.h"
#include "../0_base/clock.h"
#include "../0_base/die.h"
#include "../1_code/b64.h"
#include "core.sql.h"

#define WHOLE_ID_NAMES 64	/* names this long hold our id as it is */

struct str copy_name(const struct copy *c, struct str name)
{
	size_t n = 0, chars = 0, room = c->kind->name_most - c->reference.n - 1;
	while (n < name.n && (chars < room || ((unsigned char)name.p[n] & 0xC0) == 0x80))
		chars += ((unsigned char)name.p[n++] & 0xC0) != 0x80;
	return str_format(c->job->arena, "%.*s %.*s", STRF(c->reference), (int)n, name.p);
}

/* Our id: as it is, or its 16 bytes in 22 letters. */
static struct str reference_of(struct job *job, const struct copy_kind *kind)
{
	struct buf digits = BUF_IN(job->arena, 64);
	struct str id = job->resource_id, bytes;
	if (kind->name_most >= WHOLE_ID_NAMES)
		return id;
	while (id.n)
		buf_str(&digits, str_cut(&id, '-'));
	bug_unless(hex_read(job->arena, buf_view(&digits), &bytes));
	return b64url_write(job->arena, bytes);
}

#define SOON_TRIES 20		/* then ever more slowly: the provider is away */
#define BUSY_US (US_PER_S / 2)

static void release(struct copy *c, struct tx *tx)
{
	claim_release_later(tx, (struct claim_release){ .resource_id = c->job->resource_id, .job_id = c->job->id }, NULL);
}

static enum fault pushed(struct copy *c, struct str provider_id)
{
	struct tx tx;
	c->provider_id = provider_id;
	TRY(tenant_begin(&tx, c->job->arena, &c->job->scope));
	c->kind->pushed(c, &tx);
	release(c, &tx);
	if (!c->job->ended)
		job_done(c->job, &tx);
	return tx_commit(&tx);
}

enum fault copy_failed(struct copy *c, struct str why)
{
	struct tx tx;
	TRY(tenant_begin(&tx, c->job->arena, &c->job->scope));
	c->kind->failed(c, &tx, why);
	release(c, &tx);
	job_fail(c->job, &tx, why.p);
	return tx_commit(&tx);
}

/* Nothing is left to do. */
static enum fault over(struct copy *c)
{
	struct tx tx;
	TRY(tenant_begin(&tx, c->job->arena, &c->job->scope));
	release(c, &tx);
	job_done(c->job, &tx);
	return tx_commit(&tx);
}

/* Notes before the POST that it is sent, and in whose account, so that a lost answer is looked for in the right place. */
static enum fault note_posted(struct copy *c)
{
	struct tx tx;
	TRY(tenant_begin(&tx, c->job->arena, &c->job->scope));
	claim_posted_later(&tx, (struct claim_posted){ .resource_id = c->job->resource_id, .job_id = c->job->id,
		.credential_id = c->account.credential_id }, NULL);
	return tx_commit(&tx);
}

static enum fault create(struct copy *c, struct voice_answer *ret)
{
	struct str body;
	if (!c->kind->create)
		TRY(c->kind->body(c, true, &body));
	TRY(note_posted(c));
	if (c->kind->create)
		return c->kind->create(c, ret);
	*ret = voice_create(c->job->arena, &c->account, c->kind->path, body, c->kind->id_field);
	return OK;
}

/* What a creation may have made whose answer was lost; *ret_id NULL: there is none. */
static enum fault look(struct copy *c, struct str mode, struct str *ret_id)
{
	struct job *job = c->job;
	TRY(voice_account_open(job->arena, &job->scope, mode, c->posted_credential, &c->account));
	return voice_find(job->arena, &c->account, c->kind->search ? c->kind->search : c->kind->path, c->kind->search, c->reference,
		c->kind->id_field, ret_id);
}

/* Creates once: after any doubt the provider's list is asked first. */
static enum fault push_new(struct copy *c, struct str mode)
{
	struct job *job = c->job;
	struct voice_answer v;
	struct str found;
	if (c->posted) {
		TRY(look(c, mode, &found));
		if (found.p)
			return pushed(c, found);
	} else {
		TRY(voice_account_choose(job->arena, &job->scope, mode, &c->account));
	}
	TRY(create(c, &v));
	struct str why = str_format(job->arena, "%s answered %d: %.*s", v.provider ? v.provider : "Ultravox", v.http_status, STRF(v.problem));
	if (v.verdict == VOICE_ACCEPTED)
		return pushed(c, v.id);
	if (v.verdict == VOICE_REFUSED || job->attempts >= PROVIDER_TRIES)
		return copy_failed(c, why);
	job->again_us = provider_pause_us(job->attempts, v.retry_after_s);
	return fault_raise(FAULT_IO, "%.*s", STRF(why));	/* put back; the look-up comes first then */
}

/* What is deleted here goes there as well; also what a creation may have made on its way. */
static enum fault take_away(struct copy *c, struct str mode)
{
	struct arena *a = c->job->arena;
	json_t *ignored;
	enum fault fault;
	if (c->provider_id.n)
		fault = voice_account_open(a, &c->job->scope, mode, pg_col(a, &c->row, 0, "credential_id"), &c->account);
	else
		fault = c->posted ? look(c, mode, &c->provider_id) : OK;
	if (fault == OK && c->provider_id.n)
		fault = voice_call(a, &c->account, "DELETE", str_format(a, "%s/%.*s", c->kind->path, STRF(c->provider_id)).p, STR_NULL, &ignored);
	if (fault != OK && fault != FAULT_NOT_FOUND) {	/* not found: gone, or the account's credential is */
		c->job->again_us = provider_pause_us(c->job->attempts, fault_note->retry_after_s);
		return fault;
	}
	if (c->kind->gone)
		TRY(c->kind->gone(c));
	return over(c);
}

static enum fault change(struct copy *c, struct str mode)
{
	struct job *job = c->job;
	struct str body;
	json_t *ignored;
	enum fault fault = voice_account_open(job->arena, &job->scope, mode, pg_col(job->arena, &c->row, 0, "credential_id"), &c->account);
	if (fault == FAULT_NOT_FOUND)
		return copy_failed(c, STR("The credential of the account it lives in is gone"));
	TRY(fault);
	TRY(c->kind->body(c, false, &body));
	fault = voice_call(job->arena, &c->account, c->kind->change, str_format(job->arena, "%s/%.*s", c->kind->path, STRF(c->provider_id)).p,
		body, &ignored);
	if (fault == OK)
		return pushed(c, c->provider_id);
	if (fault == FAULT_NOT_FOUND && json_is_true(json_object_get(job->payload, "repair")))
		return push_new(c, mode);
	c->lost = fault == FAULT_NOT_FOUND;
	if (fault == FAULT_NOT_FOUND || fault == FAULT_PROVIDER_ERROR || job->attempts >= PROVIDER_TRIES)
		return copy_failed(c, str_copy(job->arena, str_of(fault_note->message)));
	job->again_us = provider_pause_us(job->attempts, fault_note->retry_after_s);
	return fault;
}

/* Somebody asked to see whether it is there. */
static enum fault see(struct copy *c, struct str mode)
{
	struct arena *a = c->job->arena;
	json_t *ignored;
	enum fault fault = voice_account_open(a, &c->job->scope, mode, pg_col(a, &c->row, 0, "credential_id"), &c->account);
	if (fault == OK)
		fault = voice_call(a, &c->account, "GET", str_format(a, "%s/%.*s", c->kind->path, STRF(c->provider_id)).p, STR_NULL, &ignored);
	c->lost = fault == FAULT_NOT_FOUND;
	if (c->lost)
		return copy_failed(c, str_copy(a, str_of(fault_note->message)));
	return fault == OK || c->job->attempts >= PROVIDER_TRIES ? over(c) : fault;
}

enum fault copy_push(struct job *job, const struct copy_kind *kind)
{
	struct copy c = { .job = job, .kind = kind, .reference = reference_of(job, kind) };
	struct rows claim;
	struct tx tx;
	TRY(tenant_begin(&tx, job->arena, &job->scope));
	TRY(claim_take(&tx, (struct claim_take){ .resource_id = job->resource_id, .job_id = job->id }, &claim));
	if (pg_bool(&claim, 0, "busy")) {
		job_park(job, &tx, clock_now_us() + BUSY_US, STR_NULL);
		return tx_commit(&tx);
	}
	TRY(tx_commit(&tx));
	c.posted = pg_bool(&claim, 0, "posted");
	c.posted_credential = pg_col(job->arena, &claim, 0, "credential_id");
	tenant_read(&tx, job->arena, &job->scope);
	TRY(kind->load(&tx, job->resource_id, &c.row));		/* after the claim, so that the newest revision is sent */
	if (!c.row.count)
		return over(&c);
	c.provider_id = pg_col(job->arena, &c.row, 0, "provider_id");
	c.revision = pg_int(&c.row, 0, "revision");
	struct str mode = pg_col(job->arena, &c.row, 0, "mode");
	if (!pg_null(&c.row, 0, "deleted_at"))
		return take_away(&c, mode);
	bool looking = json_is_true(json_object_get(job->payload, "look"));
	if (looking && !c.provider_id.n)
		return over(&c);
	enum fault fault = looking ? see(&c, mode) : c.provider_id.n ? change(&c, mode) : push_new(&c, mode);
	if (fault != OK && !job->again_us && job->attempts < SOON_TRIES)
		job->again_us = provider_pause_us(job->attempts, fault_note->retry_after_s);
	if (fault == FAULT_PROVIDER_ERROR && !job->ended)	/* of body: nothing that another try would change */
		return copy_failed(&c, str_copy(job->arena, str_of(fault_note->message)));
	return fault;
}
