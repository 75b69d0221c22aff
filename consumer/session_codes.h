/* What a broker's code says, in words: CONNACK, SUBACK and DISCONNECT. MQTT 3.1.1, section 3.2.2.3; MQTT
 * 5, section 2.4. version: 5 or 4 (which is 3.1.1). */
#ifndef CONSUMER_SESSION_CODES_H
#define CONSUMER_SESSION_CODES_H

const char *session_code_text(int version, int code); /* "not authorized" */
/* " (see MQTT_USERNAME and MQTT_PASSWORD)", or "". */
const char *session_code_hint(int version, int code);

#endif
