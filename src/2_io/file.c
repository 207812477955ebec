/* uv_fs calls that park the fiber. */
#include "file.h"
#include "fiber.h"
#include "loop_uv.h"
#include "../0_base/clock.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

struct call {
	uv_fs_t fs;
	struct fiber *fiber;
	ssize_t result;
	bool done;
};

static void on_done(uv_fs_t *fs)
{
	struct call *c = fs->data;
	c->result = fs->result;
	c->done = true;
	uv_fs_req_cleanup(fs);
	fiber_wake(c->fiber);
}

/* Starts by `expr`, waits, gives the result (negative errno). */
#define CALL(c, expr) ({ \
	fiber_may_wait("a file"); \
	struct call c = { .fiber = fiber_current() }; \
	c.fs.data = &c; \
	int started_ = (expr); \
	while (started_ == 0 && !c.done) \
		fiber_park(); \
	started_ < 0 ? (ssize_t)started_ : c.result; })

static enum fault failed(ssize_t code)
{
	if (code == UV_ENOENT || code == UV_ENOTDIR)
		return fault_raise(FAULT_NOT_FOUND, "No such file");
	return fault_raise(FAULT_IO, "File: %s", uv_strerror((int)code));
}

enum fault file_open(const char *path, int flags, int *ret_fd)
{
	ssize_t n = CALL(c, uv_fs_open(loop_uv(), &c.fs, path, flags | O_CLOEXEC, 0600, on_done));
	if (n < 0)
		return failed(n);
	*ret_fd = (int)n;
	return OK;
}

enum fault file_write(int fd, struct str bytes)
{
	while (bytes.n) {
		uv_buf_t part = uv_buf_init((char *)bytes.p, (unsigned)bytes.n);
		ssize_t n = CALL(c, uv_fs_write(loop_uv(), &c.fs, fd, &part, 1, -1, on_done));
		if (n <= 0)
			return failed(n ? n : UV_EIO);
		bytes = str_from(bytes, (size_t)n);
	}
	return OK;
}

enum fault file_sync(int fd)
{
	ssize_t n = CALL(c, uv_fs_fsync(loop_uv(), &c.fs, fd, on_done));
	return n < 0 ? failed(n) : OK;
}

void file_close(int fd) { close(fd); }

enum fault file_rename(const char *from, const char *to)
{
	ssize_t n = CALL(c, uv_fs_rename(loop_uv(), &c.fs, from, to, on_done));
	return n < 0 ? failed(n) : OK;
}

enum fault file_remove(const char *path)
{
	ssize_t n = CALL(c, uv_fs_unlink(loop_uv(), &c.fs, path, on_done));
	return n < 0 && n != UV_ENOENT ? failed(n) : OK;
}

enum fault file_size(int fd, struct file_stat *ret_stat)
{
	struct stat st;		/* an open file's own facts are in memory: no thread needed */
	if (fstat(fd, &st) != 0)
		return fault_raise(FAULT_IO, "File: %s", strerror(errno));
	*ret_stat = (struct file_stat){ .size = st.st_size,
		.modified_us = st.st_mtim.tv_sec * US_PER_S + st.st_mtim.tv_nsec / 1000 };
	return OK;
}

enum fault file_make_folders(struct arena *arena, const char *path)
{
	struct str text = str_copy(arena, str_of(path));
	for (char *p = (char *)text.p + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		ssize_t n = CALL(c, uv_fs_mkdir(loop_uv(), &c.fs, text.p, 0700, on_done));
		*p = '/';
		if (n < 0 && n != UV_EEXIST)
			return failed(n);
	}
	return OK;
}

/* What takes several calls runs as one on a worker thread. */
struct work {
	uv_work_t request;
	struct fiber *fiber;
	const char *path;
	int fd, error;
	int64_t bytes;
	struct buf names;
	bool done;
};

static void on_worked(uv_work_t *request, int status)
{
	struct work *w = request->data;
	(void)status;
	w->done = true;
	fiber_wake(w->fiber);
}

static enum fault work_run(struct work *w, void (*run)(uv_work_t *))
{
	fiber_may_wait("a file");
	w->fiber = fiber_current();
	w->request.data = w;
	if (uv_queue_work(loop_uv(), &w->request, run, on_worked) != 0)
		return fault_raise(FAULT_IO, "File: no worker thread");
	while (!w->done)
		fiber_park();
	if (w->error == ENOENT)
		return fault_raise(FAULT_NOT_FOUND, "No such file");
	return w->error ? fault_raise(FAULT_IO, "File: %s", uv_strerror(-w->error)) : OK;
}

static void append(uv_work_t *request)
{
	struct work *w = request->data;
	struct stat st;
	int from = open(w->path, O_RDONLY | O_CLOEXEC);
	if (from < 0 || fstat(from, &st) != 0)
		w->error = errno;
	while (!w->error && w->bytes < st.st_size) {
		ssize_t n = sendfile(w->fd, from, NULL, (size_t)(st.st_size - w->bytes));
		if (n > 0)
			w->bytes += n;
		else
			w->error = n ? errno : EIO;
	}
	if (from >= 0)
		close(from);
}

enum fault file_append(int fd, const char *from, int64_t *ret_bytes)
{
	struct work w = { .path = from, .fd = fd };
	enum fault fault = work_run(&w, append);
	*ret_bytes = w.bytes;
	return fault;
}

static void remove_folder(uv_work_t *request)
{
	struct work *w = request->data;
	char path[4200];
	struct dirent *one;
	DIR *folder = opendir(w->path);
	if (!folder) {
		w->error = errno == ENOENT ? 0 : errno;
		return;
	}
	while ((one = readdir(folder)))
		if (one->d_type == DT_REG && snprintf(path, sizeof path, "%s/%s", w->path, one->d_name) < (int)sizeof path)
			unlink(path);
	closedir(folder);
	if (rmdir(w->path) != 0 && errno != ENOENT)
		w->error = errno;
}

enum fault file_remove_folder(const char *path)
{
	struct work w = { .path = path };
	return work_run(&w, remove_folder);
}

static void list_folder(uv_work_t *request)
{
	struct work *w = request->data;
	struct dirent *one;
	DIR *folder = opendir(w->path);
	if (!folder) {
		w->error = errno == ENOENT ? 0 : errno;
		return;
	}
	while ((one = readdir(folder)))
		if (*one->d_name != '.') {
			buf_text(&w->names, one->d_name);
			buf_char(&w->names, '\n');
		}
	closedir(folder);
}

enum fault file_list(struct arena *arena, const char *path, struct str *ret_names)
{
	struct work w = { .path = path, .names = { .max = (size_t)16 << 20 } };
	enum fault fault = work_run(&w, list_folder);
	*ret_names = str_copy(arena, buf_view(&w.names));
	buf_fini(&w.names);
	return fault;
}
