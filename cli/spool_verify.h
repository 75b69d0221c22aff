/* spool verify: the checks of every record, header and oversized file, and what is missing between segments. names: of
 * spools; none: all. Returns CLI_FAILED if there is damage, else an enum cli_exit. */
#ifndef CLI_SPOOL_VERIFY_H
#define CLI_SPOOL_VERIFY_H

#include "cli/cli.h"

int spool_verify_print(struct cli *cli, const struct settings *settings, int count, char **names);

#endif
