/* Does every server answer as the bridge needs it? Connects to each in turn, blocking; a server that is
 * silent, or whose name is not looked up, costs some seconds and not more. */
#ifndef CLI_CHECK_CONNECT_H
#define CLI_CHECK_CONNECT_H

#include "cli/check_server.h"
#include "common/settings/settings.h"

void check_connect(const struct settings *settings, struct check_servers *servers);

#endif
