#include "common/settings/settings_verify.h"

#include "common/settings/settings_table.h"
#include "common/wire/dsn.h"

#include <string.h>

static int verify_redis(const char *text, struct error *err)
{
    struct dsn_redis dsn;

    if (dsn_redis_parse(&dsn, text, err) < 0)
        return error_wrap(err, "[failure] dsn (MESSENGER_FAILURE_TRANSPORT_DSN)");
    dsn_redis_free(&dsn);
    return 0;
}

int settings_verify_failure(const struct settings_failure *failure, struct buf *overlooked,
                            struct error *err)
{
    struct buf conninfo = {0};

    if (failure->dsn[0] == '\0')
        return 0;
    if (dsn_is_redis(failure->dsn))
        return verify_redis(failure->dsn, err);
    int result = dsn_postgres_to_conninfo(&conninfo, failure->dsn, overlooked, err);
    if (result < 0)
        error_wrap(err, "[failure] dsn (DATABASE_URL)");
    buf_free(&conninfo);
    return result;
}

/* RFC 7518, section 3.2: no shorter than the hash. */
static size_t secret_minimum(enum jwt_algorithm algorithm)
{
    switch (algorithm) {
    case JWT_HS256:
        return 32;
    case JWT_HS384:
        return 48;
    case JWT_HS512:
        return 64;
    case JWT_RS256:
    case JWT_ES256:
        return 0;
    }
    return 0;
}

int settings_verify_secret(const struct settings_mercure *mercure, struct error *err)
{
    size_t minimum = secret_minimum(mercure->jwt_algorithm);
    size_t len = strlen(mercure->jwt_secret);

    if (mercure->jwt[0] != '\0' || minimum == 0)
        return 0;
    if (len == 0)
        return error_set(err, ERR_USAGE,
                         "[mercure] has neither a jwt (MERCURE_JWT) nor a jwt_secret "
                         "(MERCURE_JWT_SECRET): the hub takes no update without one");
    if (len < minimum)
        return error_set(err, ERR_USAGE,
                         "[mercure] jwt_secret (MERCURE_JWT_SECRET) is %zu bytes long; %s needs at "
                         "least %zu: give a longer one to the hub and to the bridge",
                         len, setting_word(JWT_ALGORITHM_WORDS, mercure->jwt_algorithm), minimum);
    return 0;
}
