#include "cli/verbs.h"

int verb_help(struct cli *cli, int argc, char **argv)
{
    const struct verb *verb = argc > 0 ? verb_find(argv[0]) : NULL;
    struct buf out = {0};

    (void)cli;
    if (argc > 0 && !verb)
        return cli_unknown_verb(argv[0]);
    if (verb)
        verb_describe(&out, verb);
    else
        verbs_help(&out);
    bool printed = cli_print(&out);
    buf_free(&out);
    return printed ? CLI_DONE : CLI_FAILED;
}
