/* One worker: one thread, one loop. It serves, runs jobs, and on SIGTERM finishes what it has. */
#include "cluster.h"
#include "product.h"
#include "serve.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/log.h"
#include "1_code/json.h"
#include "2_io/fetch.h"
#include "2_io/fiber.h"
#include "2_io/http.h"
#include "2_io/loop.h"
#include "2_io/shared.h"
#include "3_core/config.h"
#include "3_core/issuers.h"
#include "3_core/limit.h"
#include "3_core/vault.h"
#include "4_out/kms.h"
#include "6_product/operations/operations.h"
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define DRAIN_MS 25000

static bool stopping;

static void drain(void *unused)
{
	(void)unused;
	int64_t until = clock_real_us() + DRAIN_MS * US_PER_MS;
	while ((http_open_requests() || jobs_running()) && clock_real_us() < until)
		fiber_sleep_ms(10);
	jobs_release_all();
	fiber_sleep_ms(20);	/* the last answers leave */
	log_flush();
	_exit(0);
}

static void on_term(int number)
{
	(void)number;
	if (stopping)
		return;
	stopping = true;
	http_stop_accepting();
	dispatch_drain();
	jobs_drain();
	fiber_spawn(drain, NULL, true);
}

static void announce(void *unused)
{
	struct arena *arena = arena_make();
	struct tx tx;
	(void)unused;
	/* both doors open and prepared, so that the first request is as fast as the rest */
	for (int i = 0; i < 600; i++) {
		struct str ignored;
		system_read(&tx, arena);
		enum fault fault = vault_get(arena, "master_key_check", &ignored);
		if (fault == OK || fault == FAULT_INTERNAL_ERROR || fault == FAULT_NOT_FOUND)
			break;
		fiber_sleep_ms(100);
	}
	arena_drop(arena);
	atomic_store(&shared_get()->pid[shared_slot()], getpid());
	atomic_store(&shared_get()->ready[shared_slot()], 1);
}

void trust_own_certificate(struct arena *arena)
{
	char host[256];
	int port;
	if (config.tls_certificate_file.n && split_host_port(config.listen, host, sizeof host, &port))
		fetch_trust_own(str_format(arena, "https://127.0.0.1:%d,%.*s", port, STRF(config.public_url)).p,
			config.tls_certificate_file.p);
}

/* The text of a PEM file. */
static const char *pem(struct arena *arena, struct str path)
{
	struct buf b = BUF_IN(arena, 262144);
	char part[4096];
	size_t n;
	FILE *file = fopen(path.p, "re");
	if (!file)
		die("cannot read %s: %s", path.p, strerror(errno));
	while ((n = fread(part, 1, sizeof part, file)) > 0)
		buf_add(&b, part, n);
	fclose(file);
	buf_char(&b, 0);
	return b.p;
}

static void serve_http(struct arena *arena, int socket)
{
	struct http_options o = { .head_ms = config.head_timeout_ms, .body_ms = config.body_timeout_ms };
	if (config.tls_certificate_file.n) {
		o.certificate = pem(arena, config.tls_certificate_file);
		o.key = pem(arena, config.tls_key_file);
	}
	trust_own_certificate(arena);
	http_configure(&o);
	http_serve(socket, dispatch);
}

int worker_run(void)
{
	char host[256];
	int port;
	const char *fd = getenv("TRUNKLINE_SHARED_FD"), *slot = getenv("TRUNKLINE_SLOT");
	if (!fd || !slot)
		die("worker is started by serve");
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() == 1)
		return 1;
	struct arena *arena = arena_make();
	struct str key_file = config.master_key_file.n ? config.master_key_file : str_format(arena, "%s/master.key", config.data.p);
	vault_load(key_file.p, false);
	shared_map(atoi(fd), atoi(slot));
	kill_point_arm(config.kill_at.p);
	log_level_set(config.log_level);
	loop_init();
	log_buffered(true);
	tenant_open(cluster_conninfo(arena, "tl_app").p, cluster_conninfo(arena, "tl_agency").p, cluster_conninfo(arena, "tl_system").p,
		product_sql, (int)config.pg_write_connections);
	vault_use_kek(kms_kek());
	loop_every_ms(1000, vault_watch);
	limit_open();
	issuers_open();
	dispatch_open(product_routes);
	jobs_open(product_jobs);
	operations_started();
	bug_unless(split_host_port(config.listen, host, sizeof host, &port));
	int socket = http_bind(host, port, &port);
	if (socket < 0)
		die("cannot bind %s: %s", config.listen.p, strerror(errno));
	serve_http(arena, socket);
	jobs_start();
	loop_on_signal(SIGTERM, on_term);
	signal(SIGINT, SIG_IGN);	/* Ctrl-C reaches the whole group; the master decides */
	fiber_spawn(announce, NULL, true);
	loop_run();
	return 0;
}
