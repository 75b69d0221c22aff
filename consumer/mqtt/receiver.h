/* Messages between the broker's PUBLISH and our acknowledgement: what the MQTT library calls when one
 * arrives. Each is in the spool before the library may acknowledge it.
 *
 * QoS 0 and 1: paho (1.3.10 and later) calls messageArrived in its receive thread before it sends
 * PUBACK, as long as no call ever returned 0 (a 0 queues in memory and acknowledges all the same).
 * QoS 2: messageArrived is no place for it. Under MQTT 3.1.1 paho calls it only at PUBREL, long after PUBREC;
 * under MQTT 5 before PUBREC, but not at all for a packet id whose PUBREL has not come yet, and a broker that
 * is back with an older state of the session gives such an id to a new message. So both versions go into the
 * spool from the persistence's `put`, which runs for each PUBLISH, as it came, before PUBREC. A repeat is
 * recognised by its packet id (not released), DUP, and the same topic and payload: it is not stored again. What
 * comes under that id without DUP, or with other bytes, is a message of its own.
 * The table of unreleased ids does not survive the death of this process, nor a new handle (another server
 * or version): QoS 2 is exactly once over broken connections to the same server, and at least once over the
 * end of the process and such a change. What is missing is that table on disk, as RELEASE records in the
 * spool; `put`, `remove` and `keys` are where they go.
 *
 * What the broker sends again after our death or a broken connection (it never saw our acknowledgement), and
 * is not recognised as above, is stored again, under the identity of the first copy: packet id and bytes are
 * those of a message that the spool has seen just before, and DUP is set (at QoS 2 the first messages of a
 * resumed session count as sent again without it: a broker that was set back to a snapshot sends as new what
 * was queued in it). It is not left out, because a broker may give a packet id to a new message of the same
 * bytes: then a page takes one for the other, and nothing is lost.
 *
 * All of it runs under the library's global lock, in its receive thread: nothing here blocks on
 * anything but the disk, and calls nothing of paho's but its free functions. If the spool can't take a
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

/* The broker has no session of ours: nothing that comes can be a repeat. */
void receiver_session_is_new(struct receiver *receiver);
/* It has one: what it sends first may be repeats. */
void receiver_session_goes_on(struct receiver *receiver);
/* The largest packet to be announced: that one, or less if the spool is too small for it. */
int64_t receiver_limit(const struct receiver *receiver, int64_t wanted);

/* The messageArrived callback; the context is the receiver. */
int receiver_arrived(void *context, char *topic, int topic_len, MQTTAsync_message *message);
/* For MQTTCLIENT_PERSISTENCE_USER, with either version. */
MQTTClient_persistence *receiver_persistence(struct receiver *receiver);

#endif
