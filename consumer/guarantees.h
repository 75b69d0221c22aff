/* The line at start that says what is promised, and a warning for each part that is weaker than it
 * looks: what the broker granted, how the spool writes, how Redis keeps. */
#ifndef CONSUMER_GUARANTEES_H
#define CONSUMER_GUARANTEES_H

#include "common/client/queue.h"
#include "common/settings/settings.h"
#include "consumer/mqtt/session.h"

/* Once, when broker and Redis are both connected for the first time. */
void guarantees_log(const struct settings *settings, const struct settings_mqtt *mqtt,
                    const struct session_facts *facts, const struct queue_server *server);

#endif
