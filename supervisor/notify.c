#include "supervisor/notify.h"

#include <string.h>

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r")] == '\0';
}

static bool may_be_shown(struct words *words, int64_t now_ms)
{
    if (words->shown == 0 || now_ms - words->window_ms >= WORDS_WINDOW_MS) {
        words->window_ms = now_ms;
        words->shown = 0;
    }
    if (words->shown >= WORDS_PER_WINDOW)
        return false;
    words->shown++;
    return true;
}

static void finish_line(struct words *words, int64_t now_ms, words_say *say, void *context)
{
    words->line[words->len] = '\0';
    words->len = 0;
    if (is_blank(words->line))
        return;
    memcpy(words->last, words->line, sizeof(words->last));
    if (!may_be_shown(words, now_ms)) {
        words->hidden++;
        return;
    }
    say(context, words->last, words->hidden);
    words->hidden = 0;
}

void words_feed(struct words *words, struct bytes bytes, int64_t now_ms, words_say *say,
                void *context)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.data[i];

        if (c == '\n')
            finish_line(words, now_ms, say, context);
        else if (words->len < sizeof(words->line) - 1)
            words->line[words->len++] = c == '\0' ? ' ' : c;
    }
}

void words_end(struct words *words, int64_t now_ms, words_say *say, void *context)
{
    if (words->len > 0)
        finish_line(words, now_ms, say, context);
    if (words->hidden > 0)
        say(context, words->last, words->hidden - 1);
    words->hidden = 0;
}

bool ready_feed(struct ready_line *line, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.len && !line->spoilt; i++) {
        char c = bytes.data[i];

        if (c == '\n') {
            line->spoilt = true;
            return line->len == 5 && memcmp(line->text, "READY", 5) == 0;
        }
        if (line->len == sizeof(line->text))
            line->spoilt = true;
        else
            line->text[line->len++] = c;
    }
    return false;
}
