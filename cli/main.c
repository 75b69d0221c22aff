#include "cli/cli.h"
#include "cli/verbs.h"
#include "common/base/alloc.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct cli cli = {0};
    char **words = xcalloc((size_t)argc + 1, sizeof(*words));
    int count;
    int exit_code;

    if (cli_read(&cli, argc, argv, &count, words, &exit_code))
        exit_code = cli.verb->run(&cli, count, words);
    cli_free(&cli);
    free(words);
    return exit_code;
}
