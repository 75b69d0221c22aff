/* Stores each message between the broker's PUBLISH and our acknowledgement: the functions that the MQTT library calls
 * when one arrives. The message is in the spool before the library may acknowledge it.
 *
 * QoS 0 and 1: paho (1.3.10 and later) calls messageArrived in its receive thread before it sends PUBACK. That holds as
 * long as no call ever returned 0: after a 0, paho queues in memory and acknowledges anyway.
 * QoS 2 can't be stored in messageArrived. Under MQTT 3.1.1 paho calls it at PUBREL, long after PUBREC; under MQTT 5
 * before PUBREC, but not for a packet id that is unreleased. So QoS 2 is stored by the persistence's `put`, which runs
 * for each PUBLISH before PUBREC. `remove` runs at PUBREL before PUBCOMP, for the ids that paho knows. A new handle
 * asks for these ids by `keys` and `get`, and gets a stub of each that is unreleased in the spool. QoS 2 is therefore
 * exactly once over broken connections, other servers and versions, and the end of the process. It depends on the
 * broker to keep its session.
 *
 * A message under a packet id whose last message had equal topic and payload:
 *
 *     DUP, QoS 2, not released      is that message: not stored again
 *     DUP                           is stored again, with the identity of the first copy
 *     no DUP, in a resumed session  is stored again with that identity too, if it is the first of this id in the
 *                                   connection and fewer than 65,535 messages came since: a broker that was restored
 *                                   from an older snapshot sends its messages as new
 *     else                          is a message of its own
 *
 * A repeat is stored again wherever it may be a new message with equal bytes under an equal id. A page then shows the
 * two as one message, by their identity, and nothing is lost.
 *
 * In a session that another program made, the first message that matches no filter of ours is logged.
 *
 * All of this runs in the library's receive thread, under its global lock. It blocks on nothing but the disk, and calls
 * no functions of paho but those for allocation. If the spool can't take a message, the process ends at once without
 * acknowledging it: the broker keeps the message. */
#ifndef CONSUMER_MQTT_RECEIVER_H
#define CONSUMER_MQTT_RECEIVER_H

#include "common/runtime/stats.h"
#include "consumer/mqtt/subscriptions.h"
#include "consumer/spool/spool.h"

#include <MQTTAsync.h>

struct receiver;

/* The receiver owns none of its arguments. */
struct receiver *receiver_new(struct spool *spool, const struct subscriptions *filters,
                              struct stats_slot *slot);
void receiver_free(struct receiver *receiver);

/* The largest packet size to be announced to the broker: `wanted`, or less if the spool is too small for it. */
int64_t receiver_limit(const struct receiver *receiver, int64_t wanted);

/* Called by main before a handle is made, and by the library's thread when its CONNACK has come. */
void receiver_connecting(struct receiver *receiver, int version);
void receiver_connected(struct receiver *receiver, bool session_present);

/* The messageArrived callback; the context is the receiver. */
int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message);
/* For MQTTCLIENT_PERSISTENCE_USER, with either version. */
MQTTClient_persistence *receiver_persistence(struct receiver *receiver);

/* The bytes of a PUBLISH with a packet id: MQTT 3.1.1 and MQTT 5, section 3.3. Pure. */

/* packet: the bytes behind the fixed header of a PUBLISH with QoS 2, into which the message points. false: it is no
 * valid PUBLISH. */
bool receiver_parse_publish(struct record *message, struct bytes packet, bool five);

/* The smallest QoS 2 PUBLISH with this packet id, fixed header and all. Returns its length. */
#define RECEIVER_STUB_MAX 8
size_t receiver_make_stub(unsigned char stub[RECEIVER_STUB_MAX], uint16_t packet_id, bool five);

#endif
