/* Which spools there are: the folders below <state dir>/spool that hold a segment. They lie two deep
 * (spool_path.h); one directly in a client id's folder is of an earlier version. */
#ifndef CONSUMER_SPOOL_SPOOL_LIST_H
#define CONSUMER_SPOOL_SPOOL_LIST_H

#include <stddef.h>

struct spool_list {
    char **dirs;
    size_t len;
};

void spool_list_read(struct spool_list *list, const char *state_dir);
void spool_list_remove(struct spool_list *list, size_t index);
void spool_list_free(struct spool_list *list);

#endif
