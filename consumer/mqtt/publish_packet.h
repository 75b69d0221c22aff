/* The bytes of a PUBLISH with a packet id, as the broker sent them: MQTT 3.1.1 and MQTT 5, section 3.3. Pure. */
#ifndef CONSUMER_MQTT_PUBLISH_PACKET_H
#define CONSUMER_MQTT_PUBLISH_PACKET_H

#include "common/base/bytes.h"

/* All of it points into the packet. */
struct publish_packet {
    struct bytes topic;
    uint16_t packet_id;
    struct bytes properties; /* MQTT 5's, without their length */
    struct bytes payload;
};

/* packet: what is behind the fixed header. false: it is no PUBLISH. */
bool publish_packet_parse(struct publish_packet *publish, struct bytes packet, bool five);

/* The Subscription Identifiers among the properties, at most max of them; how many. What stands behind a
 * property that a PUBLISH can't have is not looked at. */
size_t publish_packet_ids(struct bytes properties, uint32_t *ids, size_t max);

#endif
