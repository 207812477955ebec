/* The administrator makes roles and hands the schema to tl_migrate; tl_migrate does the rest. */
#include "migrate.h"
#include "cluster.h"
#include "embedded.h"
#include "0_base/die.h"
#include "0_base/fault.h"
#include "1_code/b64.h"
#include "1_code/sign.h"
#include "2_io/pg_once.h"
#include "3_core/config.h"
#include "3_core/vault.h"
#include <stdio.h>
#include <stdlib.h>

#define LOCK "select pg_advisory_lock(7405091)"

static struct pg_once *open_as(struct arena *arena, struct str conninfo)
{
	char error[300] = "";
	(void)arena;
	struct pg_once *once = pg_once_open(conninfo.p, error, sizeof error);
	if (!once)
		die("the database does not answer: %s", error);
	return once;
}

static void must(enum fault fault, const char *what)
{
	if (fault != OK)
		die("%s: %s", what, fault_note->message);
}

static void run(struct pg_once *once, const char *text, const char *what) { must(pg_once_script(once, text), what); }

/* Roles and database. Everything may be there already. */
static void prepare(struct arena *arena)
{
	static const char *const roles[] = { "tl_migrate", "tl_app", "tl_agency", "tl_system", "tl_ledger" };
	struct pg_once *admin;
	if (!config.database_url.n) {
		admin = open_as(arena, pg_once_conninfo(arena, cluster_conninfo(arena, NULL), NULL, NULL, "postgres", NULL));
		must(pg_once_run(admin, "select from pg_database where datname = 'trunkline'", NULL, 0), "looking for the database");
		if (!pg_once_rows(admin))
			run(admin, "create database trunkline", "making the database");
		pg_once_close(admin);
	}
	admin = open_as(arena, cluster_conninfo(arena, NULL));
	run(admin, LOCK, "taking the lock");
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++) {
		struct str password = cluster_role_password(arena, roles[i]);
		bool login = strcmp(roles[i], "tl_ledger") != 0;
		run(admin, str_format(arena, "do $$ begin if not exists (select from pg_roles where rolname = '%s') then "
			"create role %s; end if; end $$; alter role %s %s%s%.*s%s", roles[i], roles[i], roles[i], login ? "login" : "nologin",
			password.p && login ? " password '" : "", login ? (int)password.n : 0, password.p ? password.p : "",
			password.p && login ? "'" : "").p, "making roles");
	}
	run(admin, "grant tl_ledger to tl_migrate; grant tl_migrate, tl_ledger to current_user", "granting roles");
	run(admin, "do $$ begin execute format('revoke temporary on database %I from public', current_database());"
		" execute format('grant create, connect on database %I to tl_migrate', current_database());"
		" execute format('grant connect on database %I to tl_app, tl_agency, tl_system', current_database()); end $$;"
		" alter schema public owner to tl_migrate; revoke create on schema public from public;"
		" grant usage on schema public to public; grant create on schema public to tl_ledger", "granting the schema");
	pg_once_close(admin);
}

static struct str checksum(struct arena *arena, const struct embedded *file)
{
	return hex_write(arena, sign_sha256(arena, (struct str){ file->text, file->length }));
}

static bool is_up(const struct embedded *f) { return str_ends(str_of(f->name), ".up.sql"); }

static struct pg_once *open_owner(struct arena *arena)
{
	struct pg_once *once = open_as(arena, cluster_conninfo(arena, "tl_migrate"));
	run(once, "set statement_timeout = 0; set lock_timeout = '30s'", "setting time-outs");
	run(once, LOCK, "taking the lock");
	run(once, "create table if not exists schema_migrations (version integer primary key, name text not null, checksum text not null,"
		" applied_at timestamptz not null default clock_timestamp())", "making the list of migrations");
	run(once, "grant select on schema_migrations to public", "making the list of migrations");
	return once;
}

/* The checksum a version was applied with; NULL when it was not. */
static const char *applied(struct pg_once *once, struct arena *arena, const char *version)
{
	struct str v = str_of(version);
	must(pg_once_run(once, "select checksum from schema_migrations where version = $1::integer", &v, 1), "reading migrations");
	return pg_once_rows(once) ? str_copy(arena, str_of(pg_once_cell(once, 0, 0))).p : NULL;
}

static void check_master_key(struct pg_once *once, struct arena *arena)
{
	struct str value = vault_check_value(arena);
	must(pg_once_run(once, "insert into vault (name, sealed) values ('master_key_check', decode($1, 'hex')) on conflict do nothing",
		&value, 1), "checking the master key");
	must(pg_once_run(once, "select encode(sealed, 'hex') from vault where name = 'master_key_check'", NULL, 0), "checking the master key");
	if (!pg_once_rows(once) || strcmp(pg_once_cell(once, 0, 0), value.p) != 0)
		die("this is not the master key the database was made with");
}

void migrate_up(bool quiet)
{
	struct arena *arena = arena_make();
	prepare(arena);
	struct pg_once *once = open_owner(arena);
	for (const struct embedded *f = schema_files; f->name; f++)
		if (strcmp(f->name, "tenant.sql") == 0)
			run(once, f->text, "tenant.sql");
	for (const struct embedded *f = schema_files; f->name; f++) {
		if (!is_up(f))
			continue;
		struct str version = str_format(arena, "%d", atoi(f->name)), sum = checksum(arena, f);
		const char *had = applied(once, arena, version.p);
		if (had && strcmp(had, sum.p) != 0)
			die("migration %s was changed after it was applied", f->name);
		if (had)
			continue;
		run(once, "begin", f->name);
		run(once, f->text, f->name);
		struct str values[] = { version, str_of(f->name), sum };
		must(pg_once_run(once, "insert into schema_migrations (version, name, checksum) values ($1::integer, $2, $3)", values, 3), f->name);
		run(once, "commit", f->name);
		if (!quiet)
			printf("up %s\n", f->name);
	}
	check_master_key(once, arena);
	pg_once_close(once);
	arena_drop(arena);
}

void migrate_down(int to)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	int count = 0;
	while (schema_files[count].name)
		count++;
	for (int i = 0; to < 0 && i < count; i++)	/* files stand in the order of their names */
		if (is_up(&schema_files[count - 1 - i]) && applied(once, arena, str_format(arena, "%d", atoi(schema_files[count - 1 - i].name)).p))
			to = atoi(schema_files[count - 1 - i].name);
	for (int i = count - 1; i >= 0; i--) {
		const struct embedded *f = &schema_files[i];
		struct str version = str_format(arena, "%d", atoi(f->name));
		if (!str_ends(str_of(f->name), ".down.sql") || atoi(f->name) < to || !applied(once, arena, version.p))
			continue;
		run(once, "begin", f->name);
		run(once, f->text, f->name);
		must(pg_once_run(once, "delete from schema_migrations where version = $1::integer", &version, 1), f->name);
		run(once, "commit", f->name);
		printf("down %s\n", f->name);
	}
	pg_once_close(once);
	arena_drop(arena);
}

void migrate_status(void)
{
	struct arena *arena = arena_make();
	struct pg_once *once = open_owner(arena);
	for (const struct embedded *f = schema_files; f->name; f++)
		if (is_up(f)) {
			const char *had = applied(once, arena, str_format(arena, "%d", atoi(f->name)).p);
			printf("%-8s %s\n", !had ? "missing" : strcmp(had, checksum(arena, f).p) == 0 ? "applied" : "changed", f->name);
		}
	pg_once_close(once);
	arena_drop(arena);
}
