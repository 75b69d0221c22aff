/* Messages between the broker's PUBLISH and our acknowledgement: what the MQTT library calls when one
 * arrives. Each is in the spool before the library may acknowledge it.
 *
 * QoS 0 and 1: paho (1.3.10 and later) calls messageArrived in its receive thread before it sends
 * PUBACK, as long as no call ever returned 0 (a 0 queues in memory and acknowledges all the same).
 * QoS 2: messageArrived is no place for it. Under MQTT 3.1.1 paho calls it only at PUBREL, long after PUBREC;
 * under MQTT 5 before PUBREC, but not for a packet id whose PUBREL has not come yet. So both versions go into
 * the spool from the persistence's `put`, which runs for each PUBLISH, as it came, before PUBREC. `remove` runs
 * at PUBREL before PUBCOMP, for the ids that paho knows: a new handle asks for them by `keys` and `get`, and is
 * given a stub of each that the spool has as unreleased. So QoS 2 is exactly once over broken connections, other
 * servers and versions and the end of the process, as long as the broker keeps its session.
 *
 * What comes under a packet id whose last message had the same topic and payload:
 *
 *     DUP, QoS 2, not released      is that message: it is not stored again
 *     DUP                           is stored again, under the identity of the first copy
 *     no DUP, in a resumed session  likewise, the first time in a connection, unless the packet ids have been
 *                                   round since: a broker set back to a snapshot sends as new what was in it
 *     else                          is a message of its own
 *
 * A repeat is not left out where the broker may have given the id to a new message of the same bytes: then a
 * page takes one for the other, and nothing is lost.
 *
 * In a session that another program made, topics are collected, for its filters to be found by (inherited.h).
 *
 * All of it runs under the library's global lock, in its receive thread: nothing here blocks on
 * anything but the disk, and calls nothing of paho's but its allocation functions. If the spool can't take a
 * message the process ends at once, without acknowledging it: the broker keeps it. */
#ifndef CONSUMER_MQTT_RECEIVER_H
#define CONSUMER_MQTT_RECEIVER_H

#include "common/base/stats.h"
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
/* Messages that have arrived, and those of them that no filter of ours wants. Any thread. */
uint64_t receiver_count(const struct receiver *receiver);
uint64_t receiver_unwanted(const struct receiver *receiver);
/* A topic that has arrived in a session whose filters we don't know, to be freed; NULL: none. Any thread. */
char *receiver_take_topic(struct receiver *receiver);

/* A handle is going to be made (main), and its CONNACK has come (in the library's thread). */
void receiver_connecting(struct receiver *receiver, int version);
void receiver_connected(struct receiver *receiver, bool session_present);

/* The messageArrived callback; the context is the receiver. */
int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message);
/* For MQTTCLIENT_PERSISTENCE_USER, with either version. */
MQTTClient_persistence *receiver_persistence(struct receiver *receiver);

#endif
