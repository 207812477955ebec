/* Agencies, clients and tokens from the command line, by the owner's door. */
#include "cluster.h"
#include "serve.h"
#include "tenants.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/fault.h"
#include "1_code/json.h"
#include "1_code/uuid.h"
#include "2_io/pg_once.h"
#include "3_core/auth.h"
#include "3_core/config.h"
#include <stdio.h>

static struct pg_once *open_owner(struct arena *arena)
{
	char error[300] = "";
	struct pg_once *once = pg_once_open(cluster_conninfo(arena, "tl_migrate").p, error, sizeof error);
	if (!once)
		die("no database answers for %s; start `trunkline serve` first (%s)", config.data.p, error);
	if (pg_once_run(once, "select frozen_us from clock_state", NULL, 0) == OK && pg_once_rows(once)) {
		int64_t at_us;	/* a server on the test clock: its time is ours */
		if (str_int(str_of(pg_once_cell(once, 0, 0)), &at_us))
			clock_freeze(at_us);
	}
	char now[CLOCK_TEXT_BYTES];
	struct str at = str_of(clock_text_us(clock_now_us(), now));
	if (pg_once_run(once, "select set_config('tl.now', $1, false)", &at, 1) != OK)
		die("%s", fault_note->message);
	return once;
}

static void must(enum fault fault)
{
	if (fault != OK)
		die("%s", fault_note->message);
}

/* One id by name or UUID; several of one name are an error that lists them. */
static struct str find(struct pg_once *once, struct arena *arena, const char *table, struct str name, struct str agency)
{
	struct str values[] = { name, agency };
	struct str text = str_format(arena, "select id::text, name from %s where (name = $1 or id::text = lower($1)) and "
		"($2::text is null or agency_id::text = $2) order by created_at", table);
	must(pg_once_run(once, text.p, values, 2));
	if (pg_once_rows(once) == 0)
		die("no such %.*s: %.*s", (int)strlen(table) - 1, table, STRF(name));
	if (pg_once_rows(once) > 1) {
		fprintf(stderr, "trunkline: several are named %.*s:\n", STRF(name));
		for (int i = 0; i < pg_once_rows(once); i++)
			fprintf(stderr, "  %s\n", pg_once_cell(once, i, 0));
		die("say which by its id");
	}
	return str_copy(arena, str_of(pg_once_cell(once, 0, 0)));
}

static struct str only_agency(struct pg_once *once, struct arena *arena)
{
	must(pg_once_run(once, "select id::text, name from agencies order by created_at", NULL, 0));
	if (pg_once_rows(once) == 0)
		die("there is no agency yet; make one with `trunkline agency create --name NAME`");
	if (pg_once_rows(once) > 1) {
		for (int i = 0; i < pg_once_rows(once); i++)
			fprintf(stderr, "  %s  %s\n", pg_once_cell(once, i, 0), pg_once_cell(once, i, 1));
		die("there are several agencies; name one with --agency");
	}
	return str_copy(arena, str_of(pg_once_cell(once, 0, 0)));
}

static struct str json_or_die(struct arena *arena, const char *name, struct str text)
{
	json_t *ignored;
	if (!text.p)
		return STR("{}");
	if (json_read(arena, text, &ignored) != OK)
		die("%s must be a JSON object: %s", name, fault_note->message);
	return text;
}

static void print_row(const struct pg_once *once)
{
	for (int i = 0; i < pg_once_rows(once); i++)
		printf("%s\n", pg_once_cell(once, i, 0));
}

static struct str insert_agency(struct pg_once *once, struct arena *arena, struct str name, struct str limits)
{
	struct str id = uuid_make(arena);
	struct str values[] = { id, name, json_or_die(arena, "--limits", limits) };
	if (!name.n || str_chars(name) > 100)
		die("--name must have 1..100 characters");
	must(pg_once_run(once, "insert into agencies (id, name, limits) values ($1::uuid, $2, $3::jsonb) returning "
		"json_build_object('id', id, 'name', name, 'limits', limits)::text", values, 3));
	return id;
}

static struct str insert_client(struct pg_once *once, struct arena *arena, const struct tenant_args *a, struct str agency)
{
	struct str id = uuid_make(arena), credits = str_format(arena, "%lld", (long long)a->credits);
	struct str values[] = { id, agency, a->name, a->email, a->mode.p ? a->mode : STR("live"), json_or_die(arena, "--limits", a->limits) };
	if (!a->name.n || str_chars(a->name) > 100 || !a->email.n)
		die("client create needs --name (1..100 characters) and --email");
	must(pg_once_script(once, "begin"));
	enum fault fault = pg_once_run(once, "insert into clients (id, agency_id, name, email, mode, limits) values ($1::uuid, $2::uuid, "
		"$3, $4, $5, $6::jsonb)", values, 6);
	if (fault == FAULT_CONFLICT)
		die("this agency has a client with that e-mail already");
	must(fault);
	must(pg_once_run(once, "select set_config('tl.client', $1, true), set_config('tl.agency', $2, true), "
		"set_config('tl.actor', 'operator', true)", values, 2));
	must(pg_once_run(once, "select ledger_open($1::uuid, $2::uuid)", values, 2));
	if (a->credits) {
		struct str move[] = { uuid_make(arena), credits };
		must(pg_once_run(once, "select ledger_adjust($1::uuid, $2::bigint, 'opening credits')", move, 2));
	}
	struct str event[] = { uuid_make(arena), id };
	must(pg_once_run(once, "select event_append($1::uuid, 'client.created', 'client', $2::uuid, jsonb_build_object('client_id', $2::text))",
		event, 2));
	must(pg_once_script(once, "commit"));
	must(pg_once_run(once, "select (to_jsonb(c) - 'cursor_us')::text from client_rows c where id = $1::uuid", values, 1));
	return id;
}

void tenants_agency_create(const struct tenant_args *a)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	insert_agency(once, arena, a->name, a->limits);
	print_row(once);
	pg_once_close(once);
	arena_drop(arena);
}

void tenants_client_create(const struct tenant_args *a)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	struct str agency = a->agency.p ? find(once, arena, "agencies", a->agency, STR_NULL) : only_agency(once, arena);
	insert_client(once, arena, a, agency);
	print_row(once);
	pg_once_close(once);
	arena_drop(arena);
}

int tenants_audit_verify(const struct tenant_args *a)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	struct str agency = a->agency.p ? find(once, arena, "agencies", a->agency, STR_NULL) : STR_NULL;
	struct str values[] = { agency, a->client.p ? find(once, arena, "clients", a->client, agency) : STR_NULL };
	int bad = 0;
	must(pg_once_run(once, "select h.agency_id, coalesce(h.client_id::text, '-'), w.checked, w.erased, w.first_bad_seq, w.problem "
		"from audit_chains h cross join lateral audit_walk(h.agency_id, h.client_id) w "
		"where ($1::uuid is null or h.agency_id = $1::uuid) and ($2::uuid is null or h.client_id = $2::uuid) "
		"order by w.first_bad_seq is null, h.agency_id, h.client_id nulls first", values, 2));
	for (int i = 0; i < pg_once_rows(once); i++) {
		const char *at = pg_once_cell(once, i, 4);
		printf("%s agency %s client %s: %s entries, %s erased", at && *at ? "BROKEN" : "ok    ", pg_once_cell(once, i, 0),
			pg_once_cell(once, i, 1), pg_once_cell(once, i, 2), pg_once_cell(once, i, 3));
		if (at && *at)
			printf("; at entry %s: %s", at, pg_once_cell(once, i, 5));
		putchar('\n');
		bad += at && *at;
	}
	printf("%d chains, %d broken\n", pg_once_rows(once), bad);
	pg_once_close(once);
	arena_drop(arena);
	return bad ? 1 : 0;
}

void tenants_token(const struct tenant_args *a)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	struct principal who = { .role = role_of(a->role) };
	if (who.role == ROLE_NONE)
		die("--role must be agency_admin, client_admin or client_user");
	struct str agency = a->agency.p ? find(once, arena, "agencies", a->agency, STR_NULL) : STR_NULL;
	if (a->client.p) {
		who.client_id = find(once, arena, "clients", a->client, agency);
		must(pg_once_run(once, "select agency_id::text from clients where id = $1::uuid", &who.client_id, 1));
		who.agency_id = str_copy(arena, str_of(pg_once_cell(once, 0, 0)));
	} else if (who.role != AGENCY_ADMIN) {
		die("--role %.*s needs --client NAME or id", STRF(a->role));
	} else {
		who.agency_id = agency.p ? agency : only_agency(once, arena);
	}
	who.subject = a->subject.p ? a->subject : str_format(arena, "dev|%s|%.*s", role_name(who.role),
		STRF(who.client_id.p ? who.client_id : who.agency_id));
	if (who.role == AGENCY_ADMIN)
		who.client_id = STR_NULL;
	struct str token = auth_dev_token(arena, &who, a->ttl_s);
	printf("%.*s\n", STRF(token));
	pg_once_close(once);
	arena_drop(arena);
}

void tenants_seed_demo(void)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	must(pg_once_run(once, "select from agencies limit 1", NULL, 0));
	if (!pg_once_rows(once)) {
		struct tenant_args a = { .name = STR("Demo"), .email = STR("demo@example.com"), .mode = STR("test"), .credits = 1000 };
		struct str agency = insert_agency(once, arena, STR("Demo Agency"), STR_NULL);
		insert_client(once, arena, &a, agency);
	}
	pg_once_close(once);
	arena_drop(arena);
}
