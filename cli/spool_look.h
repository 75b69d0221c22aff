/* The actions of `mqtt-bridge spool` that change nothing: they take no lock, and the bridge may run meanwhile.
 *
 *     show    what each spool holds: its destination, its mark, what is unsent, its segments
 *     verify  the checks of every record, header and oversized file, and what is missing between segments
 *     dump    the messages in order, as text or JSON lines (--topic FILTER, --limit N, --unsent)
 *
 * The arguments behind the action are names of spools, as show prints them; none: all. The settings are loaded. Each
 * returns an enum cli_exit, CLI_FAILED if verify or dump found damage. */
#ifndef CLI_SPOOL_LOOK_H
#define CLI_SPOOL_LOOK_H

#include "cli/cli.h"

int spool_look_show(struct cli *cli);
int spool_look_verify(struct cli *cli);
int spool_look_dump(struct cli *cli);

#endif
