/* Entries into the streams of the settings' transports, each under a guard: whatever is sent twice under one
 * guard within seven days is in the stream once. Blocking; a transport is connected to when it is first needed. */
#ifndef CLI_REDRIVER_H
#define CLI_REDRIVER_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

struct redriver;

struct redriver *redriver_new(const struct settings *settings);
void redriver_free(struct redriver *redriver);

struct redriver_transport; /* owned by the redriver */

/* Connected. -ERR_NOT_FOUND: the settings have none of that name; else as queue_connect. */
MUST_CHECK int redriver_open(struct redriver *redriver, struct bytes name,
                             struct redriver_transport **transport, struct error *err);
bool redriver_wraps(
    const struct redriver_transport *transport); /* envelope_join's redis_serialized */
int64_t redriver_max_entry(const struct redriver_transport *transport);

struct redriver_answer {
    struct redriver_transport *transport;
    bool added; /* false: it had been sent before */
    int result;
    struct error err;
};

/* Sends; the answer is there after redriver_wait. Both must live until then. In order for one transport. */
void redriver_send(struct redriver_transport *transport, const char *guard, struct bytes value,
                   struct redriver_answer *answer);
/* Until all that was sent is answered. */
void redriver_wait(struct redriver *redriver);

#endif
