/* Files for fibers: libuv's worker threads do the waiting. Paths are NUL-terminated. */
#ifndef TL_FILE_H
#define TL_FILE_H

#include "../0_base/fault.h"

struct file_stat {
	int64_t size, modified_us;
};

enum fault file_open(const char *path, int flags, int *ret_fd) MUST_CHECK;	/* NOT_FOUND, IO */
enum fault file_write(int fd, struct str bytes) MUST_CHECK;	/* all of it, at the end */
enum fault file_sync(int fd) MUST_CHECK;
void file_close(int fd);
enum fault file_rename(const char *from, const char *to) MUST_CHECK;
enum fault file_remove(const char *path) MUST_CHECK;	/* absent is OK */
enum fault file_append(int fd, const char *from, int64_t *ret_bytes) MUST_CHECK;	/* a whole file behind what is there; NOT_FOUND */
enum fault file_remove_folder(const char *path) MUST_CHECK;	/* and the plain files in it; absent is OK */
/* Names in a folder, one a line; absent: none. */
enum fault file_list(struct arena *arena, const char *path, struct str *ret_names) MUST_CHECK;
enum fault file_size(int fd, struct file_stat *ret_stat) MUST_CHECK;
enum fault file_make_folders(struct arena *arena, const char *path) MUST_CHECK;	/* of a file's path */

#endif
