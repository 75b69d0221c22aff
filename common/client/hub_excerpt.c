#include "common/client/hub_excerpt.h"

#include <stdio.h>
#include <string.h>

#define TOKEN_BEGINNING 8

void hub_excerpt_add(struct hub_excerpt *excerpt, struct bytes chunk)
{
    size_t room = sizeof(excerpt->data) - excerpt->len;
    size_t len = chunk.len < room ? chunk.len : room;

    memcpy(excerpt->data + excerpt->len, chunk.data, len);
    excerpt->len += len;
}

static bool holds(const struct hub_excerpt *excerpt, struct bytes part)
{
    return part.len > 0 && memmem(excerpt->data, excerpt->len, part.data, part.len) != NULL;
}

/* An excerpt that is cut may have only the beginning of it. */
static bool may_show(const struct hub_excerpt *excerpt, const char *token)
{
    struct bytes beginning = bytes_slice(bytes_of(token), 0, TOKEN_BEGINNING);

    return holds(excerpt, beginning) || holds(excerpt, BYTES("Bearer")) ||
           holds(excerpt, BYTES("earer "));
}

void hub_excerpt_append(const struct hub_excerpt *excerpt, const char *token, char *text,
                        size_t size)
{
    char clean[HUB_EXCERPT_SIZE];
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
