#include "common/wire/hub_answer.h"

struct row {
    long first;
    long last;
    struct hub_answer answer;
};

/* The first row that the status is in. */
static const struct row ROWS[] = {
    {0, 0, {HUB_WAIT, false, "no answer from the hub"}},
    {200,
     200,
     {HUB_RETRY, false, "something else than the hub answered: not with the update's id"}},
    {300, 399, {HUB_WAIT, false, "redirected: the hub's URL is wrong"}},
    {400, 400, {HUB_REJECT, false, "the hub refused the update"}},
    {401, 401, {HUB_WAIT, true, "the hub does not accept the token"}},
    {403, 403, {HUB_REJECT, false, "the hub forbids the update's topic"}},
    {404, 404, {HUB_WAIT, false, "no hub at this URL"}},
    {405, 405, {HUB_WAIT, false, "no hub at this URL: it takes no POST"}},
    {408, 408, {HUB_WAIT, false, "the hub gave up waiting for the request"}},
    {413, 413, {HUB_REJECT, false, "the update is too large for the hub"}},
    {421, 421, {HUB_WAIT, false, "the hub's server does not serve this host name"}},
    {425, 425, {HUB_WAIT, false, "the hub is not ready for the request"}},
    {429, 429, {HUB_WAIT, false, "the hub is asked too often"}},
    {402, 499, {HUB_RETRY, false, "the hub answered as no hub does"}},
    {500, 599, {HUB_WAIT, false, "the hub is in trouble"}},
    {100, 299, {HUB_RETRY, false, "something else than the hub answered"}},
};

struct hub_answer hub_answer_read(long status, bool id_matches)
{
    if (status == 200 && id_matches)
        return (struct hub_answer){HUB_DONE, false, "published"};
    for (size_t i = 0; i < sizeof(ROWS) / sizeof(ROWS[0]); i++)
        if (status >= ROWS[i].first && status <= ROWS[i].last)
            return ROWS[i].answer;
    return (struct hub_answer){HUB_WAIT, false, "not an answer of HTTP"};
}
