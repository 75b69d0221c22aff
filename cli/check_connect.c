#include "cli/check_connect.h"

#include "cli/check_broker.h"
#include "cli/check_redis.h"
#include "common/base/alloc.h"
#include "common/client/failure.h"
#include "common/client/hub_probe.h"
#include "common/settings/broker_address.h"
#include "common/wire/dsn.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* Each server of the list, or host and port where it names none. */
static void check_mqtt(const struct settings_mqtt *mqtt, struct check_servers *servers)
{
    char *name = mqtt->name[0] ? xasprintf("broker of %s", mqtt->name) : xstrdup("broker");
    char *addresses = broker_address_list(mqtt);
    struct bytes list = bytes_of(addresses), text;

    while (bytes_next_item(&list, &text)) {
        char *address = xstrndup(text.data, text.len);

        check_broker(mqtt, check_server_add(servers, name, address));
        free(address);
    }
    free(addresses);
    free(name);
}

static void check_transport(const struct settings *settings,
                            const struct settings_transport *transport,
                            struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0)
        return; /* said by check_settings */
    dsn_redacted(&address, transport->dsn);
    check_redis(settings, transport, &dsn, check_server_add(servers, "redis", buf_text(&address)));
    dsn_redis_free(&dsn);
    buf_free(&address);
}

static void check_rows(const struct settings_failure *failure, struct check_server *server)
{
    struct error err = {0};
    struct failure *rows = NULL;
    int64_t count;

    if (failure_new(&rows, failure, &err) < 0 ||
        failure_count(rows, CHECK_TIMEOUT_MS, &count, &err) < 0) {
        check_server_fail(server, check_server_words(server, &err),
                          "see [failure] dsn (DATABASE_URL)");
    }
    failure_free(rows);
}

static void check_failure(const struct settings_failure *failure, struct check_servers *servers)
{
    struct buf address = {0};
    struct dsn_redis dsn;
    struct error err = {0};

    dsn_redacted(&address, failure->dsn);
    struct check_server *server =
        check_server_add(servers, "failure transport", buf_text(&address));
    if (!dsn_is_redis(failure->dsn)) {
        check_rows(failure, server);
    } else if (dsn_redis_parse(&dsn, failure->dsn, &err) == 0) { /* else said by check_settings */
        check_redis_failed(&dsn, server);
        dsn_redis_free(&dsn);
    }
    buf_free(&address);
}

static void check_hub(const struct settings_mercure *mercure, struct check_servers *servers)
{
    struct error err = {0};
    struct buf address = {0};

    dsn_redacted(&address, mercure->url);
    struct check_server *server = check_server_add(servers, "hub", buf_text(&address));
    if (hub_reachable(mercure, CHECK_TIMEOUT_MS, &err) < 0) {
        check_server_fail(server, check_server_words(server, &err),
                          "see [mercure] url and jwt_secret (MERCURE_URL, MERCURE_JWT_SECRET)");
    }
    buf_free(&address);
}

/* The hub before the brokers: libcurl heeds http_proxy, which check_broker takes away. */
void check_connect(const struct settings *settings, struct check_servers *servers)
{
    signal(SIGPIPE, SIG_IGN); /* a server that hangs up */
    if (settings->mercure.url[0])
        check_hub(&settings->mercure, servers);
    check_mqtt(&settings->mqtt, servers);
    for (size_t i = 0; i < settings->consumers_len; i++)
        check_mqtt(&settings->consumers[i], servers);
    for (size_t i = 0; i < settings->transports_len; i++)
        check_transport(settings, &settings->transports[i], servers);
    if (settings->failure.dsn[0])
        check_failure(&settings->failure, servers);
}
