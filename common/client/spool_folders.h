/* The folders below <state dir>/spool in which a spool may lie: each client id's folder, and those for each destination
 * in it. (A spool directly in a client id's folder is of an earlier version.) The consumer looks in these folders for
 * spools, the command line for files of oversized messages. */
#ifndef COMMON_CLIENT_SPOOL_FOLDERS_H
#define COMMON_CLIENT_SPOOL_FOLDERS_H

#include "common/base/error.h"

#include <stddef.h>

struct spool_folders {
    char **paths; /* in no order */
    size_t len;
};

/* The folder `spool` may be a link; links below it are not followed. -ERR_SYSTEM: a folder could not be read (err names
 * it); the others are in the list. Without a folder `spool` the list is empty. */
int spool_folders_read(struct spool_folders *folders, const char *state_dir, struct error *err);
void spool_folders_free(struct spool_folders *folders);

#endif
