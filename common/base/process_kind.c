#include "common/base/process_kind.h"

#include <string.h>

const char *const PROCESS_KIND_NAMES[PROCESS_KINDS] = {[PROCESS_CONSUMER] = "consumer",
                                                       [PROCESS_WORKER] = "worker",
                                                       [PROCESS_MONITOR] = "monitor",
                                                       [PROCESS_SUPERVISOR] = "supervisor"};

enum process_kind process_kind_of(const char *name)
{
    for (unsigned kind = 0; kind < PROCESS_KINDS; kind++) {
        size_t len = strlen(PROCESS_KIND_NAMES[kind]);

        if (strncmp(name, PROCESS_KIND_NAMES[kind], len) == 0 &&
            (name[len] == '\0' || name[len] == ':'))
            return kind;
    }
    return PROCESS_UNKNOWN;
}

const char *process_kind_section(const char *name)
{
    const char *colon = strchr(name, ':');

    return colon != NULL ? colon + 1 : "";
}
