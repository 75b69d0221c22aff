/* Can the Mercure hub be published to? One blocking request that publishes nothing: a POST with the
 * publisher's token and no topic. A hub whose token is right answers 400 to that. */
#ifndef COMMON_CLIENT_HUB_PROBE_H
#define COMMON_CLIENT_HUB_PROBE_H

#include "common/base/error.h"
#include "common/base/settings.h"

/* 0 if so. -ERR_UNREACHABLE: no answer within timeout_ms, or one that says "later" (429, 5xx);
 * -ERR_REFUSED: it answers, but not as a hub that takes our token does (401, 404, a redirect);
 * -ERR_USAGE: the token's settings can't work. err names the address and never shows a secret. */
MUST_CHECK int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms,
                             struct error *err);

/* What that answer means: 0, -ERR_UNREACHABLE or -ERR_REFUSED. Pure. */
MUST_CHECK int hub_probe_judge(long status, const char *url, struct error *err);

#endif
