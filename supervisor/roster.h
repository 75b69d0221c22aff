/* Which processes should exist, and which processes a change of the settings affects. Pure, but for roster_files.
 *
 *     consumer          [mqtt]
 *     consumer:NAME     each [consumer:NAME]
 *     worker:1..N       [worker] count, or the number set by `scale`, SIGTTIN and SIGTTOU
 *     monitor           always
 *
 * A process is affected if it reads a setting that differs. settings_table.c says which program reads a setting,
 * setting_is_read which sections. Adding a consumer affects no other one, though that of [mqtt] learns its client
 * id. */
#ifndef SUPERVISOR_ROSTER_H
#define SUPERVISOR_ROSTER_H

#include "common/settings/settings.h"
#include "supervisor/process.h"

struct roster_entry {
    enum process_kind kind;
    int number; /* for process_new: 0 for all but workers */
    char name[PROCESS_NAME_SIZE];
};

struct roster {
    struct roster_entry *entries;
    size_t len;
};

void roster_plan(struct roster *roster, const struct settings *settings, int64_t workers);
bool roster_is(const struct roster_entry *entry, const struct process *process);
void roster_free(struct roster *roster);

/* name: of a process, "consumer:garden". */
bool roster_is_affected(const struct settings *before, const struct settings *after,
                        const char *name);
/* A checksum of the contents of the files that the process's settings name: keys, certificates, tokens. A file that
 * can't be read counts as empty. */
uint32_t roster_files(const struct settings *settings, const char *name);

#endif
