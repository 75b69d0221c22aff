/* check: what is still to be told of settings that are good by themselves, before anything starts.
 *
 * check_settings finds keys and files that can't be used, and what is weaker than it looks; it connects to nothing. With
 * --connect each server is tried in turn, blocking: check_broker.h, check_redis.h. One that is silent, or whose name is not
 * looked up, costs some seconds and not more. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "common/settings/settings.h"

struct check_report {
    struct buf faults;   /* a line each: the bridge can't run like this */
    struct buf warnings; /* a line each: it can, but somebody should know */
};

void check_settings(const struct settings *settings, struct check_report *report);
void check_report_free(struct check_report *report);

#endif
