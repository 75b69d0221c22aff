/* The man pages, in man(7)'s macros: mqtt-bridge(1) from the table of verbs, mqtt-bridge.ini(5) from that of the
 * settings. Pure. `make` writes them with `mqtt-bridge help --man` and `config --man`. */
#ifndef CLI_MAN_PAGE_H
#define CLI_MAN_PAGE_H

#include "common/base/buf.h"

void man_page_command(struct buf *out);
void man_page_settings(struct buf *out);

#endif
