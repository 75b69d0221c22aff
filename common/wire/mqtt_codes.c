#include "common/wire/mqtt_codes.h"

#include "common/base/bytes.h"

struct code {
    int five;  /* the reason code of MQTT 5 */
    int three; /* the return code in CONNACK of 3.1.1; 0: 3.1.1 has none */
    const char *text;
    const char *hint;
};

static const struct code CODES[] = {
    {0x80, 0, "unspecified error", ""},
    {0, 0x80, "MQTT 3.1.1 gives no reason", ""}, /* in SUBACK */
    {0x81, 0, "malformed packet", ""},
    {0x82, 0, "protocol error", ""},
    {0x83, 0, "implementation specific error", ""},
    {0x84, 1, "unacceptable protocol version", " (see [mqtt] version)"},
    {0x85, 2, "client identifier rejected", " (see MQTT_CLIENT_ID)"},
    {0x86, 4, "bad user name or password", " (see MQTT_USERNAME and MQTT_PASSWORD)"},
    {0x87, 5, "not authorized", " (the broker wants other credentials, or forbids it)"},
    {0x88, 3, "server unavailable", ""},
    {0x89, 0, "server busy", ""},
    {0x8a, 0, "banned", ""},
    {0x8b, 0, "server shutting down", ""},
    {0x8c, 0, "bad authentication method", ""},
    {0x8d, 0, "keep alive timeout", ""},
    {0x8e, 0, "session taken over", " (see MQTT_CLIENT_ID)"},
    {0x8f, 0, "topic filter invalid", ""},
    {0x90, 0, "topic name invalid", ""},
    {0x93, 0, "receive maximum exceeded", ""},
    {0x94, 0, "topic alias invalid", ""},
    {0x95, 0, "packet too large", ""},
    {0x96, 0, "message rate too high", ""},
    {0x97, 0, "quota exceeded", ""},
    {0x98, 0, "administrative action", ""},
    {0x99, 0, "payload format invalid", ""},
    {0x9a, 0, "retain not supported", " (status_topic is retained)"},
    {0x9b, 0, "QoS not supported", ""},
    {0x9c, 0, "use another server", ""},
    {0x9d, 0, "server moved", ""},
    {0x9e, 0, "shared subscriptions not supported", ""},
    {0x9f, 0, "connection rate exceeded", ""},
    {0xa0, 0, "maximum connect time", ""},
    {0xa1, 0, "subscription identifiers not supported", ""},
    {0xa2, 0, "wildcard subscriptions not supported", ""},
};

static const struct code *find(int version, int code)
{
    static const struct code UNKNOWN = {0, 0, "no reason that is known", ""};

    for (size_t i = 0; i < LENGTH_OF(CODES); i++)
        if ((version == 5 ? CODES[i].five : CODES[i].three) == code)
            return &CODES[i];
    return &UNKNOWN;
}

const char *mqtt_codes_text(int version, int code)
{
    return find(version, code)->text;
}

const char *mqtt_codes_hint(int version, int code)
{
    return find(version, code)->hint;
}
