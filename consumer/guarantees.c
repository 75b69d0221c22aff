#include "consumer/guarantees.h"

#include "common/base/log.h"
#include "common/settings/settings_table.h"

#include <inttypes.h>
#include <string.h>

static const char *from_the_broker(const struct session_facts *facts)
{
    if (facts->lowest_qos == 0)
        return facts->highest_qos == 0 ? "at most once" : "at most once for filters of QoS 0";
    return facts->lowest_qos == 2 ? "exactly once while it keeps the session" : "at least once";
}

static const char *spool_survives(const struct settings_spool *spool)
{
    switch (spool->sync) {
    case SPOOL_SYNC_NONE:
        return "crash";
    case SPOOL_SYNC_INTERVAL:
        return "crash; power cut but for a second";
    case SPOOL_SYNC_ALWAYS:
        return "power cut";
    }
    return "";
}

static const char *known(const char *text)
{
    return text[0] != '\0' ? text : "not said";
}

static void warn(const struct settings *settings, const struct settings_mqtt *mqtt,
                 const struct session_facts *facts, const struct queue_server *server)
{
    int64_t expiry_s = facts->session_expiry_s;

    if (facts->lowest_qos == 0)
        log_warning(LOG_PLAIN,
                    "QoS 0: what is published while the consumer is not connected never arrives");
    if (facts->version == 5 && expiry_s == 0)
        log_warning(LOG_PLAIN, "The broker keeps no session (session expiry 0): what is published "
                               "while the consumer is not connected never arrives");
    else if (facts->version == 5 && expiry_s < mqtt->session_expiry_ms / 1000)
        log_warning(LOG_PLAIN,
                    "The broker keeps the session for %" PRId64 " s instead of %" PRId64
                    " s (session_expiry)",
                    expiry_s, mqtt->session_expiry_ms / 1000);
    if (server->maxmemory_policy[0] != '\0' && strcmp(server->maxmemory_policy, "noeviction") != 0)
        log_warning(LOG_PLAIN,
                    "Redis has maxmemory-policy %s: it may evict the stream and the mark; set it "
                    "to noeviction",
                    server->maxmemory_policy);
    if (strcmp(server->appendonly, "no") == 0)
        log_warning(LOG_PLAIN,
                    "Redis has appendonly no: its restart loses what came since its last snapshot; "
                    "the spool sends again the last %" PRId64 " MB ([spool] retain)",
                    settings->spool.retain / (1024 * 1024));
    if (server->stream_max_entries > 0)
        log_warning(LOG_WITH(log_number("stream_max_entries", server->stream_max_entries)),
                    "stream_max_entries is set: Redis drops the oldest entries beyond it, read or "
                    "not");
}

void guarantees_log(const struct settings *settings, const struct settings_mqtt *mqtt,
                    const struct session_facts *facts, const struct queue_server *server)
{
    warn(settings, mqtt, facts, server);
    log_info(LOG_WITH(log_text("mqtt", facts->version == 5 ? "5" : "3.1.1"),
                      log_number("qos_min", facts->lowest_qos),
                      log_number("qos_max", facts->highest_qos),
                      log_flag("session_present", facts->session_present),
                      log_number("session_expiry_s", facts->session_expiry_s),
                      log_text("spool_sync", setting_word(SPOOL_SYNC_WORDS, settings->spool.sync)),
                      log_number("spool_size", settings->spool.size),
                      log_number("spool_retain", settings->spool.retain),
                      log_text("redis", known(server->version)),
                      log_text("appendonly", known(server->appendonly)),
                      log_text("appendfsync", known(server->appendfsync)),
                      log_text("maxmemory_policy", known(server->maxmemory_policy))),
             "Promised: broker to spool %s (the spool survives a %s), spool to Redis exactly once, "
             "Redis to hub at least once",
             from_the_broker(facts), spool_survives(&settings->spool));
}
