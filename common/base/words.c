#include "common/base/words.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define LENGTH_MAX 63 /* longest name that is compared in full */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* True if a backslash within double quotes escapes the character. */
static bool is_escaped(char c)
{
    return c != '\0' && strchr("\"\\$`", c) != NULL;
}

/* Reads from behind the opening quote to behind the closing one; false if none closes. */
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

/* Reads one word, with its quotes and backslashes resolved. */
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

static int lower_at(struct bytes text, size_t index)
{
    return tolower((unsigned char)text.data[index]);
}

/* Computes the optimal string alignment. rows[0] is the current row and rows[1] the row before.
 * A swap of neighbours also needs rows[2], the row before that. */
size_t words_distance(struct bytes a, struct bytes b)
{
    size_t rows[3][LENGTH_MAX + 1] = {{0}};

    a.len = MIN(a.len, LENGTH_MAX);
    b.len = MIN(b.len, LENGTH_MAX);
    for (size_t j = 0; j <= b.len; j++)
        rows[0][j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        memcpy(rows[2], rows[1], sizeof(rows[0]));
        memcpy(rows[1], rows[0], sizeof(rows[0]));
        rows[0][0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            bool differ = lower_at(a, i - 1) != lower_at(b, j - 1);
            size_t best = MIN(rows[1][j - 1] + differ, MIN(rows[1][j], rows[0][j - 1]) + 1);

            if (i > 1 && j > 1 && lower_at(a, i - 1) == lower_at(b, j - 2) &&
                lower_at(a, i - 2) == lower_at(b, j - 1))
                best = MIN(best, rows[2][j - 2] + 1);
            rows[0][j] = best;
        }
    }
    return rows[0][b.len];
}

void words_consider(struct words_nearest *nearest, const char *candidate)
{
    struct bytes other = bytes_of(candidate);
    size_t longer = MAX(nearest->name.len, other.len);
    size_t allowed = MAX(longer / 3, 1);
    size_t distance = words_distance(nearest->name, other);

    if (distance > allowed || distance >= longer)
        return;
    if (!nearest->best || distance < nearest->best_distance) {
        nearest->best = candidate;
        nearest->best_distance = distance;
    }
}
