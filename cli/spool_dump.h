/* spool dump: the messages in order, as text or JSON lines (--topic FILTER, --limit N, --unsent). names: of spools; none:
 * all. Returns an enum cli_exit. */
#ifndef CLI_SPOOL_DUMP_H
#define CLI_SPOOL_DUMP_H

#include "cli/cli.h"

int spool_dump_print(struct cli *cli, const struct settings *settings, int count, char **names);

#endif
