/* The verb `check`: finds faults in settings that are valid by themselves, before anything starts.
 *
 * check_settings finds keys and files that can't be used, and settings that give less than they seem to; it connects to
 * nothing. With --connect each server is tried in turn, blocking: check_broker.h, check_redis.h. A server that does not
 * answer, or whose name can't be looked up, costs a few seconds. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "common/settings/settings.h"

struct check_report {
    struct buf faults;   /* one on each line: the bridge can't run with these settings */
    struct buf warnings; /* one on each line: it can, but the operator should know */
};

void check_settings(const struct settings *settings, struct check_report *report);
void check_report_free(struct check_report *report);

#endif
