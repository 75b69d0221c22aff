/* health: a probe. 0 if the service is ready, 1 and the reasons on standard error if not, 3 if it is not
 * running; --quiet: the same without a word. */
#include "cli/control_client.h"
#include "cli/verbs.h"

#include <stdio.h>

int verb_health(struct cli *cli, int argc, char **argv)
{
    cJSON *request = control_client_request(cli, "health");
    cJSON *health = NULL;
    const cJSON *reason;

    (void)argc;
    (void)argv;
    cli->quiet = cli_option(cli, "quiet") != NULL;
    int code = control_client_ask_or_say(cli, request, &health, NULL);
    if (code == CLI_DONE && !cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(health, "ready"))) {
        code = CLI_FAILED;
        cJSON_ArrayForEach(reason, cJSON_GetObjectItemCaseSensitive(health, "reasons"))
        {
            if (cJSON_IsString(reason) && !cli->quiet)
                cli_fail(CLI_FAILED, "not ready: %s", reason->valuestring);
        }
    }
    cJSON_Delete(request);
    cJSON_Delete(health);
    return code;
}
