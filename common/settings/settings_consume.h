/* The options of messenger:consume as [worker] options has them, with PHP's meaning. */
#ifndef COMMON_SETTINGS_SETTINGS_CONSUME_H
#define COMMON_SETTINGS_SETTINGS_CONSUME_H

#include "common/base/bytes.h"
#include "common/settings/settings.h"

/* Appends one line a fault to faults, each behind `prefix`, and goes on; true if there was none. */
bool settings_consume_parse(struct settings_consume *consume, struct bytes options,
                            const char *prefix, struct buf *faults);

#endif
