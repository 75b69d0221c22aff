/* Which processes should exist, and which of them a change of the settings concerns. Pure.
 *
 *     consumer          [mqtt]
 *     consumer:NAME     each [consumer:NAME]
 *     worker:1..N       [worker] count, or what `scale`, SIGTTIN and SIGTTOU made of it
 *     monitor           always
 *
 * Concerned is who could read a setting that differs. That errs on the side of a restart:
 *     consumer  its own [mqtt] or [consumer:NAME], [spool], [transport:*], [failure], [log], [supervisor]
 *     worker    [worker], [transport:*], [retry], [failure], [mercure], [route:*], [log], [supervisor]
 *     monitor   everything
 * [worker] count and those of [supervisor] that only the supervisor reads (start_retries, on_fatal and
 * what needs a new supervisor: state_dir, socket, pid_file, user) concern nobody. */
#ifndef SUPERVISOR_ROSTER_H
#define SUPERVISOR_ROSTER_H

#include "common/base/settings.h"
#include "supervisor/process.h"

struct roster_place {
    enum process_kind kind;
    int number; /* as process_new takes it: 0 for all but workers */
    char name[PROCESS_NAME_SIZE];
};

struct roster {
    struct roster_place *places;
    size_t len;
};

void roster_plan(struct roster *roster, const struct settings *settings, int64_t workers);
bool roster_has(const struct roster *roster, const struct process *process);
void roster_free(struct roster *roster);

bool roster_concerned(const struct settings *before, const struct settings *after,
                      enum process_kind kind, const char *name);

#endif
