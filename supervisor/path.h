/* Folders and files by names that somebody else may have a hand in.
 *
 * With [supervisor] user a folder may belong to that user, as the state directory does. Whoever can write
 * in a folder can put a link there, and what root opens, makes or gives away by its name is then of his
 * choosing. So a careful walk goes folder by folder, on descriptors, and there
 *     a link is followed only if root made it: it is root's and has no second name;
 *     a file with a second name is refused where others than root can write;
 *     what was there before, where others can write, is not to be given away: `ours` is false.
 * Links in folders of root's go on working: /dev/stdout, a state directory on another disk. A walk that
 * is not careful follows every link, as open does. Errors name the path and what in it is wrong. */
#ifndef SUPERVISOR_PATH_H
#define SUPERVISOR_PATH_H

#include "common/base/error.h"

#include <stdbool.h>
#include <sys/types.h>

struct path_found {
    int fd; /* close-on-exec */
    bool ours;
};

/* For naming things in it (O_PATH). What is missing is made, the folders above with 0755. */
MUST_CHECK int path_open_folder(struct path_found *found, const char *path, mode_t mode,
                                bool careful, struct error *err);
/* The folder that the file is in, made if need be; a descriptor as above. */
MUST_CHECK int path_open_parent(const char *file, bool careful, struct error *err);
/* Opens the file or makes it, and its folder. flags: as for open, without O_CREAT. */
MUST_CHECK int path_open_file(struct path_found *found, const char *path, int flags, mode_t mode,
                              bool careful, struct error *err);

#endif
