/* The filters that a consumer subscribes to, and those that its session in the broker has granted.
 *
 * The list comes from the settings. A filter that another covers, with at least its QoS, is left out (shared filters
 * only within one share). Filters that overlap in part bring a copy each. Nothing in the protocol tells such a copy
 * from a second message, so they are two messages.
 *
 * What changes the granted filters:
 *
 *     SUBACK                            this filter, or not
 *     CONNACK without session present   nothing, and nothing is left to be unsubscribed
 *     CONNECT was sent, without answer  nothing: that session may be a new one
 *
 * A file keeps the granted filters over the end of the process. It is written before CONNECT leaves, with none granted,
 * and again when an answer has come, or none can come. Filters of the file that the settings no longer have are "gone":
 * to be unsubscribed. The filters of [mqtt] former_topics are unsubscribed too, once for each text of that setting.
 * That needs a session that is present: another program may have made it. The file also says whether a server has
 * accepted MQTT 5.
 *
 * Only main calls these functions, with two exceptions. subscriptions_match reads what never changes. While main waits
 * for SUBACKs, the library's thread calls subscriptions_answer. */
#ifndef CONSUMER_MQTT_SUBSCRIPTIONS_H
#define CONSUMER_MQTT_SUBSCRIPTIONS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/settings/settings.h"

#define SUBSCRIPTIONS_FILE "subscriptions" /* in the client id's folder */

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
bool subscriptions_match(const struct subscriptions *filters, struct bytes topic); /* any filter */

/* The events of the table above. After each the caller calls subscriptions_save. */
void subscriptions_connecting(struct subscriptions *filters);
void subscriptions_not_connected(struct subscriptions *filters, bool unanswered);
void subscriptions_connected(struct subscriptions *filters, bool session_present);
void subscriptions_answer(struct subscriptions *filters, size_t index, int code);

/* To be unsubscribed; NULL: there are no more. */
const char *subscriptions_gone_at(const struct subscriptions *filters, size_t index);
void subscriptions_forget_gone(struct subscriptions *filters, const char *text);

/* The broker has a session that was made for us, or that we have taken over from another program. */
bool subscriptions_has_session(const struct subscriptions *filters);

/* A server of the cluster that the settings name has accepted MQTT 5. */
bool subscriptions_accepted_5(const struct subscriptions *filters);
void subscriptions_note_5(struct subscriptions *filters);

/* Writes the file if something has changed. If that fails the file is removed, so that all filters are subscribed again
 * after the next start. */
MUST_CHECK int subscriptions_save(struct subscriptions *filters, struct error *err);

#endif
