/* The stamps of Symfony Messenger's that the bridge writes: their classes, their properties, and how each of the two
 * serializers writes one, as 6.4 does. Pure. */
#ifndef COMMON_WIRE_STAMP_FORM_H
#define COMMON_WIRE_STAMP_FORM_H

#include "common/wire/envelope.h"

enum stamp_class {
    STAMP_MESSAGE_ID,
    STAMP_ERROR,
    STAMP_SENT,
    STAMP_DELAY,
    STAMP_REDELIVERY,
    STAMP_CLASSES, /* those above are added for a failure, in this order */
    STAMP_BUS_NAME = STAMP_CLASSES,
    STAMP_HANDLED,
    STAMPS_KNOWN,
};

enum stamp_form {
    STAMP_FORM_TEXT,
    STAMP_FORM_NUMBER,
    STAMP_FORM_CODE, /* a number or a text */
    STAMP_FORM_TIME,
    STAMP_FORM_NULL, /* always written as null */
};

#define STAMP_PROPERTIES_MAX 4

struct stamp_property {
    const char *name; /* NULL behind the last one */
    enum stamp_form form;
};

extern const struct stamp_definition {
    struct bytes class;
    struct stamp_property properties[STAMP_PROPERTIES_MAX];
} STAMPS[STAMPS_KNOWN];

/* The enum value of a class's name, or STAMPS_KNOWN. */
enum stamp_class stamp_class_of(struct bytes name);

/* A property's value. */
struct stamp_value {
    enum stamp_form form; /* never STAMP_FORM_CODE: that has become number or text */
    struct bytes text;    /* of a time "2026-11-24T10:00:00", or with a space */
    int64_t number;
    struct bytes fraction; /* of a time's second, ".123456"; empty: none. JSON has none */
    struct bytes zone;     /* of a time, "+02:00" or "Europe/Berlin"; empty: UTC */
    bool is_offset;        /* zone is "+02:00" or the like */
};

/* Appends one stamp with the values of all its properties: PHP's object, or JSON's. */
void stamp_write(struct buf *out, enum envelope_serializer serializer, enum stamp_class which,
                 const struct stamp_value *values);

#endif
