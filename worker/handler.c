#include "worker/handler.h"

#include "common/base/alloc.h"
#include "common/wire/update.h"

#include <stdlib.h>
#include <string.h>

/* A larger document's memory is not kept: one such message would cost it for good. */
#define KEPT_MAX (1024 * 1024)

struct handler {
    struct bytes topic_template;
    bool encode_topic;
    bool bare_payload;
    bool private_updates;
    struct buf topic;
    struct buf encoded;
    struct buf data;
    struct buf id;
};

struct handler *handler_new(const struct settings_mercure *settings)
{
    struct handler *handler = xcalloc(1, sizeof(*handler));

    handler->topic_template = bytes_of(settings->topic_template);
    handler->encode_topic = strcmp(settings->topic_encoding, "uri") == 0;
    handler->bare_payload = strcmp(settings->data, "payload") == 0;
    handler->private_updates = settings->private_updates;
    return handler;
}

void handler_free(struct handler *handler)
{
    if (handler == NULL)
        return;
    buf_free(&handler->topic);
    buf_free(&handler->encoded);
    buf_free(&handler->data);
    buf_free(&handler->id);
    free(handler);
}

static struct bytes published_topic(struct handler *handler, struct bytes topic)
{
    if (handler->encode_topic) {
        buf_clear(&handler->encoded);
        update_encode_topic(&handler->encoded, topic);
        topic = buf_bytes(&handler->encoded);
    }
    buf_clear(&handler->topic);
    update_expand_topic(&handler->topic, handler->topic_template, topic);
    return buf_bytes(&handler->topic);
}

static int make_form(const struct handler *handler, struct bytes topic, struct buf *form,
                     struct error *err)
{
    struct update update = {.topic = topic,
                            .data = buf_bytes(&handler->data),
                            .private_update = handler->private_updates,
                            .id = buf_bytes(&handler->id)};
    int result = update_check(&update, err);

    if (result == 0)
        update_form(form, &update);
    return result;
}

int handler_update(struct handler *handler, const struct entry *entry, struct buf *form,
                   struct bytes *id, struct error *err)
{
    const struct envelope *envelope = &entry->envelope;

    if (update_check_size(envelope->topic, envelope->payload, err) < 0)
        return -(int)err->code;
    buf_clear(&handler->id);
    buf_append(&handler->id, BYTES("urn:mqtt-bridge:"));
    buf_append(&handler->id, entry->identity);
    buf_clear(&handler->data);
    if (handler->bare_payload)
        buf_append(&handler->data, envelope->payload);
    else
        update_document(&handler->data, entry->identity, envelope->topic, envelope->payload,
                        envelope->received_us);
    *id = buf_bytes(&handler->id);
    int result = make_form(handler, published_topic(handler, envelope->topic), form, err);
    if (handler->data.capacity > KEPT_MAX)
        buf_free(&handler->data);
    return result;
}

void handler_probe(struct buf *form, struct bytes *id)
{
    struct update update = {
        .topic = HANDLER_PROBE_TOPIC, .private_update = true, .id = HANDLER_PROBE_TOPIC};

    update_form(form, &update);
    *id = update.id;
}
