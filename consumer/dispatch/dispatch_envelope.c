#include "consumer/dispatch/dispatch_envelope.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct envelope_template *dispatch_envelope_new(const struct settings_transport *transport,
                                                const struct dsn_redis *dsn)
{
    struct envelope_format format = {
        .serializer = strcmp(transport->serializer, "json") == 0 ? ENVELOPE_JSON : ENVELOPE_PHP,
        .visibility = strcmp(transport->properties, "private") == 0     ? ENVELOPE_PRIVATE
                      : strcmp(transport->properties, "protected") == 0 ? ENVELOPE_PROTECTED
                                                                        : ENVELOPE_PUBLIC,
        .message_class = bytes_of(transport->message_class),
        .bus = bytes_of(transport->bus),
        .redis_serialized = dsn->redis_serialized,
        .metadata_headers = transport->metadata_headers,
    };

    return envelope_template_new(&format);
}

void dispatch_envelope_encode(struct envelope_template *template, const char *spool_id,
                              const struct spool_message *message, struct buf *out)
{
    char id[64];
    int id_len = snprintf(id, sizeof(id), "%s-%" PRIu64, spool_id, message->identity);
    struct envelope_message wrapped = {
        .topic = message->topic,
        .payload = message->payload,
        .id = {id, (size_t)id_len},
        .received_us = message->received_us,
        .qos = message->qos,
        .retained = message->retained,
    };

    buf_clear(out);
    envelope_encode(template, &wrapped, out);
}
