/* The escapings that an envelope's text goes through, one or two layers in one pass by table.
 *
 * First the length is taken, then exactly so much is written: the lengths stand in front of the text
 * that they count. Texts are valid UTF-8. Pure. */
#ifndef COMMON_WIRE_ESCAPE_H
#define COMMON_WIRE_ESCAPE_H

#include "common/base/bytes.h"

enum escape_layers {
    ESCAPE_JSON,         /* PHP's json_encode */
    ESCAPE_SLASHES_JSON, /* addslashes, then json_encode */
    ESCAPE_JSON_JSON,    /* json_encode, and that once more */
};

/* escape_put may write so many bytes (of no meaning) behind what it says. */
#define ESCAPE_SLACK 8

struct escape_table {
    uint8_t len[256];  /* of each byte's share; a character beyond ASCII counts at its first byte */
    char text[128][8]; /* what an ASCII byte becomes */
    char unit[4];      /* what a \uXXXX starts with */
    uint8_t unit_start; /* and its length */
};

void escape_table_fill(struct escape_table *table, enum escape_layers layers);
size_t escape_len(const struct escape_table *table, struct bytes text);
char *escape_put(char *to, const struct escape_table *table, struct bytes text);

#endif
