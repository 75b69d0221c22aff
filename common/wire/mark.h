/* The mark: how far Redis has got with a spool, `<run, 16 hex digits>:<sequence>`. Pure; what it means is in
 * docs/SPOOL.md, section "Mark". */
#ifndef COMMON_WIRE_MARK_H
#define COMMON_WIRE_MARK_H

#include "common/base/bytes.h"

/* No spool reaches this sequence: a mark above it is damaged. */
#define MARK_SEQUENCE_MAX (UINT64_C(1) << 62)

struct mark {
    uint64_t run;
    uint64_t sequence;
};

/* False, with a mark of zeros, if the text is no mark. */
bool mark_parse(struct bytes text, struct mark *mark);

#endif
