/* Texts for a broker's reason codes: CONNACK, SUBACK and DISCONNECT. MQTT 3.1.1, section 3.2.2.3; MQTT 5, section 2.4.
 * version: 5 or 4 (which is 3.1.1). */
#ifndef COMMON_WIRE_MQTT_CODES_H
#define COMMON_WIRE_MQTT_CODES_H

const char *mqtt_codes_text(int version, int code); /* "not authorized" */
/* " (see MQTT_USERNAME and MQTT_PASSWORD)", or "". */
const char *mqtt_codes_hint(int version, int code);

#endif
