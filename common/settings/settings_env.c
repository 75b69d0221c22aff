#include "common/settings/settings_internal.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/words.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECRET_FILE_MAX 65536

const char *settings_env_get(const char *name)
{
    const char *value = getenv(name);

    return value && value[0] ? value : NULL;
}

static bool is_numeric_host(struct bytes host)
{
    unsigned char ip[BYTES_IP_SIZE];
    bool bracketed = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';

    return bytes_to_ip(bracketed ? bytes_slice(host, 1, host.len - 2) : host, ip) > 0;
}

/* True for NAME_PORT=tcp://10.0.0.1:1883, which Kubernetes and Docker's former links set. */
static bool is_service_link(struct bytes name, struct bytes value)
{
    static const char *const SCHEMES[] = {"tcp://", "udp://", "sctp://"};
    const char *colon = memrchr(value.data, ':', value.len);
    uint64_t port;

    if (name.len < 6 || !bytes_equal_text(bytes_slice(name, name.len - 5, 5), "_PORT"))
        return false;
    for (size_t i = 0; i < LENGTH_OF(SCHEMES); i++) {
        struct bytes scheme = bytes_of(SCHEMES[i]);

        if (!bytes_starts_with(value, scheme))
            continue;
        size_t host_len = (size_t)(colon - value.data);
        return host_len > scheme.len && bytes_to_u64(bytes_of(colon + 1), &port) &&
               is_numeric_host(bytes_slice(value, scheme.len, host_len - scheme.len));
    }
    return false;
}

/* Tells which Service set the variable: a Service "my-mqtt" sets MY_MQTT_PORT. */
static void report_service_link(struct buf *out, struct bytes name, const char *value)
{
    buf_printf(out,
               "environment %.*s: passed over: `%s` is no port but what Kubernetes sets for a "
               "Service called `",
               BYTES_ARG(name), value);
    for (size_t i = 0; i + strlen("_PORT") < name.len; i++) {
        char c = name.data[i];

        buf_append_char(out, c == '_' ? '-' : (char)tolower((unsigned char)c));
    }
    buf_append_text(out, "`; `enableServiceLinks: false` in the pod's spec ends that");
}

static bool has_reference(struct bytes value)
{
    return memmem(value.data, value.len, "${", 2) != NULL ||
           memmem(value.data, value.len, "$(", 2) != NULL;
}

static bool is_reference(struct bytes value)
{
    return value.len > 3 && value.data[0] == '$' &&
           ((value.data[1] == '{' && value.data[value.len - 1] == '}') ||
            (value.data[1] == '(' && value.data[value.len - 1] == ')'));
}

static bool has_comment(struct bytes value)
{
    for (size_t i = 1; i + 1 < value.len; i++)
        if (value.data[i] == '#' && strchr(" \t", value.data[i - 1]) != NULL &&
            strchr(" \t", value.data[i + 1]) != NULL)
            return true;
    return false;
}

/* Strips white space and quotes from the value. Refuses values that `docker run --env-file` has
 * left wrong. */
static int clean_value(const char *name, enum settings_env_kind kind, const char *plain,
                       struct bytes *value, struct error *err)
{
    const char *odd = NULL;
    bool secret = kind == SETTINGS_ENV_SECRET;

    *value = bytes_trim(bytes_of(plain));
    if (secret && value->len < strlen(plain))
        odd = "white space";
    if (value->len >= 2 && strchr("\"'", value->data[0]) != NULL &&
        value->data[value->len - 1] == value->data[0]) {
        *value = bytes_slice(*value, 1, value->len - 2);
        odd = secret && value->len > 0 ? "quotes" : odd;
    }
    if (odd != NULL)
        return error_set(err, ERR_USAGE,
                         "%s has %s around it, which `docker run --env-file` keeps: write it "
                         "without, or put it into a file and name that by %s_FILE",
                         name, odd, name);
    if (secret ? is_reference(*value) : has_reference(*value))
        return error_set(err, ERR_USAGE,
                         "%s refers to another variable (`$`), which nobody has replaced: "
                         "`docker run --env-file` does not; write the value itself",
                         name);
    if (!secret && has_comment(*value))
        return error_set(err, ERR_USAGE,
                         "%s has ` # ` in it: `docker run --env-file` takes a comment for a part "
                         "of the value; give it a line of its own",
                         name);
    return 0;
}

static int read_secret_file(const char *name, const char *path, struct buf *value,
                            struct error *err)
{
    size_t before = value->len;
    int result = file_read(path, SECRET_FILE_MAX, value, err);

    if (result < 0)
        return error_wrap(err, "%s_FILE", name);
    while (value->len > before &&
           (value->data[value->len - 1] == '\n' || value->data[value->len - 1] == '\r'))
        value->len--;
    return 1;
}

int settings_env_read(const char *name, enum settings_env_kind kind,
                      struct settings_env_value *value, struct error *err)
{
    const char *plain = settings_env_get(name);
    char *file_name = xasprintf("%s_FILE", name);
    const char *path = kind != SETTINGS_ENV_PLAIN ? settings_env_get(file_name) : NULL;
    struct bytes text = BYTES_NONE;
    int result = 0;

    *value = (struct settings_env_value){0};
    if (plain && is_service_link(bytes_of(name), bytes_of(plain)))
        report_service_link(&value->notice, bytes_of(name), plain);
    else if (plain)
        result = clean_value(name, kind, plain, &text, err);
    if (text.len > 0 && path && result == 0) {
        result =
            error_set(err, ERR_USAGE, "%s and %s are both set: give one of them", name, file_name);
    } else if (text.len > 0 && result == 0) {
        buf_append(&value->text, text);
        buf_printf(&value->origin, "environment %s", name);
        result = 1;
    } else if (path && result == 0) {
        result = read_secret_file(name, path, &value->text, err);
        buf_printf(&value->origin, "%s %s", file_name, path);
    }
    free(file_name);
    return result;
}

void settings_env_free(struct settings_env_value *value)
{
    buf_free(&value->text);
    buf_free(&value->origin);
    buf_free(&value->notice);
}

bool settings_env_is_name(struct bytes name)
{
    return name.len > 0 && bytes_leading_digits(name) == 0 && bytes_only_holds(name, "_");
}

/* reference: the text between ${ and }. */
static int expand_one(struct bytes reference, bool secret, struct buf *out, struct buf *notices,
                      struct buf *names, struct error *err)
{
    struct bytes name = reference;
    struct bytes fallback = BYTES_NONE;
    bool has_fallback = false;

    for (size_t i = 0; i + 1 < reference.len && !has_fallback; i++) {
        if (reference.data[i] == ':' && reference.data[i + 1] == '-') {
            name = bytes_slice(reference, 0, i);
            fallback = bytes_slice(reference, i + 2, reference.len - i - 2);
            has_fallback = true;
        }
    }
    if (!settings_env_is_name(name)) {
        return error_set(
            err, ERR_USAGE,
            "`${` must be followed by a variable's name and `}` (write `$${` for `${`)");
    }
    char *text = xstrndup(name.data, name.len);
    struct settings_env_value value;
    int result =
        settings_env_read(text, secret ? SETTINGS_ENV_SECRET : SETTINGS_ENV_PLAIN, &value, err);
    buf_append(out, buf_bytes(&value.text));
    if (value.notice.len > 0)
        buf_printf(notices, "%s\n", buf_text(&value.notice));
    if (secret)
        buf_printf(names, "%s ", text);
    if (result == 0 && has_fallback) {
        buf_append(out, fallback);
    } else if (result == 0) {
        result = error_set(err, ERR_USAGE,
                           "the variable %.80s is not set (${%.80s:-…} would give it a default)",
                           text, text);
    }
    settings_env_free(&value);
    free(text);
    return result < 0 ? result : 0;
}

int settings_env_expand(struct bytes text, bool secret, struct buf *out, struct buf *notices,
                        struct buf *names, struct error *err)
{
    size_t i = 0;

    while (i < text.len) {
        struct bytes rest = bytes_slice(text, i, text.len - i);

        if (bytes_starts_with(rest, BYTES("$${"))) {
            buf_append_text(out, "${");
            i += 3;
            continue;
        }
        if (!bytes_starts_with(rest, BYTES("${"))) {
            buf_append_char(out, text.data[i]);
            i++;
            continue;
        }
        struct bytes inner;
        struct bytes behind;
        if (!bytes_split(bytes_slice(rest, 2, rest.len - 2), '}', &inner, &behind))
            return error_set(err, ERR_USAGE, "`${` without `}` (write `$${` for `${`)");
        int result = expand_one(inner, secret, out, notices, names, err);
        if (result < 0)
            return result;
        i += 3 + inner.len;
    }
    return 0;
}

/* Variables that look like mqtt-bridge's and are not read: names of other programs, and
 * misspellings. A notice is given only for the prefixes MQTT_, MERCURE_ and MESSENGER_, and only
 * if the right variable is not set. */

static const struct {
    const char *name;
    const char *ours; /* a variable, or a key of the ini */
} OTHERS[] = {{"MQTT_USER", "MQTT_USERNAME"},
              {"MQTT_PASS", "MQTT_PASSWORD"},
              {"MQTT_URL", "MQTT_HOST"},
              {"MQTT_URI", "MQTT_HOST"},
              {"MQTT_BROKER", "MQTT_HOST"},
              {"MQTT_BROKER_URL", "MQTT_HOST"},
              {"MQTT_BROKER_HOST", "MQTT_HOST"},
              {"MQTT_SERVER", "MQTT_HOST"},
              {"MQTT_BROKER_PORT", "MQTT_PORT"},
              {"MQTT_SSL", "MQTT_TLS"},
              {"MQTT_USE_TLS", "MQTT_TLS"},
              {"MQTT_CA_FILE", "[mqtt] ca_file"},
              {"MERCURE_JWT_KEY", "MERCURE_JWT_SECRET"},
              {"MERCURE_JWT_TOKEN", "MERCURE_JWT"},
              {"MERCURE_PUBLISHER_JWT_KEY", "MERCURE_JWT_SECRET"}};

struct bytes settings_env_without_file(struct bytes name)
{
    struct bytes file = BYTES("_FILE");

    if (name.len > file.len && bytes_ends_with(name, file))
        name.len -= file.len;
    return name;
}

/* True if the table has the variable; for secrets also with _FILE. */
static bool is_read(struct bytes name)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        bool secret = (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;

        if (row->env && bytes_equal_text(secret ? settings_env_without_file(name) : name, row->env))
            return true;
    }
    return false;
}

static const char *find_ours(struct bytes name)
{
    struct words_nearest nearest = {.name = settings_env_without_file(name)};

    for (size_t i = 0; i < LENGTH_OF(OTHERS); i++)
        if (bytes_equal_text(name, OTHERS[i].name))
            return OTHERS[i].ours;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].env)
            words_consider(&nearest, SETTINGS_TABLE[i].env);
    return nearest.best;
}

void settings_note_misnamed(struct settings *settings)
{
    for (char **variable = environ; *variable; variable++) {
        struct bytes name, value;

        bytes_split(bytes_of(*variable), '=', &name, &value);
        if (value.len == 0 || is_read(name) || bytes_starts_with(name, BYTES("MQTT_BRIDGE_")) ||
            (!bytes_starts_with(name, BYTES("MQTT_")) &&
             !bytes_starts_with(name, BYTES("MERCURE_")) &&
             !bytes_starts_with(name, BYTES("MESSENGER_"))))
            continue;
        const char *ours = find_ours(name);
        if (ours && !settings_env_get(ours))
            buf_printf(&settings->notices, "environment %.*s: is not read; did you mean %s?\n",
                       (int)(name.len < 60 ? name.len : 60), name.data, ours);
    }
}
