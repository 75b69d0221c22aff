#include "common/client/hub_probe.h"

#include "common/wire/update.h"

void hub_probe_form(struct buf *form)
{
    struct update update = {.topic = HUB_PROBE_ID, .private_update = true, .id = HUB_PROBE_ID};

    update_form(form, &update);
}

static int judge_failure(const struct hub_result *result, struct error *err)
{
    if (result->status == 0 || result->status == 408 || result->status == 425 ||
        result->status >= 500)
        return error_set(err, ERR_UNREACHABLE, "%s", result->text);
    return error_set(err, ERR_REFUSED, "%s; is MERCURE_URL right?", result->text);
}

int hub_probe_judge(const struct hub_result *result, struct error *err)
{
    switch (result->answer.outcome) {
    case HUB_PASSED:
        return 0;
    case HUB_FAILED:
        return judge_failure(result, err);
    case HUB_LIMITED:
        return error_set(err, ERR_UNREACHABLE, "%s", result->text);
    case HUB_REFUSED:
        return error_set(err, ERR_REFUSED, "%s; is MERCURE_URL right?", result->text);
    case HUB_UNAUTHORIZED:
        return error_set(err, ERR_REFUSED,
                         "%s; is MERCURE_JWT_SECRET (or MERCURE_JWT) its publisher key?",
                         result->text);
    }
    return 0;
}

int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms, struct error *err)
{
    struct hub_result result = {0};
    struct hub_result bare = {0};
    struct buf form = {0};

    hub_probe_form(&form);
    int status =
        hub_publish_once(settings, buf_bytes(&form), HUB_PROBE_ID, timeout_ms, &result, err);
    buf_free(&form);
    /* The token may be for some topics only: a hub that takes it says 400 to an update without a topic. */
    if (status == 0 && result.answer.outcome == HUB_UNAUTHORIZED)
        status = hub_publish_once(settings, BYTES(""), HUB_PROBE_ID, timeout_ms, &bare, err);
    if (status == 0 && bare.status == 400)
        return 0;
    return status < 0 ? status : hub_probe_judge(&result, err);
}
