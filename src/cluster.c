/* initdb, starting and stopping of the private cluster. It listens on a socket in the data folder only
 * and runs as an unprivileged user when the server is root. */
#include "cluster.h"
#include "0_base/clock.h"
#include "0_base/die.h"
#include "1_code/b64.h"
#include "2_io/pg_once.h"
#include "3_core/config.h"
#include "3_core/vault.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_ROOM 80		/* sun_path holds 108 bytes, ".s.PGSQL.5432" among them */
#define START_MS 60000
#define DOOR_OPTIONS "-c statement_timeout=15s -c lock_timeout=3s -c idle_in_transaction_session_timeout=60s -c jit=off"

static bool fresh;

static void make_folder(const char *path, mode_t mode)
{
	char part[512];
	snprintf(part, sizeof part, "%s", path);
	for (char *p = part + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(part, 0755);
			*p = '/';
		}
	if (mkdir(path, mode) != 0 && errno != EEXIST)
		die("cannot make the folder %s: %s", path, strerror(errno));
}

void data_folder_open(void)
{
	char path[512];
	if (!config.data.n) {
		if (geteuid() == 0)
			snprintf(path, sizeof path, "/var/lib/trunkline");
		else if (getenv("XDG_DATA_HOME"))
			snprintf(path, sizeof path, "%s/trunkline", getenv("XDG_DATA_HOME"));
		else
			snprintf(path, sizeof path, "%s/.local/share/trunkline", getenv("HOME") ? getenv("HOME") : ".");
	} else if (config.data.p[0] != '/') {
		char here[256];
		if (!getcwd(here, sizeof here))
			die("cannot tell the current folder");
		snprintf(path, sizeof path, "%s/%.200s", here, config.data.p);
	} else {
		snprintf(path, sizeof path, "%.500s", config.data.p);
	}
	config_set_value("data", path);
	make_folder(path, 0711);
}

void data_folder_lock(void)
{
	char path[600];
	snprintf(path, sizeof path, "%s/lock", config.data.p);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
		if (i == 50)	/* five seconds: a dying server may still hold it */
			die("another server runs on %s", config.data.p);
		usleep(100000);
	}
	if (fd < 0)
		die("cannot lock %s: %s", path, strerror(errno));
}

bool cluster_is_new(void) { return fresh; }

static const char *pg_bin(void)
{
	static char found[300];
	if (getenv("TRUNKLINE_PG_BIN"))
		return getenv("TRUNKLINE_PG_BIN");
	for (int version = 18; version >= 15 && !*found; version--) {
		snprintf(found, sizeof found, "/usr/lib/postgresql/%d/bin", version);
		char probe[340];
		snprintf(probe, sizeof probe, "%s/initdb", found);
		if (access(probe, X_OK) != 0)
			*found = 0;
	}
	if (!*found)
		die("PostgreSQL 15 or newer is not installed (Debian: postgresql-15), and no DATABASE_URL is set");
	return found;
}

static void socket_folder(char *out, size_t size)
{
	snprintf(out, size, "%s/run", config.data.p);
	if (strlen(out) > SOCKET_ROOM) {
		struct str hash = { config.data.p, config.data.n };
		snprintf(out, size, "/tmp/trunkline-%016llx", (unsigned long long)str_hash(hash));
	}
}

/* In the child: give up root, then ask to be stopped when the parent dies (a uid switch clears that). */
static void become_unprivileged(int death_signal)
{
	if (geteuid() == 0) {
		struct passwd *user = getpwnam("postgres");
		if (!user || setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)
			_exit(126);
	}
	prctl(PR_SET_PDEATHSIG, death_signal);
}

static pid_t run(int death_signal, const char *log, char *const argv[])
{
	pid_t parent = getpid(), pid = fork();
	if (pid != 0)
		return pid;
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), null = open("/dev/null", O_RDONLY);
	dup2(null, 0);
	dup2(fd, 1);
	dup2(fd, 2);
	setsid();	/* a terminal's Ctrl-C is the master's business */
	if (chdir("/") != 0)
		_exit(126);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	become_unprivileged(death_signal);
	if (getppid() != parent)
		_exit(125);
	for (int i = 3; i < 256; i++)
		close(i);
	execv(argv[0], argv);
	_exit(127);
}

static void give_to_postgres(const char *path)
{
	struct passwd *user = getpwnam("postgres");
	if (geteuid() != 0)
		return;
	if (!user)
		die("the user postgres is missing; Debian's postgresql-15 makes it");
	if (chown(path, user->pw_uid, user->pw_gid) != 0)
		die("cannot give %s to postgres: %s", path, strerror(errno));
}

static void make_cluster(const char *folder, const char *log)
{
	char initdb[340], pwfile[600];
	snprintf(initdb, sizeof initdb, "%s/initdb", pg_bin());
	snprintf(pwfile, sizeof pwfile, "%s/PG_VERSION", folder);
	if (access(pwfile, F_OK) == 0)
		return;
	fresh = true;
	fprintf(stderr, "trunkline: making a private PostgreSQL in %s ...\n", folder);
	char *argv[] = { initdb, (char *)"-D", (char *)folder, (char *)"-U", (char *)"trunkline", (char *)"-A", (char *)"trust",
		(char *)"-E", (char *)"UTF8", (char *)"--locale=C.UTF-8", (char *)"--data-checksums", NULL };
	int status = 0;
	pid_t pid = run(SIGKILL, log, argv);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		die("initdb failed; see %s%s", log, geteuid() == 0 ? " (the user postgres must be able to reach the data folder)" : "");
}

/* A postmaster left by a killed server holds the folder: ask it to stop, then insist. */
static void stop_old(const char *folder)
{
	char path[600];
	long pid = 0;
	snprintf(path, sizeof path, "%s/postmaster.pid", folder);
	FILE *file = fopen(path, "r");
	if (!file)
		return;
	if (fscanf(file, "%ld", &pid) != 1)
		pid = 0;
	fclose(file);
	for (int i = 0; pid > 1 && i < 300 && kill((pid_t)pid, 0) == 0; i++) {
		char name[64], comm[64] = "";
		snprintf(name, sizeof name, "/proc/%ld/comm", pid);
		FILE *c = fopen(name, "r");
		if (c && fgets(comm, sizeof comm, c) && strncmp(comm, "postgres", 8) != 0)
			i = 300;	/* the number was used again by somebody else */
		if (c)
			fclose(c);
		if (i % 100 == 0 && i < 300)
			kill((pid_t)pid, i < 100 ? SIGINT : SIGQUIT);
		usleep(50000);
	}
}

static pid_t start(const char *folder, const char *sockets, const char *log)
{
	char postgres[340], socket_arg[300];
	snprintf(postgres, sizeof postgres, "%s/postgres", pg_bin());
	snprintf(socket_arg, sizeof socket_arg, "unix_socket_directories=%s", sockets);
	char *argv[] = { postgres, (char *)"-D", (char *)folder, (char *)"-c", (char *)"listen_addresses=", (char *)"-c", socket_arg,
		(char *)"-c", (char *)"unix_socket_permissions=0777", (char *)"-c", (char *)"max_connections=300",
		(char *)"-c", (char *)"wal_level=minimal", (char *)"-c", (char *)"max_wal_senders=0", (char *)"-c", (char *)"jit=off",
		(char *)"-c", (char *)"max_wal_size=2GB", (char *)"-c", (char *)"log_min_messages=warning",
		(char *)"-c", (char *)"log_min_error_statement=panic", (char *)"-c", (char *)"timezone=UTC", NULL };
	pid_t pid = run(SIGINT, log, argv);
	struct arena *arena = arena_make();
	struct str conninfo = str_format(arena, "host=%s user=trunkline dbname=postgres", sockets);
	char error[300] = "";
	for (int64_t until = clock_real_us() + START_MS * US_PER_MS;;) {
		int status;
		struct pg_once *once = pg_once_open(conninfo.p, error, sizeof error);
		pg_once_close(once);
		if (once)
			break;
		if (clock_real_us() > until)
			die("PostgreSQL does not answer: %s; see %s", error, log);
		if (waitpid(pid, &status, WNOHANG) == pid) {
			usleep(100000);		/* sessions of a killed one still hold its shared memory */
			pid = run(SIGINT, log, argv);
		}
		usleep(10000);
	}
	arena_drop(arena);
	return pid;
}

pid_t cluster_restart(void)
{
	char folder[540], sockets[300], log[600];
	snprintf(folder, sizeof folder, "%s/pg", config.data.p);
	snprintf(log, sizeof log, "%s/postgres.log", folder);
	socket_folder(sockets, sizeof sockets);
	stop_old(folder);
	return start(folder, sockets, log);
}

pid_t cluster_start(void)
{
	char folder[540], sockets[300], log[600];
	snprintf(folder, sizeof folder, "%s/pg", config.data.p);
	snprintf(log, sizeof log, "%s/initdb.log", config.data.p);
	socket_folder(sockets, sizeof sockets);
	make_folder(folder, 0700);
	make_folder(sockets, 0700);
	give_to_postgres(folder);
	give_to_postgres(sockets);
	int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	close(fd);
	give_to_postgres(log);
	make_cluster(folder, log);
	return cluster_restart();
}

void cluster_stop(pid_t postmaster)
{
	if (postmaster <= 0)
		return;
	kill(postmaster, SIGINT);	/* fast: ends sessions, writes a checkpoint */
	for (int i = 0; i < 3000 && waitpid(postmaster, NULL, WNOHANG) == 0; i++) {
		if (i == 2500)
			kill(postmaster, SIGQUIT);
		usleep(10000);
	}
}

struct str cluster_role_password(struct arena *arena, const char *role)
{
	if (!config.database_url.n)
		return STR_NULL;
	return hex_write(arena, vault_key(arena, str_format(arena, "role:%s", role).p));
}

struct str cluster_conninfo(struct arena *arena, const char *role)
{
	char sockets[300];
	const char *worker = getenv("TRUNKLINE_WORKER");	/* whose leases are taken through this connection */
	const char *options = role ? str_format(arena, "%s -c tl.worker=%s", DOOR_OPTIONS, worker ? worker : "").p : NULL;
	if (config.database_url.n)
		return pg_once_conninfo(arena, config.database_url, role, role ? cluster_role_password(arena, role).p : NULL, NULL, options);
	socket_folder(sockets, sizeof sockets);
	return str_format(arena, "host=%s dbname=trunkline user=%s application_name=trunkline options='%s'", sockets,
		role ? role : "trunkline", options ? options : "");
}
