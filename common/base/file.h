/* Small files that are read or replaced as a whole, and folders. Any thread. */
#ifndef COMMON_BASE_FILE_H
#define COMMON_BASE_FILE_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/types.h>

/* Appends what is in the file, which must be a regular one or /dev/null: a FIFO would block. -ERR_SYSTEM,
 * -ERR_USAGE: it is no such file, or -ERR_TOO_LARGE above limit bytes; err names the path. */
MUST_CHECK int file_read(const char *path, size_t limit, struct buf *out, struct error *err);

/* The first len bytes of the file, or all that it has, replace what is in `into`. What the disk can't read is zeros,
 * block by block; then the result is 1, else 0. */
int file_read_around(int fd, struct buf *into, size_t len);

/* Replaces the file `name` in the folder `dir` (a descriptor or AT_FDCWD): the data are written into `name`.new,
 * which is then renamed. A crash leaves the former file or the whole new one; with sync a power cut does, too.
 * -1 with errno: the former file stands, or the new one that a power cut may take back. */
int file_replace(int dir, const char *name, struct bytes data, mode_t mode, bool sync);

/* Makes what is missing of the path, 0700 and synced: what is stored in it can be promised. -1 with errno. */
int file_make_folders(const char *path);

/* The folder of the program that runs; to be freed. NULL with errno. */
char *file_own_folder(void);

/* A descriptor of memory that holds content and can't be changed any more, at its beginning; -1 with errno. */
int file_in_memory(const char *name, struct bytes content);

bool file_is_same(int left, int right); /* two descriptors of one file */

#endif
