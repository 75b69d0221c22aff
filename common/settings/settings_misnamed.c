/* Variables that look like ours and are not read: what other programs call the same thing, and slips. Told
 * only where the right one is not set, and for names that begin as ours do. */
#include "common/settings/settings_env.h"
#include "common/settings/settings_internal.h"

#include "common/base/nearest.h"

#include <string.h>
#include <unistd.h>

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

static struct bytes without_file(struct bytes name)
{
    struct bytes file = BYTES("_FILE");

    if (name.len > file.len && bytes_equal(bytes_slice(name, name.len - file.len, file.len), file))
        name.len -= file.len;
    return name;
}

/* Of the table, with _FILE for secrets. */
static bool is_read(struct bytes name)
{
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++) {
        const struct setting *row = &SETTINGS_TABLE[i];
        bool secret = (row->flags & (SETTING_SECRET | SETTING_DSN)) != 0;

        if (row->env && bytes_equal_text(secret ? without_file(name) : name, row->env))
            return true;
    }
    return false;
}

static const char *find_ours(struct bytes name)
{
    struct nearest nearest = {.name = without_file(name)};

    for (size_t i = 0; i < sizeof(OTHERS) / sizeof(OTHERS[0]); i++)
        if (bytes_equal_text(name, OTHERS[i].name))
            return OTHERS[i].ours;
    for (size_t i = 0; i < SETTINGS_TABLE_LEN; i++)
        if (SETTINGS_TABLE[i].env)
            nearest_consider(&nearest, SETTINGS_TABLE[i].env);
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
