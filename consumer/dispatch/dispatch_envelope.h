/* A message of the spool as Messenger's envelope, in the form that the transport's settings ask for. Pure. */
#ifndef CONSUMER_DISPATCH_DISPATCH_ENVELOPE_H
#define CONSUMER_DISPATCH_DISPATCH_ENVELOPE_H

#include "common/base/settings.h"
#include "common/wire/dsn.h"
#include "common/wire/envelope.h"
#include "consumer/spool/spool.h"

/* To be freed with envelope_template_free. */
struct envelope_template *dispatch_envelope_new(const struct settings_transport *transport,
                                                const struct dsn_redis *dsn);
/* Replaces what is in out. The message's identity is "<spool id>-<number>". */
void dispatch_envelope_encode(struct envelope_template *template, const char *spool_id,
                              const struct spool_message *message, struct buf *out);

#endif
