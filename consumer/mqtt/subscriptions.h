/* What a consumer subscribes to, and what the broker's session of it is subscribed to.
 *
 * The list comes from the settings; a filter that another covers, with at least its QoS, is left out (shared
 * ones only within one share). Filters that overlap in part bring a copy each: nothing in the protocol tells
 * such a copy from a second message, so they are two messages.
 *
 * The broker's session has, of each filter:
 *
 *                                       NONE      ASKED     GRANTED
 *     CONNACK without session present   -         NONE      NONE
 *     CONNECT was sent, without answer  -         -         ASKED     that session may be a new one
 *     SUBSCRIBE is going to be sent     ASKED     -         -
 *     SUBACK grants it                  GRANTED   GRANTED   GRANTED
 *     SUBACK refuses it                 ASKED     ASKED     ASKED     it may have been granted before
 *
 * A file keeps it over the end of the process, written before what it tells of leaves: filters before SUBSCRIBE,
 * and before CONNECT that it is outstanding (where the file says so still, nothing in it counts as granted). What the file
 * has and the settings no longer have is gone: to be unsubscribed. It says as well whose the session is, and
 * which servers have accepted MQTT 5.
 *
 * Main's, but for subscriptions_match, which reads what never changes. */
#ifndef CONSUMER_MQTT_SUBSCRIPTIONS_H
#define CONSUMER_MQTT_SUBSCRIPTIONS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/settings.h"

enum filter_state { FILTER_NONE, FILTER_ASKED, FILTER_GRANTED };

struct filter {
    char *text; /* as subscribed: with $share/NAME/ where it has one */
    int qos;    /* asked for */
    enum filter_state state;
    int granted; /* QoS, if it is FILTER_GRANTED */
    int refusal; /* the code of the last SUBACK, if it refused; else 0 */
    bool shared;
};

/* Who made the broker's session. */
enum session_origin {
    ORIGIN_UNKNOWN,  /* not we: it may have filters that we don't know (inherited.h) */
    ORIGIN_EXAMINED, /* not we, but those were looked for */
    ORIGIN_OURS,
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
void subscriptions_ask(struct subscriptions *filters); /* all that are not granted */
void subscriptions_answer(struct subscriptions *filters, size_t index, int code);

/* In the file, and no longer in the settings. */
size_t subscriptions_gone_count(const struct subscriptions *filters);
const char *subscriptions_gone_at(const struct subscriptions *filters, size_t index);
void subscriptions_forget_gone(struct subscriptions *filters, const char *text);

enum session_origin subscriptions_origin(const struct subscriptions *filters);
void subscriptions_set_examined(struct subscriptions *filters);

/* place: host:port of a server. */
bool subscriptions_accepts_5(const struct subscriptions *filters, const char *place);
void subscriptions_note_5(struct subscriptions *filters, const char *place);

/* Writes the file if there is something new. If it can't be written there is none: what was granted is asked
 * again then. */
MUST_CHECK int subscriptions_save(struct subscriptions *filters, struct error *err);

#endif
