/* Points in time as an operator writes them: `90s`, `15m`, `2h`, `7d`, `1w`, `1d12h` (ago), `now`, `today`,
 * `yesterday`, `2026-11-24`, `2026-11-24T10:00[:00[.5]]` (a blank for the T is as good), in UTC or with `Z`,
 * `+02:00` behind. Pure. */
#ifndef CLI_MOMENT_H
#define CLI_MOMENT_H

#include "common/base/bytes.h"
#include "common/base/error.h"

/* Unix µs, after 1970. -ERR_USAGE names the text and the forms. */
MUST_CHECK int moment_parse(struct bytes text, int64_t now_us, int64_t *us, struct error *err);

#endif
