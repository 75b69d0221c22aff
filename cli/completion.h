/* The completion for bash, from the table of verbs. Pure. `make` writes it with `mqtt-bridge help --completion`. */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include "common/base/buf.h"

void completion_bash(struct buf *out);

#endif
