/* The command's end of the control socket: one request, one answer, blocking. docs/CONTROL.md has the form of both. */
#ifndef CLI_CONTROL_CLIENT_H
#define CLI_CONTROL_CLIENT_H

#include "cli/cli.h"
#include "common/base/error.h"

#include <cjson/cJSON.h>

/* {"verb":verb} with the bridge that is meant, by its state directory; for the caller to add to and to delete. */
cJSON *control_client_request(struct cli *cli, const char *verb);

#define CONTROL_CLIENT_PATIENCE_S 10

/* Sends the request and reads the answer (cJSON_Delete). Nothing is sent to a program of a user who can't be the
 * bridge's: such a one is refused with -ERR_USAGE. -ERR_NOT_FOUND if the service is not running,
 * -ERR_REFUSED if it answered no (its text in err), -ERR_SYSTEM, -ERR_FORMAT or, without an answer in
 * patience_s (0: no limit), -ERR_UNREACHABLE. */
MUST_CHECK int control_client_ask(const char *socket, const cJSON *request, int patience_s,
                                  cJSON **answer, struct error *err);

/* The same with the settings' socket, and patience for the verb; a failure is the exit code, and said on standard error
 * unless cli->quiet. Faulty settings are one only if nobody answers. */
MUST_CHECK int control_client_ask_or_say(struct cli *cli, const cJSON *request, cJSON **answer);

/* Prints the answer as one line of JSON. */
void control_client_print(const cJSON *answer);

/* What an answer says about a process, with defaults for what is missing or null. */
const char *control_client_text(const cJSON *object, const char *name); /* "" */
double control_client_number(const cJSON *object, const char *name);    /* -1 */

#endif
