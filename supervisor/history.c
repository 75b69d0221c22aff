#include "supervisor/history.h"

#include "common/base/bytes.h"
#include "common/base/clock.h"

#include <stdarg.h>
#include <stdio.h>

void history_add(struct history *history, const char *format, ...)
{
    struct history_entry *entry = &history->entry[history->added % HISTORY_KEPT];
    char text[2 * HISTORY_TEXT_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    bytes_to_printable(bytes_of(text), entry->text, sizeof(entry->text));
    entry->wall_us = clock_wall_us();
    history->added++;
}

const struct history_entry *history_get(const struct history *history, size_t index)
{
    size_t first = history->added > HISTORY_KEPT ? history->added - HISTORY_KEPT : 0;

    if (first + index >= history->added)
        return NULL;
    return &history->entry[(first + index) % HISTORY_KEPT];
}
