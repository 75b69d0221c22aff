/* help: what --help prints, and what `make` installs: the man page and the completion. */
#include "cli/completion.h"
#include "cli/man_page.h"
#include "cli/verbs.h"

int verb_help(struct cli *cli, int argc, char **argv)
{
    const struct verb *verb = argc > 0 ? verb_find(argv[0]) : NULL;
    struct buf out = {0};

    if (argc > 0 && !verb)
        return cli_unknown_verb(argv[0]);
    if (cli_option(cli, "man"))
        man_page_command(&out);
    else if (cli_option(cli, "completion"))
        completion_bash(&out);
    else if (verb)
        verb_describe(&out, verb);
    else
        verbs_help(&out);
    return cli_print_free(&out);
}
