#include "supervisor/notify.h"

#include <string.h>

static bool is_blank(const char *line)
{
    return line[strspn(line, " \t\r")] == '\0';
}

static bool may_be_shown(struct notify_output *output, int64_t now_ms)
{
    if (output->shown == 0 || now_ms - output->window_ms >= NOTIFY_WINDOW_MS) {
        output->window_ms = now_ms;
        output->shown = 0;
    }
    if (output->shown >= NOTIFY_LINES_PER_WINDOW)
        return false;
    output->shown++;
    return true;
}

static void finish_line(struct notify_output *output, int64_t now_ms, notify_output_show *say,
                        void *context)
{
    output->line[output->len] = '\0';
    output->len = 0;
    if (is_blank(output->line))
        return;
    bytes_to_printable(bytes_of(output->line), output->last_line, sizeof(output->last_line));
    if (!may_be_shown(output, now_ms)) {
        output->hidden++;
        return;
    }
    say(context, output->last_line, output->hidden);
    output->hidden = 0;
}

void notify_output_feed(struct notify_output *output, struct bytes bytes, int64_t now_ms,
                        notify_output_show *say, void *context)
{
    for (size_t i = 0; i < bytes.len; i++) {
        char c = bytes.data[i];

        if (c == '\n')
            finish_line(output, now_ms, say, context);
        else if (output->len < sizeof(output->line) - 1)
            output->line[output->len++] = c == '\0' ? ' ' : c;
    }
}

void notify_output_end(struct notify_output *output, int64_t now_ms, notify_output_show *say,
                       void *context)
{
    if (output->len > 0)
        finish_line(output, now_ms, say, context);
    if (output->hidden > 0)
        say(context, output->last_line, output->hidden - 1);
    output->hidden = 0;
}

bool notify_ready_feed(struct notify_ready *line, struct bytes bytes)
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
