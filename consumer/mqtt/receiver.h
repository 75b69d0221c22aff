/* Messages between the broker's PUBLISH and our acknowledgement: what the MQTT library calls when one
 * arrives. Each is in the spool before the library may acknowledge it.
 *
 * QoS 0 and 1: paho (1.3.10 and later) calls messageArrived in its receive thread before it sends
 * PUBACK, as long as no call ever returned 0 (after a 0 it queues in memory and acknowledges all the same).
 * QoS 2 can't be stored there: under MQTT 3.1.1 paho calls messageArrived at PUBREL, long after PUBREC; under
 * MQTT 5 before PUBREC, but not for a packet id that is unreleased. Both are stored by the persistence's `put`,
 * which runs for each PUBLISH before PUBREC. `remove` runs at PUBREL before PUBCOMP, for the ids that paho knows:
 * a new handle asks for them by `keys` and `get`, and gets a stub of each that is unreleased in the spool. So
 * QoS 2 is exactly once over broken connections, other servers and versions and the end of the process, as long
 * as the broker keeps its session.
 *
 * What comes under a packet id whose last message had the same topic and payload:
 *
 *     DUP, QoS 2, not released      is that message: it is not stored again
 *     DUP                           is stored again, under the identity of the first copy
 *     no DUP, in a resumed session  likewise, if it is the first of this id in the connection and fewer than 65,535
 *                                   messages came since: a broker that was set back sends its snapshot as new
 *     else                          is a message of its own
 *
 * A repeat is stored again wherever it may be a new message of the same bytes under the same id. By its identity a
 * page then takes one for the other, and nothing is lost.
 *
 * Of a session that another program made the first message is told that no filter of ours matches.
 *
 * All of it runs under the library's global lock, in its receive thread: nothing here blocks on
 * anything but the disk, and calls nothing of paho's but its allocation functions. If the spool can't take a
 * message the process ends at once, without acknowledging it: the broker keeps it. */
#ifndef CONSUMER_MQTT_RECEIVER_H
#define CONSUMER_MQTT_RECEIVER_H

#include "common/runtime/stats.h"
#include "consumer/mqtt/subscriptions.h"
#include "consumer/spool/spool.h"

#include <MQTTAsync.h>

struct receiver;

/* None of the three is owned. */
struct receiver *receiver_new(struct spool *spool, const struct subscriptions *filters,
                              struct stats_slot *slot);
void receiver_free(struct receiver *receiver);

/* The largest packet to be announced: that one, or less if the spool is too small for it. */
int64_t receiver_limit(const struct receiver *receiver, int64_t wanted);

/* A handle is going to be made (main), and its CONNACK has come (in the library's thread). */
void receiver_connecting(struct receiver *receiver, int version);
void receiver_connected(struct receiver *receiver, bool session_present);

/* The messageArrived callback; the context is the receiver. */
int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message);
/* For MQTTCLIENT_PERSISTENCE_USER, with either version. */
MQTTClient_persistence *receiver_persistence(struct receiver *receiver);

/* The bytes of a PUBLISH with a packet id: MQTT 3.1.1 and MQTT 5, section 3.3. Pure. */

/* All of it points into the packet. */
struct receiver_publish {
    struct bytes topic;
    uint16_t packet_id;
    struct bytes payload;
};

/* packet: what is behind the fixed header. false: it is no PUBLISH. */
bool receiver_parse_publish(struct receiver_publish *publish, struct bytes packet, bool five);

/* The smallest QoS 2 PUBLISH with this packet id, fixed header and all. Returns its length. */
#define RECEIVER_STUB_MAX 8
size_t receiver_make_stub(unsigned char stub[RECEIVER_STUB_MAX], uint16_t packet_id, bool five);

#endif
