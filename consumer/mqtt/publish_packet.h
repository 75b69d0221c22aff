/* The bytes of a PUBLISH with a packet id: MQTT 3.1.1 and MQTT 5, section 3.3. Pure. */
#ifndef CONSUMER_MQTT_PUBLISH_PACKET_H
#define CONSUMER_MQTT_PUBLISH_PACKET_H

#include "common/base/bytes.h"

/* All of it points into the packet. */
struct publish_packet {
    struct bytes topic;
    uint16_t packet_id;
    struct bytes payload;
};

/* packet: what is behind the fixed header. false: it is no PUBLISH. */
bool publish_packet_parse(struct publish_packet *publish, struct bytes packet, bool five);

/* The smallest QoS 2 PUBLISH with this packet id, fixed header and all. Returns its length. */
#define PUBLISH_PACKET_STUB_MAX 8
size_t publish_packet_stub(unsigned char stub[PUBLISH_PACKET_STUB_MAX], uint16_t packet_id,
                           bool five);

#endif
