/* What the settings table says, for people: etc/mqtt-bridge.ini and docs/SETTINGS.md. Pure; a test holds
 * the two files equal to this. */
#ifndef CLI_SETTINGS_DOCS_H
#define CLI_SETTINGS_DOCS_H

#include "common/base/buf.h"

void settings_docs_template(struct buf *out);  /* the commented ini */
void settings_docs_reference(struct buf *out); /* Markdown */

#endif
