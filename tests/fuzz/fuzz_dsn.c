/* Any text as a DSN: no crash. What is taken is complete; what is refused says why. The redacted
 * form never has the password in it. */
#include "common/base/alloc.h"
#include "common/wire/dsn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static bool holds(const char *text, const char *part)
{
    return text != NULL && strstr(text, part) != NULL;
}

/* A password that happens to be a part of the address as well proves nothing. */
static bool is_in_address(const struct dsn_redis *dsn)
{
    if (strpbrk(dsn->password, "/:,[]") != NULL)
        return true;
    for (size_t i = 0; i < dsn->hosts_len; i++) {
        char port[16];

        snprintf(port, sizeof(port), "%d", (int)dsn->hosts[i].port);
        if (holds(dsn->hosts[i].host, dsn->password) || holds(port, dsn->password))
            return true;
    }
    return holds(dsn->stream, dsn->password) || holds(dsn->path, dsn->password) ||
           holds(dsn->sentinel_master, dsn->password) || holds("sentinel_master", dsn->password);
}

static void check_taken(const struct dsn_redis *dsn, const char *redacted)
{
    require(dsn->stream != NULL && dsn->stream[0] != '\0');
    require(dsn->group != NULL && dsn->group[0] != '\0');
    require(dsn->consumer == NULL || dsn->consumer[0] != '\0');
    require((dsn->path != NULL) == (dsn->hosts_len == 0));
    require(dsn->hosts_len <= DSN_HOSTS_MAX);
    for (size_t i = 0; i < dsn->hosts_len; i++) {
        require(dsn->hosts[i].host != NULL && dsn->hosts[i].host[0] != '\0');
        require(dsn->hosts[i].port > 0 && dsn->hosts[i].port <= 65535);
    }
    require(!dsn->cluster || dsn->sentinel_master == NULL);
    require(dsn->path == NULL || (!dsn->cluster && dsn->sentinel_master == NULL && !dsn->tls));
    require(dsn->sentinel_password == NULL || dsn->sentinel_master != NULL);
    require(dsn->tls_key_file == NULL || dsn->tls_cert_file != NULL);
    require(dsn->redeliver_timeout_ms >= 0 && dsn->claim_interval_ms >= 0);
    if (dsn->password != NULL && strlen(dsn->password) >= 4 && !is_in_address(dsn))
        require(strstr(redacted, dsn->password) == NULL ||
                strstr("redis://", dsn->password) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = xstrndup((const char *)data, size);
    struct dsn_redis dsn;
    struct error err = {0};
    struct buf redacted = {0}, conninfo = {0};

    dsn_redacted(&redacted, text);
    if (dsn_redis_parse(&dsn, text, &err) == 0) {
        check_taken(&dsn, buf_text(&redacted));
        dsn_redis_free(&dsn);
    } else {
        require(err.code == ERR_USAGE && err.text[0] != '\0');
    }
    err = (struct error){0};
    if (dsn_postgres_to_conninfo(&conninfo, text, NULL, &err) == 0)
        require(conninfo.len > 0 && memchr(conninfo.data, '\0', conninfo.len) == NULL);
    else
        require(conninfo.len == 0 && err.code == ERR_USAGE && err.text[0] != '\0');
    buf_free(&conninfo);
    buf_free(&redacted);
    free(text);
    return 0;
}
