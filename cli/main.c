#include "cli/cli.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct cli cli = {.arguments = xcalloc((size_t)argc + 1, sizeof(*cli.arguments))};
    int exit_code;

    if (cli_read(&cli, argc, argv, &exit_code))
        exit_code = cli.verb->run(&cli);
    cli_free(&cli);
    free(cli.arguments);
    return exit_code;
}
