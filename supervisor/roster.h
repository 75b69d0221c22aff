/* Which processes should exist, and which of them a change of the settings affects. Pure, but for roster_files.
 *
 *     consumer          [mqtt]
 *     consumer:NAME     each [consumer:NAME]
 *     worker:1..N       [worker] count, or what `scale`, SIGTTIN and SIGTTOU made of it
 *     monitor           always
 *
 * Affected is a process that reads a setting that differs: settings_table.c says who reads which, setting_is_read
 * which sections. A further consumer affects no other consumer, though that of [mqtt] is given its client id. */
#ifndef SUPERVISOR_ROSTER_H
#define SUPERVISOR_ROSTER_H

#include "common/settings/settings.h"
#include "supervisor/process.h"

struct roster_entry {
    enum process_kind kind;
    int number; /* as process_new takes it: 0 for all but workers */
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
/* A sum of the contents of the files that the process's settings name: keys, certificates, tokens. A file that can't
 * be read counts as an empty one. */
uint32_t roster_files(const struct settings *settings, const char *name);

#endif
