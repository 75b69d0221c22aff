#include "consumer/mqtt/publish_packet.h"

/* Section 2.2.2.2. */
enum property {
    PAYLOAD_FORMAT = 0x01,
    MESSAGE_EXPIRY = 0x02,
    CONTENT_TYPE = 0x03,
    RESPONSE_TOPIC = 0x08,
    CORRELATION_DATA = 0x09,
    SUBSCRIPTION_IDENTIFIER = 0x0b,
    TOPIC_ALIAS = 0x23,
    USER_PROPERTY = 0x26,
};

static bool take(struct bytes *rest, size_t len, struct bytes *taken)
{
    if (rest->len < len)
        return false;
    *taken = bytes_slice(*rest, 0, len);
    *rest = bytes_slice(*rest, len, rest->len - len);
    return true;
}

static bool take_two_bytes(struct bytes *rest, uint16_t *value)
{
    struct bytes two;

    if (!take(rest, 2, &two))
        return false;
    *value = (uint16_t)((unsigned char)two.data[0] << 8 | (unsigned char)two.data[1]);
    return true;
}

/* A text, or binary data: its length in two bytes, then the bytes. */
static bool take_data(struct bytes *rest, struct bytes *data)
{
    uint16_t len;

    return take_two_bytes(rest, &len) && take(rest, len, data);
}

/* A Variable Byte Integer: seven bits a byte, the lowest first, at most four bytes. */
static bool take_variable(struct bytes *rest, uint32_t *value)
{
    struct bytes one;

    *value = 0;
    for (int shift = 0; shift < 28; shift += 7) {
        if (!take(rest, 1, &one))
            return false;
        *value |= (uint32_t)(one.data[0] & 0x7f) << shift;
        if ((one.data[0] & 0x80) == 0)
            return true;
    }
    return false;
}

bool publish_packet_parse(struct publish_packet *publish, struct bytes packet, bool five)
{
    struct bytes rest = packet;
    uint32_t properties_len;

    *publish = (struct publish_packet){0};
    if (!take_data(&rest, &publish->topic) || !take_two_bytes(&rest, &publish->packet_id))
        return false;
    if (five && (!take_variable(&rest, &properties_len) ||
                 !take(&rest, properties_len, &publish->properties)))
        return false;
    publish->payload = rest;
    return true;
}

static bool skip(struct bytes *rest, int property)
{
    struct bytes skipped, value;

    switch (property) {
    case PAYLOAD_FORMAT:
        return take(rest, 1, &skipped);
    case TOPIC_ALIAS:
        return take(rest, 2, &skipped);
    case MESSAGE_EXPIRY:
        return take(rest, 4, &skipped);
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
    case CORRELATION_DATA:
        return take_data(rest, &skipped);
    case USER_PROPERTY:
        return take_data(rest, &skipped) && take_data(rest, &value);
    default:
        return false;
    }
}

size_t publish_packet_ids(struct bytes properties, uint32_t *ids, size_t max)
{
    struct bytes rest = properties, identifier;
    size_t count = 0;

    while (count < max && take(&rest, 1, &identifier)) {
        if (identifier.data[0] != SUBSCRIPTION_IDENTIFIER) {
            if (!skip(&rest, identifier.data[0]))
                break;
        } else if (take_variable(&rest, &ids[count])) {
            count++;
        } else {
            break;
        }
    }
    return count;
}
