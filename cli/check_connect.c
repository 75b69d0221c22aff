#include "cli/check_connect.h"

#include "cli/check_broker.h"
#include "cli/check_redis.h"
#include "common/base/alloc.h"
#include "common/client/failure_admin.h"
#include "common/client/hub_probe.h"
#include "common/wire/broker_address.h"
#include "common/wire/dsn.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Each server of the list, or host and port where it names none. */
static void check_mqtt(const struct settings_mqtt *mqtt, struct check_servers *servers)
{
    char *name = mqtt->name[0] ? xasprintf("broker of %s", mqtt->name) : xstrdup("broker");
    char *addresses = broker_address_list(mqtt);
    struct bytes list = bytes_of(addresses), text;
    while (broker_address_next(&list, &text)) {
        char *place = xstrndup(text.data, text.len);
        check_broker(mqtt, check_server_add(servers, name, place));
        free(place);
    }
    free(addresses);
    free(name);
}

static void check_transport(const struct settings_transport *transport,
                            struct check_servers *servers)
{
    struct buf place = {0};
    struct dsn_redis dsn;
    struct error err = {0};
    if (dsn_redis_parse(&dsn, transport->dsn, &err) < 0) {
        return; /* said by check_settings */
    }
    dsn_redacted(&place, transport->dsn);
    check_redis(transport, &dsn, check_server_add(servers, "redis", buf_text(&place)));
    dsn_redis_free(&dsn);
    buf_free(&place);
}

static void check_failure(const struct settings_failure *failure, struct check_servers *servers)
{
    struct buf place = {0};
    struct error err = {0};
    struct failure_admin *admin = NULL;
    int64_t count;
    dsn_redacted(&place, failure->dsn);
    struct check_server *server = check_server_add(servers, "failure transport", buf_text(&place));
    if (failure_admin_new(&admin, failure, &err) < 0 ||
        failure_admin_count(admin, CHECK_TIMEOUT_MS, &count, &err) < 0) {
        check_server_fail(server, check_server_words(server, &err),
                          "see [failure] dsn (DATABASE_URL)");
    }
    failure_admin_free(admin);
    buf_free(&place);
}

void check_connect(const struct settings *settings, struct check_servers *servers)
{
    struct error err = {0};
    check_mqtt(&settings->mqtt, servers);
    for (size_t i = 0; i < settings->consumers_len; i++) {
        check_mqtt(&settings->consumers[i], servers);
    }
    for (size_t i = 0; i < settings->transports_len; i++) {
        check_transport(&settings->transports[i], servers);
    }
    if (settings->failure.dsn[0]) {
        check_failure(&settings->failure, servers);
    }
    if (settings->mercure.url[0]) {
        struct buf place = {0};
        dsn_redacted(&place, settings->mercure.url);
        struct check_server *server = check_server_add(servers, "hub", buf_text(&place));
        if (hub_reachable(&settings->mercure, CHECK_TIMEOUT_MS, &err) < 0) {
            check_server_fail(server, check_server_words(server, &err),
                              "see [mercure] url and jwt_secret (MERCURE_URL, MERCURE_JWT_SECRET)");
        }
        buf_free(&place);
    }
}
