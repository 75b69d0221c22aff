/* Small files that are read or replaced as a whole, and folders. Any thread. */
#ifndef COMMON_BASE_FILE_H
#define COMMON_BASE_FILE_H

#include "common/base/buf.h"
#include "common/base/error.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/types.h>

/* Appends the file's content. It must be a regular file or /dev/null (else -ERR_USAGE), since a FIFO would block.
 * -ERR_SYSTEM, -ERR_TOO_LARGE above limit bytes; err names the path. */
MUST_CHECK int file_read(const char *path, size_t limit, struct buf *out, struct error *err);

/* As file_read, of an open file from its beginning, wherever it is positioned. name stands for it in err. */
MUST_CHECK int file_read_fd(int fd, const char *name, size_t limit, struct buf *out,
                            struct error *err);

/* Replaces the content of `into` with the first len bytes of the file, or all that it has. Blocks that the disk can't
 * read become zeros; then the result is 1, else 0. */
int file_read_around(int fd, struct buf *into, size_t len);

/* Replaces the file `name` in the folder `dir` (a descriptor or AT_FDCWD): writes `name`.new, then renames it. A crash
 * leaves the old file or the whole new one; with sync a power cut does too. -1 with errno: the old file is there, or
 * the new one, which a power cut may undo. */
int file_replace(int dir, const char *name, struct bytes data, mode_t mode, bool sync);

/* Makes the missing folders of the path, with 0700, and syncs them: a file in them survives a power cut. -1 with
 * errno. */
int file_make_folders(const char *path);

/* The folder of the running program's file; to be freed. NULL with errno. */
char *file_own_folder(void);

/* A descriptor of sealed memory with that content, positioned at its beginning; -1 with errno. */
int file_in_memory(const char *name, struct bytes content);

/* Closes the descriptor if it is open, and sets it to -1. */
void file_close(int *fd);

bool file_is_same(int left, int right); /* two descriptors of one file */

#endif
