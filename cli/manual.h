/* The documents that the command writes about itself, from the table of verbs and that of the settings. Pure.
 *
 * `make` installs the man pages (in man(7)'s macros) and the completion. etc/mqtt-bridge.ini and the
 * tables of docs/SETTINGS.md are in the repository; a test holds them equal to what is written here. */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include "common/base/buf.h"

void manual_template(struct buf *out);      /* config --template: the commented ini */
void manual_reference(struct buf *out);     /* config --reference: the tables, in Markdown */
void manual_settings_page(struct buf *out); /* config --man: mqtt-bridge.ini(5) */
void manual_command_page(struct buf *out);  /* help --man: mqtt-bridge(1) */
void manual_completion(struct buf *out);    /* help --completion: for bash */

#endif
