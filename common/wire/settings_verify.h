/* What the settings mean to the codecs, once their own form is good: topic filters, connection strings, the
 * hub's key. So bad ones are refused before anything starts, or a reload changes anything. Pure: no file,
 * no server. */
#ifndef COMMON_WIRE_SETTINGS_VERIFY_H
#define COMMON_WIRE_SETTINGS_VERIFY_H

#include "common/base/settings.h"

/* A settings_verifier: appends a line for each fault, "etc/x.ini:12: [mqtt] topics: …". */
void settings_verify(const struct settings *settings, struct buf *faults);

/* The rule of jwt_secret by itself: that there is one, and that it is long enough for jwt_algorithm.
 * Good where a jwt is given, or the algorithm has no secret. -ERR_USAGE, err names the setting. */
MUST_CHECK int settings_verify_secret(const struct settings_mercure *mercure, struct error *err);
/* Likewise of the failure transport's dsn. Good where it is empty. */
MUST_CHECK int settings_verify_failure(const struct settings_failure *failure, struct error *err);

#endif
