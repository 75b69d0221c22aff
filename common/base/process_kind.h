/* The kinds of the bridge's processes, and how a process is named: "consumer" ([mqtt]), "consumer:garden"
 * ([consumer:garden]), "worker", "monitor", "supervisor". Several workers have one name, and a number each. */
#ifndef COMMON_BASE_PROCESS_KIND_H
#define COMMON_BASE_PROCESS_KIND_H

enum process_kind {
    PROCESS_CONSUMER,
    PROCESS_WORKER,
    PROCESS_MONITOR,
    PROCESS_SUPERVISOR,
    PROCESS_UNKNOWN, /* another name, or "" */
};
#define PROCESS_KINDS PROCESS_UNKNOWN

extern const char *const PROCESS_KIND_NAMES[PROCESS_KINDS]; /* "consumer" */

/* Reads at most the longest kind's length and one byte of a name that a child may have spoilt. */
enum process_kind process_kind_of(const char *name);
/* What is behind the colon, "garden", or "". Points into name. */
const char *process_kind_section(const char *name);

#endif
