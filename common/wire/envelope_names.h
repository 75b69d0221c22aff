/* Names on the wire that envelope, stamp and their tests share. Inside common/wire only. */
#ifndef COMMON_WIRE_ENVELOPE_NAMES_H
#define COMMON_WIRE_ENVELOPE_NAMES_H

#define ENVELOPE_CLASS             "Symfony\\Component\\Messenger\\Envelope"
#define ENVELOPE_STAMP_CLASS(name) "Symfony\\Component\\Messenger\\Stamp\\" name
#define ENVELOPE_STAMP_HEADER      "X-Message-Stamp-"

#define HEADER_ID          "X-Mqtt-Id"
#define HEADER_RECEIVED_AT "X-Mqtt-Received-At"
#define HEADER_QOS         "X-Mqtt-Qos"
#define HEADER_RETAIN      "X-Mqtt-Retain"
#define HEADER_ENCODING    "X-Mqtt-Encoding" /* base64: the JSON body's payload is */
#define HEADER_TOPIC       "X-Mqtt-Topic"    /* base64 of a topic that is not UTF-8 */
#define HEADER_RAW         "X-Mqtt-Raw"      /* the payload is an entry as it was: */
#define HEADER_ENTRY       "X-Mqtt-Entry"    /* which entry a failed row comes from */

#define HEADER_REDRIVEN                                                                            \
    "X-Mqtt-Redriven" /* the failed message that an operator sent again as this */

#define RAW_MESSAGE "1"      /* its field `message`, which is its only one */
#define RAW_FIELDS  "fields" /* all its fields: fields.h */

#define UNDECODABLE_TOPIC "$undecodable"

#endif
