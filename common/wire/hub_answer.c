#include "common/wire/hub_answer.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_BEGINNING 8

struct row {
    long first;
    long last;
    struct hub_answer answer;
};

/* The first row whose range contains the status applies. */
static const struct row ROWS[] = {
    {0, 0, {HUB_FAILED, "no answer from the hub"}},
    {200, 200, {HUB_FAILED, "something else than the hub answered: not with the update's id"}},
    {300, 399, {HUB_FAILED, "redirected: the hub's URL is wrong"}},
    {400, 400, {HUB_REFUSED, "the hub refused the update"}},
    {401, 401, {HUB_UNAUTHORIZED, "the hub does not accept the token"}},
    {403, 403, {HUB_REFUSED, "the hub forbids the update's topic"}},
    {404, 404, {HUB_FAILED, "no hub at this URL"}},
    {405, 405, {HUB_FAILED, "no hub at this URL: it takes no POST"}},
    {407, 407, {HUB_FAILED, "a proxy wants a login"}},
    {408, 408, {HUB_FAILED, "the hub gave up waiting for the request"}},
    {413, 413, {HUB_REFUSED, "the update is too large for the hub"}},
    {421, 421, {HUB_FAILED, "the hub's server does not serve this host name"}},
    {425, 425, {HUB_FAILED, "the hub is not ready for the request"}},
    {429, 429, {HUB_LIMITED, "the hub is asked too often"}},
    {402, 499, {HUB_FAILED, "the hub answered as no hub does"}},
    {503, 503, {HUB_LIMITED, "the hub takes no more at present"}},
    {500, 599, {HUB_FAILED, "the hub is in trouble"}},
    {100, 299, {HUB_FAILED, "something else than the hub answered"}},
};

struct hub_answer hub_answer_read(long status, bool id_matches)
{
    if (status == 200 && id_matches)
        return (struct hub_answer){HUB_PASSED, "published"};
    for (size_t i = 0; i < LENGTH_OF(ROWS); i++)
        if (status >= ROWS[i].first && status <= ROWS[i].last)
            return ROWS[i].answer;
    return (struct hub_answer){HUB_FAILED, "not an answer of HTTP"};
}

void hub_answer_excerpt_add(struct hub_answer_excerpt *excerpt, struct bytes chunk)
{
    size_t room = sizeof(excerpt->data) - excerpt->len;
    size_t len = chunk.len < room ? chunk.len : room;

    memcpy(excerpt->data + excerpt->len, chunk.data, len);
    excerpt->len += len;
}

static bool holds(const struct hub_answer_excerpt *excerpt, struct bytes part)
{
    return part.len > 0 && memmem(excerpt->data, excerpt->len, part.data, part.len) != NULL;
}

/* True if the excerpt may hold the token. A cut excerpt may hold only the token's beginning. */
static bool may_show(const struct hub_answer_excerpt *excerpt, const char *token)
{
    struct bytes beginning = bytes_slice(bytes_of(token), 0, TOKEN_BEGINNING);

    return holds(excerpt, beginning) || holds(excerpt, BYTES("Bearer")) ||
           holds(excerpt, BYTES("earer "));
}

void hub_answer_excerpt_append(const struct hub_answer_excerpt *excerpt, const char *token,
                               char *text, size_t size)
{
    char clean[HUB_ANSWER_EXCERPT_SIZE];
    size_t len = 0;
    size_t used = strlen(text);

    if (may_show(excerpt, token))
        return;
    for (size_t i = 0; i < excerpt->len; i++) {
        unsigned char c = (unsigned char)excerpt->data[i];
        bool space = c <= ' ' || c == 0x7F;

        if (space && (len == 0 || clean[len - 1] == ' '))
            continue;
        clean[len++] = space ? ' ' : (char)c;
    }
    if (len > 0)
        snprintf(text + used, size - used, ": %.*s", (int)len, clean);
}
