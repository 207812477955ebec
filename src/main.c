/* The commands. */
#include "check.h"
#include "cluster.h"
#include "keys.h"
#include "listen.h"
#include "migrate.h"
#include "product.h"
#include "serve.h"
#include "tenants.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/log.h"
#include "2_io/loop.h"
#include "2_io/shared.h"
#include "3_core/config.h"
#include "3_core/vault.h"
#include "sandbox/sandbox.h"
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static const char usage_text[] =
	"usage: trunkline COMMAND [options]\n\n"
	"  serve          run the server: API, jobs, and what it needs\n"
	"  token          print a development token\n"
	"  agency create  make an agency\n"
	"  client create  make a client of an agency\n"
	"  listen         receive webhooks, print those that verify\n"
	"  audit verify   walk the audit's hash chains\n"
	"  keys rotate    seal everything at rest by a fresh key\n"
	"  migrate        up, down or status of the database schema\n"
	"  sandbox        run the provider sandbox by itself\n"
	"  openapi        print the API description\n"
	"  check          prepare every statement against the database\n"
	"  version        print the version\n\n"
	"Each has --help. Settings come from --set name=value, then TRUNKLINE_NAME in the\n"
	"environment, then --config FILE; `trunkline serve --help` lists them.\n";

enum option_id { O_DATA = 256, O_LISTEN, O_SANDBOX_LISTEN, O_SANDBOX, O_WORKERS, O_TEST_CLOCK, O_SET, O_CONFIG, O_DEMO, O_ROLE,
	O_AGENCY, O_CLIENT, O_TTL, O_NAME, O_EMAIL, O_CREDITS, O_LIMITS, O_MODE, O_PORT, O_SECRET, O_TO, O_CHILD, O_SUBJECT, O_RETIRE, O_HELP };

static const struct option options[] = {
	{ "data", 1, NULL, O_DATA }, { "listen", 1, NULL, O_LISTEN }, { "sandbox-listen", 1, NULL, O_SANDBOX_LISTEN },
	{ "sandbox", 1, NULL, O_SANDBOX }, { "workers", 1, NULL, O_WORKERS }, { "test-clock", 0, NULL, O_TEST_CLOCK },
	{ "set", 1, NULL, O_SET }, { "config", 1, NULL, O_CONFIG }, { "demo", 0, NULL, O_DEMO }, { "role", 1, NULL, O_ROLE },
	{ "agency", 1, NULL, O_AGENCY }, { "client", 1, NULL, O_CLIENT }, { "ttl", 1, NULL, O_TTL }, { "name", 1, NULL, O_NAME },
	{ "email", 1, NULL, O_EMAIL }, { "credits", 1, NULL, O_CREDITS }, { "limits", 1, NULL, O_LIMITS }, { "mode", 1, NULL, O_MODE },
	{ "port", 1, NULL, O_PORT }, { "secret", 1, NULL, O_SECRET }, { "to", 1, NULL, O_TO }, { "child", 0, NULL, O_CHILD },
	{ "subject", 1, NULL, O_SUBJECT }, { "retire", 0, NULL, O_RETIRE }, { "help", 0, NULL, O_HELP }, { 0 },
};

struct arguments {
	struct tenant_args tenant;
	int port, to;
	struct str secret;
	bool child, help, retire;
};

static const struct {
	const char *command, *text;
} helps[] = {
	{ "serve", "usage: trunkline serve [--data DIR] [--listen HOST:PORT] [--sandbox-listen HOST:PORT | --sandbox URL]\n"
		"                       [--workers N] [--test-clock] [--demo] [--config FILE] [--set name=value ...]\n\n"
		"Prints `trunkline ready on http://HOST:PORT` when it serves; JSON logs go to stderr. Without\n"
		"DATABASE_URL it runs a private PostgreSQL in the data folder; without ULTRAVOX_API_KEY it starts\n"
		"the provider sandbox and a demo agency. SIGTERM finishes what runs and stops.\n\nSettings:\n" },
	{ "token", "usage: trunkline token --role agency_admin|client_admin|client_user [--data DIR] [--agency NAME|UUID]\n"
		"                       [--client NAME|UUID] [--ttl SECONDS] [--subject TEXT]\n\nPrints a token of the development issuer.\n" },
	{ "agency", "usage: trunkline agency create --name NAME [--data DIR] [--limits JSON]\n\nPrints the row as JSON.\n" },
	{ "client", "usage: trunkline client create --name NAME --email EMAIL [--data DIR] [--agency NAME|UUID] [--credits N]\n"
		"                               [--limits JSON] [--mode live|test]\n\nPrints the row as JSON.\n"
		"limits: {\"requests_per_second\":500,\"burst\":1000,\"concurrent_calls\":10}\n" },
	{ "listen", "usage: trunkline listen [--port N] --secret whsec_...\n\n"
		"Receives webhooks on 127.0.0.1 (port 9000), prints the body of each that verifies.\n" },
	{ "audit", "usage: trunkline audit verify [--data DIR] [--agency NAME|UUID] [--client NAME|UUID]\n\n"
		"Recomputes every hash of the audit; prints each chain, where one is broken and how. Exit status 1 then.\n" },
	{ "keys", "usage: trunkline keys rotate [--data DIR] [--retire]\n\n"
		"Adds a key to the key file and seals every secret at rest anew, beside a running server. With several machines\n"
		"copy the file to each within the three seconds it waits, or add the line everywhere first. --retire takes the\n"
		"older keys out afterwards; line 1 stays, other keys are derived from it.\n" },
	{ "migrate", "usage: trunkline migrate up|down|status [--data DIR] [--to VERSION]\n\n"
		"down undoes versions from the newest to --to (default: the newest alone).\n" },
	{ "sandbox", "usage: trunkline sandbox [--listen HOST:PORT] [--test-clock]\n\n"
		"Runs the provider sandbox alone; name it with `serve --sandbox URL`. Control: /_sandbox/*.\n" },
	{ "openapi", "usage: trunkline openapi\n\nPrints OpenAPI 3.1.\n" },
	{ "check", "usage: trunkline check [--data DIR]\n\nPrepares every statement and compares columns with shapes.\n" },
	{ "version", "usage: trunkline version\n" },
};

static int64_t number(const char *name, const char *text)
{
	int64_t n;
	if (!str_int(str_of(text), &n) || n < 0)
		die("--%s must be a number, not '%s'", name, text);
	return n;
}

static void read_options(int argc, char **argv, struct arguments *a)
{
	int id;
	const char *file = getenv("TRUNKLINE_CONFIG");
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "--config") == 0)
			file = argv[i + 1];
	config_load(file);
	*a = (struct arguments){ .port = 9000, .to = -1, .tenant.ttl_s = 86400 };
	while ((id = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		struct str text = str_of(optarg);
		switch (id) {
		case O_DATA: config_set_value("data", optarg); break;
		case O_LISTEN: config_set_value("listen", optarg); break;
		case O_SANDBOX_LISTEN: config_set_value("sandbox_listen", optarg); break;
		case O_SANDBOX: config_set_value("sandbox", optarg); break;
		case O_WORKERS: config_set_value("workers", optarg); break;
		case O_TEST_CLOCK: config_set_value("test_clock", "true"); break;
		case O_DEMO: config_set_value("demo", "on"); break;
		case O_SET: config_set(optarg); break;
		case O_CONFIG: break;
		case O_ROLE: a->tenant.role = text; break;
		case O_AGENCY: a->tenant.agency = text; break;
		case O_CLIENT: a->tenant.client = text; break;
		case O_NAME: a->tenant.name = text; break;
		case O_EMAIL: a->tenant.email = text; break;
		case O_LIMITS: a->tenant.limits = text; break;
		case O_MODE: a->tenant.mode = text; break;
		case O_SUBJECT: a->tenant.subject = text; break;
		case O_SECRET: a->secret = text; break;
		case O_TTL: a->tenant.ttl_s = number("ttl", optarg); break;
		case O_CREDITS: a->tenant.credits = number("credits", optarg); break;
		case O_PORT: a->port = (int)number("port", optarg); break;
		case O_TO: a->to = (int)number("to", optarg); break;
		case O_RETIRE: a->retire = true; break;
		case O_CHILD: a->child = true; break;
		case 'h': case O_HELP: a->help = true; break;
		default: exit(2);
		}
	}
}

static int print_help(const char *command)
{
	struct buf b = { .max = 1 << 20 };
	for (size_t i = 0; i < sizeof helps / sizeof *helps; i++)
		if (strcmp(helps[i].command, command) == 0) {
			fputs(helps[i].text, stdout);
			if (i == 0) {
				config_help(&b);
				fwrite(b.p, 1, b.n, stdout);
			}
			return 0;
		}
	fputs(usage_text, stdout);
	return 0;
}

/* Commands beside a running server: its data folder, its key. */
static void open_installation(struct arena *arena)
{
	data_folder_open();
	struct str key_file = config.master_key_file.n ? config.master_key_file : str_format(arena, "%s/master.key", config.data.p);
	if (access(key_file.p, R_OK) != 0)
		die("%s holds no installation yet; start `trunkline serve%s%s` first", config.data.p,
			config.data.n ? " --data " : "", config.data.p);
	vault_load(key_file.p, false);
}

static int run_sandbox(const struct arguments *a)
{
	char host[256];
	int port;
	bool default_port = str_is(config.listen, "127.0.0.1:8080");
	struct str listen = a->child ? config.sandbox_listen : default_port ? STR("127.0.0.1:8081") : config.listen;
	int64_t frozen_us = 0;
	if (!split_host_port(listen, host, sizeof host, &port))
		die("--listen takes HOST:PORT");
	if (a->child) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		shared_map(atoi(getenv("TRUNKLINE_SHARED_FD")), SHARED_SLOTS - 1);
		frozen_us = clock_now_us();
		struct clock_page *own = must_alloc(sizeof *own);	/* moved by /_sandbox/clock, like any sandbox */
		clock_use(own);
		shared_unmap();
	}
	loop_init();
	trust_own_certificate(arena_make());
	log_buffered(true);
	int fd = http_bind(host, port, &port);
	if (fd < 0)
		die("cannot bind %s: %s", listen.p, strerror(errno));
	if (!a->child) {
		printf("trunkline sandbox ready on http://%s:%d\n", host, port);
		fflush(stdout);
	}
	sandbox_run(fd, "", config.test_clock, frozen_us);
	return 0;
}

static int run_tenants(const char *command, const char *verb, const struct arguments *a)
{
	struct arena *arena = arena_make();
	bool token = strcmp(command, "token") == 0;
	if (!token && (!verb || strcmp(verb, "create") != 0))
		die("say `trunkline %s create`", command);
	open_installation(arena);
	if (token)
		tenants_token(&a->tenant);
	else if (strcmp(command, "agency") == 0)
		tenants_agency_create(&a->tenant);
	else
		tenants_client_create(&a->tenant);
	arena_drop(arena);
	return 0;
}

static int run_migrate(const char *verb, const struct arguments *a)
{
	struct arena *arena = arena_make();
	open_installation(arena);
	arena_drop(arena);
	if (verb && strcmp(verb, "up") == 0)
		migrate_up(false);
	else if (verb && strcmp(verb, "down") == 0)
		migrate_down(a->to);
	else if (verb && strcmp(verb, "status") == 0)
		migrate_status();
	else
		die("say migrate up, down or status");
	return 0;
}

int main(int argc, char **argv)
{
	struct arguments a;
	const char *command = argc > 1 ? argv[1] : "help";
	if (argc < 2 || strcmp(command, "help") == 0 || command[0] == '-') {
		fputs(usage_text, stdout);
		return argc < 2 ? 2 : 0;
	}
	read_options(argc, argv, &a);
	const char *verb = optind + 1 < argc ? argv[optind + 1] : NULL;
	if (a.help)
		return print_help(command);
	if (strcmp(command, "serve") == 0)
		return master_run();
	if (strcmp(command, "worker") == 0)
		return worker_run();
	if (strcmp(command, "sandbox") == 0)
		return run_sandbox(&a);
	if (strcmp(command, "token") == 0 || strcmp(command, "agency") == 0 || strcmp(command, "client") == 0)
		return run_tenants(command, verb, &a);
	if (strcmp(command, "keys") == 0) {
		if (!verb || strcmp(verb, "rotate") != 0)
			die("say `trunkline keys rotate`");
		open_installation(arena_make());
		return keys_rotate(a.retire);
	}
	if (strcmp(command, "audit") == 0) {
		if (!verb || strcmp(verb, "verify") != 0)
			die("say `trunkline audit verify`");
		open_installation(arena_make());
		return tenants_audit_verify(&a.tenant);
	}
	if (strcmp(command, "migrate") == 0)
		return run_migrate(verb, &a);
	if (strcmp(command, "listen") == 0)
		return listen_run(a.port, a.secret);
	if (strcmp(command, "version") == 0) {
		puts("trunkline " TRUNKLINE_VERSION);
		return 0;
	}
	if (strcmp(command, "openapi") == 0) {
		dispatch_open(product_routes);
		struct str text = openapi_json(arena_make());
		printf("%.*s\n", STRF(text));
		return 0;
	}
	if (strcmp(command, "check") == 0) {
		open_installation(arena_make());
		return check_run();
	}
	fprintf(stderr, "trunkline: no command '%s'\n\n%s", command, usage_text);
	return 2;
}
