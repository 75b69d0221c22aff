/* run becomes the supervisor: the one beside this program, so that a build or an unpacked archive runs
 * its own, else the one in PATH. */
#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUPERVISOR "mqtt-bridge-supervisor"

/* The program beside our own executable, or NULL. Owned by the caller. */
static char *find_beside(void)
{
    char *folder = file_own_folder();
    char *path = folder ? xasprintf("%s/%s", folder, SUPERVISOR) : NULL;

    free(folder);
    if (path && access(path, X_OK) == 0)
        return path;
    free(path);
    return NULL;
}

int verb_run(struct cli *cli, int argc, char **argv)
{
    char *beside = find_beside();
    char *config = cli->config ? xstrdup(cli->config) : NULL;
    char program[] = SUPERVISOR;
    char option[] = "--config";
    char *words[] = {program, config ? option : NULL, config, NULL};

    (void)argc;
    (void)argv;
    if (beside)
        execv(beside, words);
    else
        execvp(SUPERVISOR, words);
    cli_fail(CLI_FAILED, "%s: %s", beside ? beside : SUPERVISOR, strerror(errno));
    free(beside);
    free(config);
    return CLI_FAILED;
}
