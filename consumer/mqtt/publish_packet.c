#include "consumer/mqtt/publish_packet.h"

static bool take(struct bytes *rest, size_t len, struct bytes *taken)
{
    if (rest->len < len)
        return false;
    *taken = bytes_slice(*rest, 0, len);
    *rest = bytes_slice(*rest, len, rest->len);
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
    struct bytes rest = packet, properties;
    uint16_t topic_len;
    uint32_t properties_len;

    *publish = (struct publish_packet){0};
    if (!take_two_bytes(&rest, &topic_len) || !take(&rest, topic_len, &publish->topic) ||
        !take_two_bytes(&rest, &publish->packet_id))
        return false;
    if (five &&
        (!take_variable(&rest, &properties_len) || !take(&rest, properties_len, &properties)))
        return false;
    publish->payload = rest;
    return true;
}

size_t publish_packet_stub(unsigned char stub[PUBLISH_PACKET_STUB_MAX], uint16_t packet_id,
                           bool five)
{
    const unsigned char bytes[PUBLISH_PACKET_STUB_MAX] = {
        0x34, five ? 6 : 5, 0, 1, '-', (unsigned char)(packet_id >> 8), (unsigned char)packet_id,
        0};

    for (size_t i = 0; i < sizeof(bytes); i++)
        stub[i] = bytes[i];
    return five ? 8 : 7;
}
