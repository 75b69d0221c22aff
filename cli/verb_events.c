/* events: what happened to the bridge since its start, the newest last. */
#include "cli/control_client.h"
#include "cli/verbs.h"

#include <stdio.h>

int verb_events(struct cli *cli, int argc, char **argv)
{
    cJSON *request = control_client_request(cli, "events");
    cJSON *answer = NULL;
    const cJSON *event;

    (void)argc;
    (void)argv;
    int code = control_client_ask_or_say(cli, request, &answer, NULL);
    if (code == CLI_DONE && cli->json) {
        control_client_print(answer);
    } else if (code == CLI_DONE) {
        cJSON_ArrayForEach(event, cJSON_GetObjectItemCaseSensitive(answer, "events"))
        {
            printf("%s  %s\n", control_client_text(event, "time"),
                   control_client_text(event, "text"));
        }
    }
    cJSON_Delete(request);
    cJSON_Delete(answer);
    return code;
}
