/* The environment, as settings see it.
 *
 * A variable that is empty counts as one that is not set, because container tools pass variables through empty.
 * So does a NAME_PORT that Kubernetes has set for a Service: tcp://10.0.0.1:1883
 * (https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables).
 *
 * `docker run --env-file` hands on what stands behind the `=` of a .env file as it is, where compose, Symfony and
 * a shell read more into it. So white space and quotes around a value are taken away. A secret may have them: there
 * they are an error, as are a comment behind a value and a ${NAME} in it that nobody has replaced. */
#ifndef COMMON_SETTINGS_SETTINGS_ENV_H
#define COMMON_SETTINGS_SETTINGS_ENV_H

#include "common/base/buf.h"
#include "common/base/error.h"

/* NULL if it is not set or empty. */
const char *settings_env_get(const char *name);

enum settings_env_kind {
    SETTINGS_ENV_PLAIN,
    SETTINGS_ENV_DSN,    /* with NAME_FILE, as a secret */
    SETTINGS_ENV_SECRET, /* or a part of a DSN */
};

/* What is read, and what is to be told of it. */
struct settings_env_value {
    struct buf text;
    struct buf origin; /* in words */
    struct buf notice; /* the variable was passed over; empty: it was not */
};

/* The variable `name`, or for a secret the content of the file that NAME_FILE names, without the line
 * ends at its end. Returns 1, 0 if neither is set, negative with err if the file can't be read or both are
 * set, or if the variable can't be meant so (above); value is to be freed in any case. */
MUST_CHECK int settings_env_read(const char *name, enum settings_env_kind kind,
                                 struct settings_env_value *value, struct error *err);
void settings_env_free(struct settings_env_value *value);

/* Appends text with ${NAME} and ${NAME:-default} replaced; `$${` stands for `${`. secret: the
 * variables are, and NAME_FILE counts too. notices: a line for each variable that was passed over; names: the
 * variables of a secret, a space behind each. */
MUST_CHECK int settings_env_expand(struct bytes text, bool secret, struct buf *out,
                                   struct buf *notices, struct buf *names, struct error *err);

bool settings_env_is_name(struct bytes name); /* of a variable */
/* NAME of a NAME_FILE; else the name as it is. */
struct bytes settings_env_without_file(struct bytes name);

#endif
