/* The header Host: by what name the page was called.
 *
 * A web site may give a name of its own this machine's address; a browser then lets it read the answers (DNS
 * rebinding). It can do so under its own names alone: `localhost` and IP addresses are safe, and every other
 * name must be one of [http] hosts. Pure. */
#ifndef MONITOR_HOST_H
#define MONITOR_HOST_H

#include "common/base/bytes.h"

/* given: the header, "name", "name:port" or "[::1]:port". hosts and listen: those of [http]; the host of listen is one of
 * the names. */
bool host_is_allowed(struct bytes given, const char *hosts, const char *listen);

/* The header without its port and brackets, and without a dot at its end; BYTES_NONE if it is no name or
 * address: what is returned holds letters, digits, '.', '-', '_' and ':' only. */
struct bytes host_name(struct bytes given);

#endif
