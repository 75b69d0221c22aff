#include "consumer/dispatch/mark_report.h"

#include "common/base/log.h"

#include <inttypes.h>

void mark_report(const struct mark_result *rewound, struct bytes mark, const char *place)
{
    uint64_t again = rewound->replayed;
    const struct log_field *fields =
        LOG_WITH(log_bytes("mark", mark), log_number("position", (int64_t)rewound->position));

    switch (rewound->kind) {
    case MARK_IN_STEP:
        log_debug(fields, "%s: the mark is where the spool is", place);
        break;
    case MARK_AHEAD:
        log_info(fields, "%s: has more than was known here: going on behind it", place);
        break;
    case MARK_BEHIND:
        if (again > 0)
            log_notice(fields,
                       "%s: has lost %" PRIu64 " messages that it had taken: sending them again",
                       place, again);
        break;
    case MARK_GAP:
        log_error(fields,
                  "%s: has lost messages that it had taken; up to %" PRIu64 " of them are no "
                  "longer kept ([spool] retain) and are lost, %" PRIu64 " are sent again",
                  place, rewound->missing, again);
        break;
    case MARK_UNKNOWN_RUN:
        log_warning(fields,
                    "%s: the mark is not one that this spool has set (the spool is older than it, "
                    "or was made anew): everything kept is sent again, repeats are possible",
                    place);
        break;
    case MARK_COPIED: /* the spool has said it */
        break;
    }
}
