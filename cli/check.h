/* What the settings mean to the rooms that use them, before anything starts: DSNs, topic filters, the hub's
 * token, files. Nothing is connected to. */
#ifndef CLI_CHECK_H
#define CLI_CHECK_H

#include "common/base/settings.h"

struct check_report {
    struct buf faults;   /* a line each: the bridge can't run like this */
    struct buf warnings; /* a line each: it can, but somebody should know */
};

void check_settings(const struct settings *settings, struct check_report *report);
void check_report_free(struct check_report *report);

#endif
