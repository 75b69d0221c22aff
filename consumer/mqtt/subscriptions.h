/* What a consumer subscribes to, and what the broker's session may still be subscribed to.
 *
 * The list comes from the settings, highest QoS first; in that order the filters are subscribed, each
 * with a Subscription Identifier of its own. A broker sends a message once for every filter that
 * matches (MQTT 5, section 3.3.4): filters_keep takes the copy of the first one that does. Because of
 * the order, a copy that bears the identifier of a later filter proves that the earlier ones were
 * subscribed too when the message came by: the other copy exists.
 *
 * The set is kept in a file in the spool's directory, as long as the session in the broker. It says
 * which filters the settings no longer have (they are unsubscribed), whether the set is the same (MQTT
 * 3.1.1 then need not subscribe again, which would bring every retained message again), and the
 * identifiers: a changed set gets new ones, so that a message which was queued under the former set is
 * never mistaken for a copy.
 *
 * One thread, or one lock around it: filters_granted and filters_keep run in the MQTT library's
 * callbacks, which it serialises; everything else runs while there is no connection, or before
 * filters_granted can run. */
#ifndef CONSUMER_MQTT_SUBSCRIPTIONS_H
#define CONSUMER_MQTT_SUBSCRIPTIONS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/settings.h"

#define FILTER_REFUSED (-1)

struct filter {
    char *text;  /* as subscribed: with $share/NAME/ where it has one */
    int qos;     /* asked for */
    int granted; /* FILTER_REFUSED until the broker has said yes */
    uint32_t id; /* Subscription Identifier */
    bool shared; /* other clients get some of its messages: it has no part in filters_keep */
};

struct subscriptions;

/* Reads the settings' topics and the file at path, which need not exist. -ERR_USAGE, -ERR_SYSTEM. */
MUST_CHECK int subscriptions_new(struct subscriptions **filters,
                                 const struct settings_mqtt *settings, const char *path,
                                 struct error *err);
void subscriptions_free(struct subscriptions *filters);

size_t subscriptions_count(const struct subscriptions *filters);
const struct filter *subscriptions_at(const struct subscriptions *filters, size_t index);

/* Subscribed once, no longer in the settings. */
size_t subscriptions_stale_count(const struct subscriptions *filters);
const char *subscriptions_stale_at(const struct subscriptions *filters, size_t index);
void subscriptions_forget_stale(struct subscriptions *filters);

/* Same set as in the file, all of it granted: a session that is present has it. */
bool subscriptions_are_known(const struct subscriptions *filters);

void subscriptions_granted(struct subscriptions *filters, size_t index, int qos_or_refused);

/* Is this copy, which bears these Subscription Identifiers, the one to keep? */
bool subscriptions_keep(const struct subscriptions *filters, struct bytes topic,
                        const uint32_t *ids, size_t ids_len);

/* Writes the file anew: after the broker's answers, and before they are asked for (a set that may have
 * been subscribed must be remembered). */
MUST_CHECK int subscriptions_save(struct subscriptions *filters, struct error *err);

#endif
