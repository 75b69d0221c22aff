/* spool show: what each spool holds: its destination, its mark, what is unsent, its segments. names: of spools, as this
 * prints them; none: all. Returns an enum cli_exit. */
#ifndef CLI_SPOOL_SHOW_H
#define CLI_SPOOL_SHOW_H

#include "cli/cli.h"

int spool_show_print(struct cli *cli, const struct settings *settings, int count, char **names);

#endif
