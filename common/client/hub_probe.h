/* Can the Mercure hub be published to? One private update to a topic of our own that nobody reads: what
 * passes for it passes for messages too. A token for some topics only is good as well. */
#ifndef COMMON_CLIENT_HUB_PROBE_H
#define COMMON_CLIENT_HUB_PROBE_H

#include "common/client/hub.h"

/* Its topic, and its id as hub_send takes it. */
#define HUB_PROBE_ID BYTES("urn:mqtt-bridge:probe")

void hub_probe_form(struct buf *form);

/* Blocking. 0 if it passed, or if the token is for other topics. -ERR_UNREACHABLE: no answer within timeout_ms, or one that says "later" (408,
 * 425, 429, 5xx); -ERR_REFUSED: any other answer; -ERR_USAGE: the token's settings can't work. err names the
 * address and never shows a secret. */
MUST_CHECK int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms,
                             struct error *err);

/* What its result means: 0, -ERR_UNREACHABLE or -ERR_REFUSED. Pure. */
MUST_CHECK int hub_probe_judge(const struct hub_result *result, struct error *err);

#endif
