/* The client of the control socket: one request, one answer, blocking. docs/CONTROL.md has their form. */
#ifndef CLI_CONTROL_CLIENT_H
#define CLI_CONTROL_CLIENT_H

#include "cli/cli.h"
#include "common/base/error.h"

#include <cjson/cJSON.h>

/* Makes a request {"verb":verb} with the state directory of the bridge that is meant. The caller adds to it and deletes
 * it. */
cJSON *control_client_request(struct cli *cli, const char *verb);

#define CONTROL_CLIENT_PATIENCE_S 10

/* Sends the request and reads the answer (cJSON_Delete). -ERR_USAGE: the program that listens runs as a user who
 * can't be the bridge's; nothing was sent. -ERR_NOT_FOUND: the service is not running. -ERR_REFUSED: it refused (its
 * text is in err). -ERR_UNREACHABLE: no answer in patience_s (0: no limit). Also -ERR_SYSTEM, -ERR_FORMAT. */
MUST_CHECK int control_client_ask(const char *socket, const cJSON *request, int patience_s,
                                  cJSON **answer, struct error *err);

/* As control_client_ask, with the settings' socket and the verb's patience. Returns 0 or, after a failure, the exit
 * code, with the error printed unless cli->quiet. Faulty settings are a failure only if no service answers. */
MUST_CHECK int control_client_ask_or_report(struct cli *cli, const cJSON *request, cJSON **answer);

/* Prints the answer as one line of JSON. */
void control_client_print(const cJSON *answer);

/* A member of an answer, with a default if it is missing or null. */
const char *control_client_text(const cJSON *object, const char *name); /* "" */
double control_client_number(const cJSON *object, const char *name);    /* -1 */

#endif
