#include "monitor/metrics.h"

#include "common/base/process_kind.h"
#include "common/client/tls.h"
#include "common/settings/settings_table.h"
#include "common/wire/dsn.h"

#include <string.h>

#define PREFIX "mqtt_bridge_"
struct row {
    const char *name;
    enum process_kind owner; /* also decides the label that tells the processes apart */
    const char *help;
    unsigned index;    /* index of the counter, gauge or histogram */
    const char *label; /* one more label, such as `qos="0"`; NULL: none */
    double scale;      /* the statistic's unit in the metric's unit; 0: no scaling */
};

/* Rows of one name are adjacent: HELP and TYPE come once, before the first of them. */
static const struct row COUNTERS[] = {
    {"messages_received_total", PROCESS_CONSUMER, "Messages that the broker delivered.",
     STATS_RECEIVED_QOS0, "qos=\"0\"", 0},
    {"messages_received_total", PROCESS_CONSUMER, NULL, STATS_RECEIVED_QOS1, "qos=\"1\"", 0},
    {"messages_received_total", PROCESS_CONSUMER, NULL, STATS_RECEIVED_QOS2, "qos=\"2\"", 0},
    {"bytes_received_total", PROCESS_CONSUMER,
     "Payload bytes of messages that the broker delivered.", STATS_RECEIVED_BYTES, NULL, 0},
    {"mqtt_reconnects_total", PROCESS_CONSUMER, "Connections to the broker after the first.",
     STATS_RECONNECTS, NULL, 0},
    {"messages_dispatched_total", PROCESS_CONSUMER, "Entries that Redis has taken.",
     STATS_DISPATCHED, "transport=\"async\"", 0},
    {"messages_replayed_total", PROCESS_CONSUMER,
     "Entries that were sent again from the mark; dispatched entries count them too.",
     STATS_DISPATCH_REPLAYED, NULL, 0},
    {"messages_oversized_total", PROCESS_CONSUMER,
     "Messages too large for the spool or for Redis, set aside in a file.",
     STATS_DISPATCH_OVERSIZED, NULL, 0},
    {"dispatch_errors_total", PROCESS_CONSUMER, "Batches that Redis did not take.",
     STATS_DISPATCH_ERRORS, NULL, 0},
    {"spool_paused_seconds_total", PROCESS_CONSUMER,
     "Time without the broker because the spool was nearly full.", STATS_SPOOL_PAUSED_US, NULL,
     1e-6},
    {"spool_damaged_records_total", PROCESS_CONSUMER, "Spool records that recovery could not read.",
     STATS_SPOOL_DAMAGED, NULL, 0},
    {"spool_gap_records_total", PROCESS_CONSUMER,
     "Spool records that Redis lost and that were no longer kept.", STATS_SPOOL_GAP, NULL, 0},
    {"messages_handled_total", PROCESS_WORKER, "Entries settled, by outcome.", STATS_HANDLED_DONE,
     "outcome=\"done\"", 0},
    {"messages_handled_total", PROCESS_WORKER, NULL, STATS_HANDLED_DROPPED, "outcome=\"dropped\"",
     0},
    {"messages_handled_total", PROCESS_WORKER, NULL, STATS_HANDLED_RETRY, "outcome=\"retry\"", 0},
    {"messages_handled_total", PROCESS_WORKER, NULL, STATS_HANDLED_REJECT, "outcome=\"reject\"", 0},
    {"messages_conflated_total", PROCESS_WORKER,
     "Messages of routes with `latest` that a newer one replaced before it was published.",
     STATS_HANDLED_CONFLATED, NULL, 0},
    {"entries_trimmed_total", PROCESS_WORKER,
     "Pending entries whose body was gone from the stream.", STATS_TRIMMED, NULL, 0},
    {"entries_claimed_total", PROCESS_WORKER, "Entries taken over from workers that were gone.",
     STATS_CLAIMED, NULL, 0},
    {"entries_moved_total", PROCESS_WORKER, "Delayed entries that fell due.", STATS_MOVED, NULL, 0},
    {"hub_responses_total", PROCESS_WORKER, "Answers of the hub, by kind.", STATS_HUB_OK,
     "code=\"ok\"", 0},
    {"hub_responses_total", PROCESS_WORKER, NULL, STATS_HUB_REFUSED, "code=\"refused\"", 0},
    {"hub_responses_total", PROCESS_WORKER, NULL, STATS_HUB_AUTH, "code=\"auth\"", 0},
    {"hub_responses_total", PROCESS_WORKER, NULL, STATS_HUB_BUSY, "code=\"busy\"", 0},
    {"hub_responses_total", PROCESS_WORKER, NULL, STATS_HUB_ERROR, "code=\"error\"", 0},
    {"handler_restarts_total", PROCESS_WORKER, "Handlers that were started again.",
     STATS_HANDLER_RESTARTS, NULL, 0},
};

static const struct row GAUGES[] = {
    {"mqtt_connected", PROCESS_CONSUMER, "1 while connected to the broker.", STATS_CONNECTED, NULL,
     0},
    {"last_message_timestamp_seconds", PROCESS_CONSUMER, "When the last message was received.",
     STATS_LAST_MESSAGE_US, NULL, 1e-6},
    {"spool_bytes", PROCESS_CONSUMER, "Bytes of the spool in use.", STATS_SPOOL_BYTES, NULL, 0},
    {"spool_messages", PROCESS_CONSUMER, "Messages not yet in Redis.", STATS_SPOOL_MESSAGES, NULL,
     0},
    {"spool_limit_bytes", PROCESS_CONSUMER, "The spool's size.", STATS_SPOOL_LIMIT, NULL, 0},
    {"spool_paused", PROCESS_CONSUMER,
     "1 while disconnected from the broker because the spool is nearly full.", STATS_SPOOL_PAUSED,
     NULL, 0},
    {"oversized_messages", PROCESS_CONSUMER,
     "Messages too large for the spool or for Redis, now in files.", STATS_OVERSIZED_MESSAGES, NULL,
     0},
    {"oversized_bytes", PROCESS_CONSUMER, "Bytes of the files of oversized messages.",
     STATS_OVERSIZED_BYTES, NULL, 0},
    {"worker_connected", PROCESS_WORKER, "1 while connected to what the worker needs.",
     STATS_CONNECTED, NULL, 0},
    {"worker_prefetched_messages", PROCESS_WORKER, "Entries read and not yet settled.",
     STATS_PREFETCHED, NULL, 0},
    {"hub_breaker_open", PROCESS_WORKER, "1 while the circuit breaker of the hub is not closed.",
     STATS_BREAKER_OPEN, NULL, 0},
};

static const struct row HISTOGRAMS[] = {
    {"dispatch_duration_seconds", PROCESS_CONSUMER, "From a batch sent to Redis's answer.",
     STATS_DISPATCH_US, NULL, 1e-6},
    {"handle_duration_seconds", PROCESS_WORKER, "From an entry read to settled.", STATS_HANDLE_US,
     NULL, 1e-6},
    {"hub_request_duration_seconds", PROCESS_WORKER, "One request to the hub.", STATS_HUB_US, NULL,
     1e-6},
    {"handler_duration_seconds", PROCESS_WORKER,
     "From a message given to its handler to the answer.", STATS_HANDLER_US, NULL, 1e-6},
    {"end_to_end_duration_seconds", PROCESS_WORKER,
     "From received by the consumer to the hub's answer.", STATS_END_TO_END_US, NULL, 1e-6},
    {"batch_messages", PROCESS_WORKER, "Messages of a batch.", STATS_BATCH_MESSAGES, NULL, 1e-3},
};

static void write_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

static void write_label_value(struct buf *out, const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value == '\n') {
            buf_append_text(out, "\\n");
            continue;
        }
        if (*value == '\\' || *value == '"')
            buf_append_char(out, '\\');
        buf_append_char(out, *value);
    }
}

/* Writes `consumer="garden"` (`consumer=""` for [mqtt]) or `slot="2"`, and the row's label. */
static void write_labels(struct buf *out, const struct stats_slot *slot, const struct row *row)
{
    char name[STATS_NAME_SIZE];

    stats_name_read(slot, name);
    if (row->owner == PROCESS_CONSUMER) {
        buf_append_text(out, "{consumer=\"");
        write_label_value(out, process_kind_section(name));
    } else {
        buf_printf(out, "{slot=\"%u", slot->number);
    }
    buf_append_char(out, '"');
    if (row->label != NULL)
        buf_printf(out, ",%s", row->label);
}

static void write_value(struct buf *out, uint64_t value, double scale)
{
    if (scale > 0)
        buf_printf(out, "%.6f\n", (double)value * scale);
    else
        buf_printf(out, "%llu\n", (unsigned long long)value);
}

static void write_rows(struct buf *out, const struct stats *stats, const struct row *rows,
                       size_t rows_len, const char *type)
{
    bool counters = strcmp(type, "counter") == 0;

    for (size_t r = 0; r < rows_len; r++) {
        const struct row *row = &rows[r];

        if (row->help != NULL)
            write_head(out, row->name, type, row->help);
        for (size_t i = 0; i < stats->slots_len; i++) {
            const struct stats_slot *slot = &stats->slot[i];

            if (process_kind_of(slot->name) != row->owner)
                continue;
            buf_printf(out, PREFIX "%s", row->name);
            write_labels(out, slot, row);
            buf_append_text(out, "} ");
            write_value(out,
                        counters ? stats_counter(slot, row->index) : stats_gauge(slot, row->index),
                        row->scale);
        }
    }
}

static void write_histogram(struct buf *out, const struct stats_slot *slot, const struct row *row)
{
    const struct stats_histogram_data *data = &slot->histogram[row->index];
    uint64_t count = 0;

    for (size_t i = 0; i < STATS_BUCKETS; i++) {
        count += atomic_load_explicit(&data->bucket[i], memory_order_relaxed);
        buf_printf(out, PREFIX "%s_bucket", row->name);
        write_labels(out, slot, row);
        if (i < STATS_BUCKETS - 1)
            buf_printf(out, ",le=\"%g\"", (double)STATS_BUCKET_BOUNDS_US[i] * row->scale);
        else
            buf_append_text(out, ",le=\"+Inf\"");
        buf_printf(out, "} %llu\n", (unsigned long long)count);
    }
    buf_printf(out, PREFIX "%s_sum", row->name);
    write_labels(out, slot, row);
    buf_append_text(out, "} ");
    write_value(out, atomic_load_explicit(&data->sum_us, memory_order_relaxed), row->scale);
    buf_printf(out, PREFIX "%s_count", row->name);
    write_labels(out, slot, row);
    buf_printf(out, "} %llu\n", (unsigned long long)count);
}

static void write_histograms(struct buf *out, const struct stats *stats)
{
    for (size_t r = 0; r < LENGTH_OF(HISTOGRAMS); r++) {
        write_head(out, HISTOGRAMS[r].name, "histogram", HISTOGRAMS[r].help);
        for (size_t i = 0; i < stats->slots_len; i++)
            if (process_kind_of(stats->slot[i].name) == HISTOGRAMS[r].owner)
                write_histogram(out, &stats->slot[i], &HISTOGRAMS[r]);
    }
}

enum process_metric {
    PROCESS_UP,
    PROCESS_RESTARTS,
    PROCESS_CRASHES,
    PROCESS_STARTED,
    PROCESS_MEMORY
};

static const struct {
    const char *name;
    const char *type;
    const char *help;
} PROCESS_METRICS[] = {
    [PROCESS_UP] = {"process_up", "gauge", "1 while the process is alive."},
    [PROCESS_RESTARTS] = {"process_restarts_total", "counter", "Starts after the first."},
    [PROCESS_CRASHES] = {"process_crashes_total", "counter", "Ends that nobody had asked for."},
    [PROCESS_STARTED] = {"process_start_time_seconds", "gauge", "When it was started."},
    [PROCESS_MEMORY] = {"process_memory_bytes", "gauge",
                        "Memory that would be free without it: no file's, no shared."},
};

/* Returns false if the value is unknown. */
static bool process_value(const struct stats_slot *slot, const struct readiness_limits *limits,
                          enum process_metric metric, double *value)
{
    int64_t memory;

    switch (metric) {
    case PROCESS_UP:
        *value = readiness_is_running(slot, limits);
        return true;
    case PROCESS_RESTARTS:
        *value = (double)stats_counter(slot, STATS_RESTARTS);
        return true;
    case PROCESS_CRASHES:
        *value = (double)stats_counter(slot, STATS_CRASHES);
        return true;
    case PROCESS_STARTED:
        *value = (double)stats_gauge(slot, STATS_STARTED_US) * 1e-6;
        return *value > 0;
    case PROCESS_MEMORY:
        memory = stats_memory(slot);
        *value = (double)memory;
        return memory >= 0;
    }
    return false;
}

static void write_process_metric(struct buf *out, const struct stats *stats,
                                 const struct readiness_limits *limits, enum process_metric metric)
{
    const char *name = PROCESS_METRICS[metric].name;
    char process[STATS_NAME_SIZE];
    double value;

    write_head(out, name, PROCESS_METRICS[metric].type, PROCESS_METRICS[metric].help);
    for (size_t i = 0; i < stats->slots_len; i++) {
        const struct stats_slot *slot = &stats->slot[i];

        if (slot->name[0] == '\0' || !process_value(slot, limits, metric, &value))
            continue;
        stats_name_read(slot, process);
        buf_printf(out, PREFIX "%s{name=\"", name);
        write_label_value(out, process);
        buf_printf(out, "\",slot=\"%u\"} %.15g\n", slot->number, value);
    }
}

static void write_processes(struct buf *out, const struct stats *stats,
                            const struct readiness_limits *limits)
{
    write_head(out, "build_info", "gauge", "The version that runs.");
    buf_append_text(out, PREFIX "build_info{version=\"" MQTT_BRIDGE_VERSION "\"} 1\n");
    for (size_t i = 0; i < LENGTH_OF(PROCESS_METRICS); i++)
        write_process_metric(out, stats, limits, (enum process_metric)i);
}

/* Writes one of the monitor's numbers with one label; nothing if the number is unknown. */
static void write_probed(struct buf *out, const char *name, const char *label, const char *value,
                         int64_t number, double scale)
{
    if (number < 0)
        return;
    buf_printf(out, PREFIX "%s{%s=\"", name, label);
    write_label_value(out, value);
    buf_append_text(out, "\"} ");
    write_value(out, (uint64_t)number, scale);
}

static void write_probe(struct buf *out, const struct settings *settings, const struct stats *stats)
{
    const struct stats_probe *probe = stats->probe;
    const char *transport = settings_default_transport(settings)->name;

    write_head(out, "server_up", "gauge", "1 if the server answered the last probe.");
    write_probed(out, "server_up", "server", "redis", atomic_load(&probe->redis_ok), 0);
    write_probed(out, "server_up", "server", "database", atomic_load(&probe->failure_ok), 0);
    write_probed(out, "server_up", "server", "hub", atomic_load(&probe->hub_ok), 0);
    write_head(out, "transport_ready_messages", "gauge", "Entries that no worker has read.");
    write_probed(out, "transport_ready_messages", "transport", transport,
                 atomic_load(&probe->ready), 0);
    write_head(out, "transport_pending_messages", "gauge", "Entries read and not acknowledged.");
    write_probed(out, "transport_pending_messages", "transport", transport,
                 atomic_load(&probe->pending), 0);
    write_head(out, "transport_delayed_messages", "gauge", "Entries that wait for a retry.");
    write_probed(out, "transport_delayed_messages", "transport", transport,
                 atomic_load(&probe->delayed), 0);
    write_head(out, "transport_oldest_message_age_seconds", "gauge",
               "Age of the oldest entry in the stream.");
    write_probed(out, "transport_oldest_message_age_seconds", "transport", transport,
                 atomic_load(&probe->oldest_ms), 1e-3);
    write_head(out, "failure_transport_messages", "gauge", "Messages in the failure transport.");
    write_probed(out, "failure_transport_messages", "queue", settings->failure.queue_name,
                 atomic_load(&probe->failed), 0);
}

/* Writes when the certificates of a file expire. key: the setting, or the DSN's option, that
 * names the file. */
static void write_certificate(struct buf *out, const struct setting_view *view, const char *key,
                              const char *path, bool authorities)
{
    double expiry = path != NULL && path[0] != '\0' ? tls_file_expiry(path, authorities) : -1;
    struct buf name = {0};

    if (expiry < 0)
        return;
    setting_view_title(view, &name);
    buf_printf(&name, " %s", key);
    buf_append_text(out, PREFIX "certificate_expiry_timestamp_seconds{name=\"");
    write_label_value(out, buf_text(&name));
    buf_printf(out, "\"} %.0f\n", expiry);
    buf_free(&name);
}

static void write_certificates_of_dsn(struct buf *out, const struct setting_view *view,
                                      const char *text)
{
    struct dsn_redis dsn;
    struct error ignored;

    if (dsn_redis_parse(&dsn, text, &ignored) < 0)
        return;
    if (dsn.tls) {
        write_certificate(out, view, "ssl[cafile]", dsn.tls_ca_file, true);
        write_certificate(out, view, "ssl[local_cert]", dsn.tls_cert_file, false);
    }
    dsn_redis_free(&dsn);
}

static void write_certificates_of_row(struct buf *out, const struct setting_view *view,
                                      const struct setting *row)
{
    const char *text = row->type == SETTING_TEXT ? *setting_text(row, view->base) : NULL;

    if ((row->flags & SETTING_AUTHORITIES) == SETTING_AUTHORITIES)
        write_certificate(out, view, row->key, text, true);
    else if ((row->flags & SETTING_CERTIFICATE) == SETTING_CERTIFICATE)
        write_certificate(out, view, row->key, text, false);
    else if ((row->flags & SETTING_DSN) != 0 && text != NULL && dsn_is_redis(text))
        write_certificates_of_dsn(out, view, text);
}

/* Writes the expiry of each readable certificate file in the settings, as "mqtt cert_file" or
 * "transport:async ssl[cafile]". Under the supervisor a monitor knows only some sections:
 * [mqtt], [mercure], the first transport and the failure transport. */
static void write_certificates(struct buf *out, const struct settings *settings)
{
    write_head(out, "certificate_expiry_timestamp_seconds", "gauge",
               "When the certificates of a file that the settings name expire.");
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);

        for (size_t k = 0; k < SETTINGS_TABLE_LEN; k++)
            if (SETTINGS_TABLE[k].section == view.section)
                write_certificates_of_row(out, &view, &SETTINGS_TABLE[k]);
    }
}

void metrics_write(struct buf *out, const struct settings *settings, const struct stats *stats,
                   const struct readiness_limits *limits)
{
    write_processes(out, stats, limits);
    write_rows(out, stats, COUNTERS, LENGTH_OF(COUNTERS), "counter");
    write_rows(out, stats, GAUGES, LENGTH_OF(GAUGES), "gauge");
    write_histograms(out, stats);
    write_probe(out, settings, stats);
    write_certificates(out, settings);
}
