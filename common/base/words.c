#include "common/base/words.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"

#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Behind a backslash within double quotes. */
static bool is_escaped(char c)
{
    return c != '\0' && strchr("\"\\$`", c) != NULL;
}

/* From behind the opening quote to behind the closing one. False: there is none. */
static bool take_quoted(struct bytes text, size_t *at, struct buf *word)
{
    char quote = text.data[*at - 1];

    for (; *at < text.len; (*at)++) {
        char c = text.data[*at];

        if (c == quote) {
            (*at)++;
            return true;
        }
        if (quote == '"' && c == '\\' && *at + 1 < text.len && is_escaped(text.data[*at + 1]))
            c = text.data[++*at];
        buf_append_char(word, c);
    }
    return false;
}

/* One word. */
static int take_word(struct bytes text, size_t *at, struct buf *word, struct error *err)
{
    while (*at < text.len && !is_space(text.data[*at])) {
        char c = text.data[(*at)++];

        if (c == '\0')
            return error_set(err, ERR_FORMAT, "it holds a NUL byte");
        if ((c == '\'' || c == '"') && !take_quoted(text, at, word))
            return error_set(err, ERR_FORMAT, "a %s is not closed", c == '"' ? "\"" : "'");
        if (c == '\'' || c == '"')
            continue;
        if (c == '\\' && *at == text.len)
            return error_set(err, ERR_FORMAT, "nothing stands behind its last backslash");
        buf_append_char(word, c == '\\' ? text.data[(*at)++] : c);
    }
    if (word->len > 0 && memchr(word->data, '\0', word->len) != NULL)
        return error_set(err, ERR_FORMAT, "it holds a NUL byte");
    return 0;
}

int words_split(char ***words, struct bytes text, struct error *err)
{
    struct buf word = {0};
    size_t len = 0;
    int result = 0;

    *words = xcalloc(1, sizeof(**words));
    for (size_t at = 0; result == 0;) {
        while (at < text.len && is_space(text.data[at]))
            at++;
        if (at == text.len)
            break;
        buf_clear(&word);
        result = take_word(text, &at, &word, err);
        *words = xrealloc(*words, (len + 2) * sizeof(**words));
        (*words)[len++] = xstrdup(buf_text(&word));
        (*words)[len] = NULL;
    }
    buf_free(&word);
    if (result == 0 && len == 0)
        result = error_set(err, ERR_FORMAT, "it names no program");
    if (result < 0) {
        words_free(*words);
        *words = NULL;
    }
    return result;
}

void words_free(char **words)
{
    for (size_t i = 0; words != NULL && words[i] != NULL; i++)
        free(words[i]);
    free(words);
}
