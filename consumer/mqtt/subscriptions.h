/* What a consumer subscribes to, and what the broker's session of it is subscribed to.
 *
 * The list comes from the settings; a filter that another covers, with at least its QoS, is left out (shared
 * ones only within one share). Filters that overlap in part bring a copy each: nothing in the protocol tells
 * such a copy from a second message, so they are two messages.
 *
 * What the broker's session has granted of it:
 *
 *     SUBACK                            this filter, or not
 *     CONNACK without session present   nothing, and nothing is left to be unsubscribed
 *     CONNECT was sent, without answer  nothing: that session may be a new one
 *
 * A file keeps it over the end of the process. It is written before CONNECT leaves, without what is granted, and again
 * when there is an answer, or none can come. What the file has and the settings no longer have is gone:
 * to be unsubscribed. So are the filters of [mqtt] former_topics, once for each text of that setting, where a session
 * is present: another program may have made it. The file says as well whether a server has accepted MQTT 5.
 *
 * Main's, but for subscriptions_match, which reads what never changes, and subscriptions_answer, which main leaves to
 * the library's thread while it waits for SUBACKs. */
#ifndef CONSUMER_MQTT_SUBSCRIPTIONS_H
#define CONSUMER_MQTT_SUBSCRIPTIONS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

struct filter {
    char *text;  /* as subscribed: with $share/NAME/ where it has one */
    int qos;     /* asked for */
    int granted; /* QoS; -1: none that is known */
    int refusal; /* the code of the last SUBACK, if it refused; else 0 */
    bool shared;
};

struct subscriptions;

/* Reads the settings' topics and the file at path, which need not exist. -ERR_USAGE, -ERR_SYSTEM. */
MUST_CHECK int subscriptions_new(struct subscriptions **filters,
                                 const struct settings_mqtt *settings, const char *path,
                                 struct error *err);
void subscriptions_free(struct subscriptions *filters);

size_t subscriptions_count(const struct subscriptions *filters);
const struct filter *subscriptions_at(const struct subscriptions *filters, size_t index);
const char *subscriptions_refused(const struct subscriptions *filters, int *code); /* NULL: none */
bool subscriptions_all_granted(const struct subscriptions *filters);
bool subscriptions_match(const struct subscriptions *filters, struct bytes topic); /* any of them */

/* The events of the table. Whoever tells of one saves. */
void subscriptions_connecting(struct subscriptions *filters);
void subscriptions_not_connected(struct subscriptions *filters, bool unanswered);
void subscriptions_connected(struct subscriptions *filters, bool session_present);
void subscriptions_answer(struct subscriptions *filters, size_t index, int code);

/* To be unsubscribed; NULL: there are no more. */
const char *subscriptions_gone_at(const struct subscriptions *filters, size_t index);
void subscriptions_forget_gone(struct subscriptions *filters, const char *text);

/* A session of ours is known: one that was made for us, or that we have taken over from another program. */
bool subscriptions_has_session(const struct subscriptions *filters);

/* A server has accepted MQTT 5, of the cluster that the settings name. */
bool subscriptions_accepted_5(const struct subscriptions *filters);
void subscriptions_note_5(struct subscriptions *filters);

/* Writes the file if there is something new. If it can't be written there is none: what was granted is asked
 * again then. */
MUST_CHECK int subscriptions_save(struct subscriptions *filters, struct error *err);

#endif
