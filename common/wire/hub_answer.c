#include "common/wire/hub_answer.h"

struct row {
    long first;
    long last;
    struct hub_answer answer;
};

/* The first row that the status is in. */
static const struct row ROWS[] = {
    {0, 0, {HUB_WAIT, false, "no answer from the hub", HUB_CAUSE_OPEN}},
    {200,
     200,
     {HUB_RETRY, false, "something else than the hub answered: not with the update's id",
      HUB_CAUSE_OPEN}},
    {300, 399, {HUB_WAIT, false, "redirected: the hub's URL is wrong", HUB_CAUSE_SETTINGS}},
    {400, 400, {HUB_REJECT, false, "the hub refused the update", HUB_CAUSE_OPEN}},
    {401, 401, {HUB_WAIT, true, "the hub does not accept the token", HUB_CAUSE_SETTINGS}},
    {403, 403, {HUB_REJECT, false, "the hub forbids the update's topic", HUB_CAUSE_OPEN}},
    {404, 404, {HUB_WAIT, false, "no hub at this URL", HUB_CAUSE_SETTINGS}},
    {405, 405, {HUB_WAIT, false, "no hub at this URL: it takes no POST", HUB_CAUSE_SETTINGS}},
    {408, 408, {HUB_WAIT, false, "the hub gave up waiting for the request", HUB_CAUSE_OPEN}},
    {413, 413, {HUB_REJECT, false, "the update is too large for the hub", HUB_CAUSE_OPEN}},
    {421,
     421,
     {HUB_WAIT, false, "the hub's server does not serve this host name", HUB_CAUSE_SETTINGS}},
    {425, 425, {HUB_WAIT, false, "the hub is not ready for the request", HUB_CAUSE_OPEN}},
    {429, 429, {HUB_WAIT, false, "the hub is asked too often", HUB_CAUSE_LIMIT}},
    {402, 499, {HUB_RETRY, false, "the hub answered as no hub does", HUB_CAUSE_OPEN}},
    {500, 599, {HUB_WAIT, false, "the hub is in trouble", HUB_CAUSE_OPEN}},
    {100, 299, {HUB_RETRY, false, "something else than the hub answered", HUB_CAUSE_OPEN}},
};

struct hub_answer hub_answer_read(long status, bool id_matches)
{
    if (status == 200 && id_matches)
        return (struct hub_answer){HUB_DONE, false, "published", HUB_CAUSE_OPEN};
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++)
        if (status >= ROWS[i].first && status <= ROWS[i].last)
            return ROWS[i].answer;
    return (struct hub_answer){HUB_WAIT, false, "not an answer of HTTP", HUB_CAUSE_OPEN};
}
