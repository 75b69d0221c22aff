#include "common/client/tls.h"
#include "monitor/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 5

static const struct readiness_limits LIMITS = {.now_ms = 1000000, .beat_ms = 60000};
static char async[] = "async";
static char failed[] = "failed";
static struct settings_transport transport = {.name = async};
static const struct settings SETTINGS = {
    .transports = &transport, .transports_len = 1, .failure = {.queue_name = failed}};

static void name_slot(struct stats_slot *slot, const char *name, uint32_t number)
{
    snprintf(slot->name, sizeof slot->name, "%s", name);
    slot->number = number;
    slot->beat_ms = (uint64_t)LIMITS.now_ms;
}

static int open_stats(void **state)
{
    struct stats *stats;
    struct error err = {0};
    int fd;

    if (stats_create(&stats, SLOTS, &fd, &err) < 0)
        return -1;
    close(fd);
    name_slot(&stats->slot[0], "consumer", 1);
    name_slot(&stats->slot[1], "consumer:a\"b\\", 1);
    name_slot(&stats->slot[2], "worker", 1);
    name_slot(&stats->slot[3], "worker", 2);
    *state = stats;
    return 0;
}

static int close_stats(void **state)
{
    stats_free(*state);
    return 0;
}

static char *written(const struct stats *stats)
{
    struct buf out = {0};

    metrics_write(&out, &SETTINGS, stats, &LIMITS);
    buf_append_char(&out, '\0');
    return out.data;
}

static void assert_lines(const struct stats *stats, const char *const *lines, size_t len)
{
    char *text = written(stats);

    for (size_t i = 0; i < len; i++) {
        const char *at = strstr(text, lines[i]);

        if (at == NULL || (at > text && at[-1] != '\n') || at[strlen(lines[i])] != '\n')
            fail_msg("no line \"%s\" in\n%s", lines[i], text);
    }
    free(text);
}

#define ASSERT_LINES(stats, ...)                                                                   \
    assert_lines(stats, (const char *const[]){__VA_ARGS__},                                        \
                 sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void test_counters_carry_their_process(void **state)
{
    struct stats *stats = *state;

    stats_add(&stats->slot[0], STATS_RECEIVED_QOS1, 7);
    stats_add(&stats->slot[1], STATS_DISPATCHED, 3);
    stats_add(&stats->slot[3], STATS_HANDLED_REJECT, 2);
    stats_add(&stats->slot[0], STATS_SPOOL_PAUSED_US, 1500000);
    ASSERT_LINES(stats, "mqtt_bridge_messages_received_total{consumer=\"\",qos=\"1\"} 7",
                 "mqtt_bridge_messages_received_total{consumer=\"\",qos=\"2\"} 0",
                 "mqtt_bridge_messages_handled_total{slot=\"2\",outcome=\"reject\"} 2",
                 "mqtt_bridge_spool_paused_seconds_total{consumer=\"\"} 1.500000");
}

static void test_label_values_are_escaped(void **state)
{
    struct stats *stats = *state;

    stats_add(&stats->slot[1], STATS_DISPATCHED, 3);
    ASSERT_LINES(
        stats,
        "mqtt_bridge_messages_dispatched_total{consumer=\"a\\\"b\\\\\",transport=\"async\"} 3",
        "mqtt_bridge_process_up{name=\"consumer:a\\\"b\\\\\",slot=\"1\"} 1");
}

static void test_processes_without_a_beat_are_down(void **state)
{
    struct stats *stats = *state;

    stats->slot[2].beat_ms = 0;
    ASSERT_LINES(stats, "mqtt_bridge_process_up{name=\"worker\",slot=\"1\"} 0",
                 "mqtt_bridge_process_up{name=\"worker\",slot=\"2\"} 1");
}

static void test_a_process_has_metrics_of_starts_ends_and_memory(void **state)
{
    struct stats *stats = *state;
    struct stats_slot *slot = &stats->slot[2];

    stats_add(slot, STATS_RESTARTS, 3);
    stats_add(slot, STATS_CRASHES, 2);
    stats_set(slot, STATS_STARTED_US, 1764447600250000);
    stats_set(slot, STATS_PID, (uint64_t)getpid());
    ASSERT_LINES(
        stats, "mqtt_bridge_process_restarts_total{name=\"worker\",slot=\"1\"} 3",
        "mqtt_bridge_process_crashes_total{name=\"worker\",slot=\"1\"} 2",
        "mqtt_bridge_process_start_time_seconds{name=\"worker\",slot=\"1\"} 1764447600.25");
    char *text = written(stats);
    const char *memory =
        strstr(text, "mqtt_bridge_process_memory_bytes{name=\"worker\",slot=\"1\"} ");
    assert_non_null(memory);
    assert_true(strtod(strchr(memory, '}') + 1, NULL) > 100000);
    assert_null(strstr(text, "mqtt_bridge_process_memory_bytes{name=\"worker\",slot=\"2\"}"));
    free(text);
}

static void add_certificate(FILE *file, EVP_PKEY *key, time_t end)
{
    X509 *certificate = X509_new();

    ASN1_TIME_set(X509_getm_notBefore(certificate), 0);
    ASN1_TIME_set(X509_getm_notAfter(certificate), end);
    X509_set_pubkey(certificate, key);
    X509_sign(certificate, key, EVP_sha256());
    PEM_write_X509(file, certificate);
    X509_free(certificate);
}

static void test_a_certificate_has_a_metric_of_its_expiry(void **state)
{
    struct stats *stats = *state;
    char path[] = "/tmp/test-metrics-XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fdopen(fd, "w");
    EVP_PKEY *key = EVP_EC_gen("P-256");
    struct settings settings = SETTINGS;
    struct buf out = {0};

    assert_non_null(file);
    add_certificate(file, key, 2000000000);
    add_certificate(file, key, 2100000000);
    fclose(file);
    settings.mqtt.cert_file = path;
    settings.mercure.ca_file = path;
    metrics_write(&out, &settings, stats, &LIMITS);
    assert_non_null(strstr(buf_text(&out),
                           "mqtt_bridge_certificate_expiry_timestamp_seconds{name=\"mqtt "
                           "cert_file\"} 2000000000\n"));
    assert_non_null(strstr(buf_text(&out), "{name=\"mercure ca_file\"} 2100000000\n"));
    assert_true(tls_file_expiry("/nonexistent", false) < 0);
    assert_true(tls_file_expiry("LICENSE", true) < 0);
    buf_free(&out);
    EVP_PKEY_free(key);
    unlink(path);
}

static void test_histograms_are_cumulative_and_in_seconds(void **state)
{
    struct stats *stats = *state;

    stats_observe(&stats->slot[2], STATS_HUB_US, 200);
    stats_observe(&stats->slot[2], STATS_HUB_US, 700);
    stats_observe(&stats->slot[2], STATS_HUB_US, 60000000);
    ASSERT_LINES(stats, "# TYPE mqtt_bridge_hub_request_duration_seconds histogram",
                 "mqtt_bridge_hub_request_duration_seconds_bucket{slot=\"1\",le=\"0.00025\"} 1",
                 "mqtt_bridge_hub_request_duration_seconds_bucket{slot=\"1\",le=\"0.001\"} 2",
                 "mqtt_bridge_hub_request_duration_seconds_bucket{slot=\"1\",le=\"10\"} 2",
                 "mqtt_bridge_hub_request_duration_seconds_bucket{slot=\"1\",le=\"+Inf\"} 3",
                 "mqtt_bridge_hub_request_duration_seconds_sum{slot=\"1\"} 60.000900",
                 "mqtt_bridge_hub_request_duration_seconds_count{slot=\"1\"} 3");
}

static void test_metrics_leave_out_values_unknown_to_the_probe(void **state)
{
    struct stats *stats = *state;

    char *text = written(stats);
    assert_null(strstr(text, "mqtt_bridge_transport_ready_messages{"));
    assert_null(strstr(text, "mqtt_bridge_server_up{"));
    free(text);
    stats->probe->ready = 12;
    stats->probe->oldest_ms = 40;
    stats->probe->redis_ok = 0;
    stats->probe->failed = 3;
    ASSERT_LINES(stats, "mqtt_bridge_transport_ready_messages{transport=\"async\"} 12",
                 "mqtt_bridge_transport_oldest_message_age_seconds{transport=\"async\"} 0.040000",
                 "mqtt_bridge_server_up{server=\"redis\"} 0",
                 "mqtt_bridge_failure_transport_messages{queue=\"failed\"} 3");
}

/* Each family has its HELP and TYPE once, before all its samples. */
static void test_families_stand_together_with_one_head_each(void **state)
{
    char *text = written(*state);
    char family[128] = "";
    size_t heads = 0;
    char *rest = NULL;

    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        char kind[16];
        char name[128];
        if (sscanf(line, "# %15s %127s", kind, name) == 2) {
            if (strcmp(kind, "HELP") == 0) {
                snprintf(family, sizeof family, "%s", name);
                heads++;
            }
            assert_string_equal(name, family);
            continue;
        }
        assert_true(strncmp(line, family, strlen(family)) == 0);
        assert_non_null(strchr("{_", line[strlen(family)]));
    }
    assert_true(heads > 30);
    free(text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_stats, close_stats)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_counters_carry_their_process),
        TEST(test_label_values_are_escaped),
        TEST(test_processes_without_a_beat_are_down),
        TEST(test_a_process_has_metrics_of_starts_ends_and_memory),
        TEST(test_a_certificate_has_a_metric_of_its_expiry),
        TEST(test_histograms_are_cumulative_and_in_seconds),
        TEST(test_metrics_leave_out_values_unknown_to_the_probe),
        TEST(test_families_stand_together_with_one_head_each),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
