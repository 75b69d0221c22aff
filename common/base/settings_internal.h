/* What the files of the settings module share: making the struct, and remembering where values are from.
 * Not for others. */
#ifndef COMMON_BASE_SETTINGS_INTERNAL_H
#define COMMON_BASE_SETTINGS_INTERNAL_H

#include "common/base/settings_table.h"

/* Every field has its default; no transport, consumer or route yet. */
struct settings *settings_new(void);
/* One more [consumer:NAME], [transport:NAME] or [route:NAME], at its defaults, at the end of its list.
 * Moves the list: no origin may have been kept for it yet. Nothing for other sections. */
void settings_add_view(struct settings *settings, enum setting_section section, struct bytes name);

void settings_set_origin(struct settings *settings, const void *field, const char *origin);
/* NULL: default. */
const char *settings_get_origin(const struct settings *settings, const void *field);

/* "<where>: [section] key: text" as one line. where is left out when it is NULL or a default. */
void settings_fault(struct buf *faults, const char *where, const struct setting_view *view,
                    const char *key, const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Puts the fault lines behind `from` into the order of the file's lines, the others behind them. */
void settings_sort_faults(struct buf *faults, size_t from, const char *file);

/* Defaults that depend on who runs the program, and on other settings. settings_derive_port is called
 * by itself as well, before the consumers copy [mqtt]. */
void settings_derive_port(struct settings *settings, struct settings_mqtt *mqtt);
void settings_derive(struct settings *settings, struct buf *faults);
/* What no single key can tell. */
void settings_check(const struct settings *settings, struct buf *faults);

#endif
