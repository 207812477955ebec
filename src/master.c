/* The master: prepares the database, starts sandbox and workers, restarts what dies, relays logs, stops
 * everything in order. It serves nothing itself, so there is little in it that can fail. */
#include "cluster.h"
#include "migrate.h"
#include "serve.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "0_base/fault.h"
#include "0_base/log.h"
#include "1_code/cidr.h"
#include "1_code/url.h"
#include "1_code/uuid.h"
#include "2_io/http.h"
#include "2_io/pg_once.h"
#include "2_io/shared.h"
#include "3_core/config.h"
#include "4_out/voice_provider.h"
#include "3_core/vault.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define STOP_MS 28000
#define GATHER_MS 10
#define READY_MS 60000
#define CHILDREN (SHARED_SLOTS + 1)

struct child {
	pid_t pid;
	int log_fd, slot;	/* slot -1 = the sandbox */
	int64_t started_us;
	char line[65536];
	size_t line_n;
};

static struct child children[CHILDREN];
static int child_count, shared_fd;
static pid_t postmaster;
static struct str server_id;	/* among all that share a database */
static uint64_t dropped;

bool split_host_port(struct str text, char *host, size_t size, int *ret_port)
{
	int64_t port;
	size_t colon = text.n;
	while (colon && text.p[colon - 1] != ':')
		colon--;
	if (!colon || !str_int(str_from(text, colon), &port) || port < 0 || port > 65535)
		return false;
	struct str name = { text.p, colon - 1 };
	if (name.n > 1 && name.p[0] == '[')
		name = (struct str){ name.p + 1, name.n - 2 };
	snprintf(host, size, "%.*s", STRF(name));
	*ret_port = (int)port;
	return true;
}

static void set_if_empty(struct str now, const char *name, const char *value)
{
	if (!now.n)
		config_set_value(name, value);
}

void settings_resolve(int port, int sandbox_port)
{
	char url[300], host[256];
	int ignored;
	bool demo = str_is(config.demo, "on") || (str_is(config.demo, "auto") && !config.database_url.n && !config.ultravox_api_key.n);
	split_host_port(config.listen, host, sizeof host, &ignored);
	bool any = !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
	snprintf(url, sizeof url, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
	config_set_value("listen", url);
	const char *scheme = config.tls_certificate_file.n ? "https" : "http";
	snprintf(url, sizeof url, "%s://%s:%d", scheme, any ? "127.0.0.1" : host, port);
	set_if_empty(config.public_url, "public_url", url);
	snprintf(url, sizeof url, "%s://127.0.0.1:%d/objects", scheme, port);
	set_if_empty(config.s3_endpoint, "s3_endpoint", url);
	if (sandbox_port) {
		snprintf(url, sizeof url, "http://127.0.0.1:%d", sandbox_port);
		config_set_value("sandbox", url);
	}
	if (str_starts(config.sandbox, "http")) {
		if (!config.ultravox_api_key.n)
			set_if_empty(config.ultravox_base_url, "ultravox_base_url", config.sandbox.p);
		set_if_empty(config.telnyx_base_url, "telnyx_base_url", config.sandbox.p);
		set_if_empty(config.default_from_number, "default_from_number", "+15005550006");
	}
	set_if_empty(config.ultravox_base_url, "ultravox_base_url", "https://api.ultravox.ai");
	bool real = config.ultravox_api_key.n && !str_eq(config.ultravox_base_url, config.sandbox);
	if (demo) {
		config_set_value("egress_allow_private", "true");
		config_set_value("dev_issuer", "true");
	}
	config_set_value("demo", demo ? "on" : "off");
	if (real && config.test_clock)
		die("--test-clock is refused with a real provider key");
	if (real && config.egress_allow_private)
		die("egress_allow_private is refused with a real provider key");
	voice_open();
	if (!config.tls_certificate_file.n != !config.tls_key_file.n)
		die("tls_certificate_file and tls_key_file go together");
	for (struct str rest = config.trusted_proxies; rest.n;) {
		struct str block = str_cut(&rest, ',');
		if (!cidr_valid(block))
			die("trusted_proxies: '%.*s' is no address or block such as 10.0.0.0/8", STRF(block));
	}
	if (config.provider_wait_ms > 20000)
		die("provider_wait_ms must be 0..20000");
}

static void spawn(struct child *c, int slot)
{
	int pipes[2];
	char text[64];
	if (pipe2(pipes, O_CLOEXEC) != 0)
		die("no pipe: %s", strerror(errno));
	fcntl(pipes[1], F_SETFL, O_NONBLOCK);	/* a slow reader costs lines, never requests */
	fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		dup2(pipes[1], STDERR_FILENO);
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			_exit(1);
		snprintf(text, sizeof text, "%d", shared_fd);
		setenv("TRUNKLINE_SHARED_FD", text, 1);
		snprintf(text, sizeof text, "%d", slot);
		setenv("TRUNKLINE_SLOT", text, 1);
		snprintf(text, sizeof text, "%.*s/%d", STRF(server_id), slot);
		setenv("TRUNKLINE_WORKER", text, 1);
		fcntl(shared_fd, F_SETFD, 0);
		if (slot < 0)
			execl("/proc/self/exe", "trunkline", "sandbox", "--child", NULL);
		else
			execl("/proc/self/exe", "trunkline", "worker", NULL);
		_exit(127);
	}
	close(pipes[1]);
	if (c->log_fd > 0)
		close(c->log_fd);
	*c = (struct child){ .pid = pid, .log_fd = pipes[0], .slot = slot, .started_us = clock_real_us() };
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
}

/* Copies whole lines; a reader of ours that is slow holds nobody up but the pipe. */
static bool relay(struct child *c)
{
	ssize_t n = read(c->log_fd, c->line + c->line_n, sizeof c->line - c->line_n);
	if (n <= 0)
		return n < 0 && errno == EAGAIN;
	c->line_n += (size_t)n;
	size_t whole = c->line_n;
	while (whole && c->line[whole - 1] != '\n')
		whole--;
	if (!whole && c->line_n == sizeof c->line)
		whole = c->line_n;
	for (size_t at = 0; at < whole; ) {
		ssize_t done = write(STDERR_FILENO, c->line + at, whole - at);
		if (done < 0 && errno != EINTR && errno != EAGAIN) {
			dropped++;
			break;
		}
		at += done > 0 ? (size_t)done : 0;
	}
	memmove(c->line, c->line + whole, c->line_n - whole);
	c->line_n -= whole;
	return true;
}

static void log_exit(const char *who, pid_t pid, int status)
{
	char number[32];
	snprintf(number, sizeof number, "%d", WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
	char pid_text[32];
	snprintf(pid_text, sizeof pid_text, "%d", (int)pid);
	log_line(LOG_WARN, "process ended", "process", who, "#pid", pid_text, "#status", number, NULL);
}

/* Collects the dead; restarts them unless we are stopping. */
static void reap(bool stopping)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == postmaster) {
			postmaster = 0;
			if (!stopping) {
				log_exit("postgres", pid, status);
				postmaster = cluster_restart();
			}
			continue;
		}
		for (int i = 0; i < child_count; i++) {
			struct child *c = &children[i];
			if (c->pid != pid)
				continue;
			c->pid = 0;
			if (stopping)
				break;
			log_exit(c->slot < 0 ? "sandbox" : "worker", pid, status);
			errno = 0;
			while (c->log_fd > 0 && relay(c) && errno != EAGAIN)
				;	/* its last words */
			if (c->slot >= 0)
				shared_slot_clear(c->slot);
			if (clock_real_us() - c->started_us < 500 * US_PER_MS)
				usleep(200000);		/* it dies at birth: not in a tight circle */
			spawn(c, c->slot);
			break;
		}
	}
}

static void look_after(int signals, int wait_ms, bool stopping)
{
	struct pollfd fds[CHILDREN + 1];
	struct child *owners[CHILDREN + 1];
	int n = 0;
	fds[n++] = (struct pollfd){ .fd = signals, .events = POLLIN };
	for (int i = 0; i < child_count; i++)
		if (children[i].log_fd > 0) {
			owners[n] = &children[i];
			fds[n++] = (struct pollfd){ .fd = children[i].log_fd, .events = POLLIN };
		}
	int ready = poll(fds, (nfds_t)n, wait_ms);
	if (ready < 0)
		return;
	if (ready > 0 && !fds[0].revents && !stopping)	/* let lines gather: a wake-up a batch, not a line */
		poll(fds, 1, GATHER_MS);
	for (int i = 1; i < n; i++)
		if (fds[i].revents && !relay(owners[i])) {
			close(owners[i]->log_fd);
			owners[i]->log_fd = 0;
		}
	reap(stopping);
}

static bool all_ready(void)
{
	bool ready = true;
	for (int i = 0; i < child_count; i++)
		if (children[i].slot >= 0)
			ready &= atomic_load(&shared_get()->ready[children[i].slot]) == 1;
	return ready;
}

static bool term_asked(int signals)
{
	struct signalfd_siginfo info;
	while (read(signals, &info, sizeof info) == sizeof info)
		if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			return true;
	return false;
}

static int living(bool workers)
{
	int n = 0;
	for (int i = 0; i < child_count; i++)
		n += children[i].pid > 0 && (children[i].slot >= 0) == workers;
	return n;
}

static void stop_children(int signals, bool workers)
{
	for (int i = 0; i < child_count; i++)
		if (children[i].pid > 0 && (children[i].slot >= 0) == workers)
			kill(children[i].pid, SIGTERM);
	int64_t until = clock_real_us() + STOP_MS * US_PER_MS;
	while (living(workers) && clock_real_us() < until)
		look_after(signals, 20, true);
	for (int i = 0; i < child_count; i++)
		if (children[i].pid > 0 && (children[i].slot >= 0) == workers)
			kill(children[i].pid, SIGKILL);
}

static int64_t saved_clock(void)
{
	struct arena *arena = arena_make();
	char error[200];
	int64_t at_us = 0;
	struct pg_once *once = pg_once_open(cluster_conninfo(arena, "tl_system").p, error, sizeof error);
	if (once && pg_once_run(once, "select frozen_us from clock_state", NULL, 0) == OK && pg_once_rows(once))
		str_int(str_of(pg_once_cell(once, 0, 0)), &at_us);
	pg_once_close(once);
	arena_drop(arena);
	return at_us;
}

/* Jobs that every start orders, one of each at a time whatever is left of an earlier start. The provider
 * must know our webhook before the first call; as a job, an absent provider does not hold up the start. */
static void order_jobs(bool registration)
{
	struct arena *arena = arena_make();
	char error[200];
	struct pg_once *once = pg_once_open(cluster_conninfo(arena, "tl_system").p, error, sizeof error);
	enum fault fault = once ? pg_once_script(once, "select job_add(gen_random_uuid(), 'q-artifacts-sync', k, '{}', null, null, null, 0, k) "
		"from unnest(array['operations.tidy', 'retention.nightly', 'uploads.clean', 'voice.watch', "
		"'analytics.nightly', 'calls.net']) k") : FAULT_UNAVAILABLE;
	if (fault == OK && registration)
		fault = pg_once_script(once, "update jobs set run_at = least(run_at, tl_now()) where dedupe_key = 'provider.register' and "
			"status = 'queued'; select job_add(gen_random_uuid(), 'q-artifacts-sync', 'provider.register', '{}', null, null, null, "
			"0, 'provider.register')");
	if (fault != OK)
		die("the first jobs cannot be ordered: %s", once ? fault_note->message : error);
	pg_once_close(once);
	arena_drop(arena);
}

static int bind_or_die(const char *what, struct str text, int *ret_port)
{
	char host[256];
	if (!split_host_port(text, host, sizeof host, ret_port))
		die("--%s takes HOST:PORT, not '%s'", what, text.p);
	int fd = http_bind(host, *ret_port, ret_port);
	if (fd < 0)
		die("cannot bind %s: %s", text.p, strerror(errno));
	return fd;
}

int master_run(void)
{
	int port, sandbox_port = 0;
	sigset_t mask;
	struct arena *arena = arena_make();
	data_folder_open();
	data_folder_lock();
	log_level_set(config.log_level);
	sigemptyset(&mask);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	int signals = signalfd(-1, &mask, SFD_NONBLOCK | SFD_CLOEXEC);
	bool wants_sandbox = !config.sandbox.n ? !config.ultravox_api_key.n : str_is(config.sandbox, "on");
	if (config.database_url.n && !config.master_key_file.n)
		die("DATABASE_URL needs MASTER_KEY_FILE: a file with 64 hexadecimal digits (openssl rand -hex 32)");
	int socket = bind_or_die("listen", config.listen, &port);
	int sandbox_socket = wants_sandbox ? bind_or_die("sandbox-listen", config.sandbox_listen, &sandbox_port) : -1;
	if (str_is(config.sandbox, "off"))
		config_set_value("sandbox", "");
	settings_resolve(port, sandbox_port);

	if (!config.database_url.n)
		postmaster = cluster_start();
	struct str key_file = config.master_key_file.n ? config.master_key_file : str_format(arena, "%s/master.key", config.data.p);
	vault_load(key_file.p, cluster_is_new() && !config.master_key_file.n);
	migrate_up(true);
	server_id = uuid_make(arena);
	shared_fd = shared_make();
	shared_map(shared_fd, SHARED_SLOTS - 1);
	if (config.test_clock)
		clock_freeze(saved_clock());
	if (str_is(config.demo, "on"))
		tenants_seed_demo();
	order_jobs(str_starts(config.sandbox, "http") || config.ultravox_api_key.n);
	if (wants_sandbox) {
		char text[300];
		snprintf(text, sizeof text, "127.0.0.1:%d", sandbox_port);
		config_set_value("sandbox_listen", text);
	}
	config_export();
	if (wants_sandbox)
		spawn(&children[child_count++], -1);
	int64_t workers = config.workers ? config.workers : sysconf(_SC_NPROCESSORS_ONLN);
	if (workers > SHARED_SLOTS - 2)
		workers = SHARED_SLOTS - 2;
	for (int64_t i = 0; i < workers; i++)
		spawn(&children[child_count++], (int)i);

	bool asked = false, told = false;
	int64_t until = clock_real_us() + READY_MS * US_PER_MS;
	while (!asked) {
		look_after(signals, told ? 1000 : 5, false);
		asked = term_asked(signals);
		if (!told && all_ready()) {
			told = true;
			printf("trunkline ready on %s\n", config.public_url.p);
			fflush(stdout);
		}
		if (!told && clock_real_us() > until)
			die("the workers do not become ready");
	}
	stop_children(signals, true);
	stop_children(signals, false);
	cluster_stop(postmaster);
	close(socket);
	if (sandbox_socket >= 0)
		close(sandbox_socket);
	arena_drop(arena);
	return 0;
}
