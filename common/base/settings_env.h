/* The environment, as settings see it: a variable that is empty counts as one that is not set, because
 * container tools pass variables through empty. */
#ifndef COMMON_BASE_SETTINGS_ENV_H
#define COMMON_BASE_SETTINGS_ENV_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* NULL if it is not set or empty. */
const char *settings_env_get(const char *name);

/* The variable `name`, or for a secret the content of the file that NAME_FILE names, without the line
 * ends at its end. Returns 1 with value (and origin in words) appended, 0 if neither is set, negative
 * with err if the file can't be read or both are set. */
MUST_CHECK int settings_env_read(const char *name, bool secret, struct buf *value,
                                 struct buf *origin, struct error *err);

/* Appends text with ${NAME} and ${NAME:-default} replaced; `$${` stands for `${`. secret: NAME_FILE
 * counts too. */
MUST_CHECK int settings_env_expand(struct bytes text, bool secret, struct buf *out,
                                   struct error *err);

/* Reads a whole file of at most `limit` bytes. -ERR_SYSTEM, -ERR_TOO_LARGE. */
MUST_CHECK int settings_read_file(const char *path, size_t limit, struct buf *out,
                                  struct error *err);

#endif
