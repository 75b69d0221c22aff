/* What the files of the settings module share: making the struct, and remembering where values are from.
 * Not for others. */
#ifndef COMMON_SETTINGS_SETTINGS_INTERNAL_H
#define COMMON_SETTINGS_SETTINGS_INTERNAL_H

#include "common/settings/settings_table.h"

/* Every field has its default; no section with a name yet. */
struct settings *settings_new(void);
/* One more section with a name, at its defaults, at the end of its list.
 * Moves the list: no origin may have been kept for it yet. Nothing for other sections. */
void settings_add_view(struct settings *settings, enum setting_section section, struct bytes name);

void settings_set_origin(struct settings *settings, const void *field, const char *origin);
/* NULL: default. */
const char *settings_get_origin(const struct settings *settings, const void *field);
/* Its value was written for this section, and not inherited or derived. */
bool settings_is_given(const struct settings *settings, const void *field);

/* Defaults that depend on who runs the program, and on other settings. settings_derive_broker is called
 * by itself as well, before the consumers copy [mqtt]. */
void settings_derive_broker(struct settings *settings, const struct setting_view *view,
                            struct buf *faults);
void settings_derive(struct settings *settings, struct buf *faults);
/* Reads `options` of [worker], those of messenger:consume with PHP's meaning. Appends one line a fault to faults, each
 * behind `prefix`, and goes on; true if there was none. */
bool settings_consume_parse(struct settings_consume *consume, struct bytes options,
                            const char *prefix, struct buf *faults);
/* Notices of variables that are not read, but look like ours. */
void settings_note_misnamed(struct settings *settings);
/* What no single key can tell, and what the values mean to the codecs. to_publish: as in settings_load. */
void settings_check(const struct settings *settings, bool to_publish, struct buf *notices,
                    struct buf *faults);

#endif
