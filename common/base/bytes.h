/* A run of bytes that somebody else owns: pointer and length, never assumed NUL-terminated.
 *
 * MQTT topics and payloads, parts of a stream entry, parts of a settings line: all travel as
 * `struct bytes`. Passed by value. A `struct bytes` never outlives what it points into; the function
 * that returns one says what that is. */
#ifndef COMMON_BASE_BYTES_H
#define COMMON_BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const char *data;
    size_t len;
};

#define LENGTH_OF(array) (sizeof(array) / sizeof((array)[0]))

/* A literal as bytes, without its NUL: BYTES("data"). */
#define BYTES(literal) ((struct bytes){(literal), sizeof(literal) - 1})
#define BYTES_NONE     ((struct bytes){NULL, 0})

/* For printf's "%.*s": printf("%.*s", BYTES_ARG(topic)). */
#define BYTES_ARG(b) (int)(b).len, (b).data != NULL ? (b).data : ""

struct bytes bytes_of(const char *text); /* NULL gives BYTES_NONE */
bool bytes_equal(struct bytes a, struct bytes b);
bool bytes_equal_text(struct bytes a, const char *text);
bool bytes_equal_caseless(struct bytes a, const char *text); /* ASCII letters in either case */
bool bytes_starts_with(struct bytes whole, struct bytes start);
bool bytes_ends_with(struct bytes whole, struct bytes end);
/* ASCII letters, digits and the characters of `more`, nothing else. */
bool bytes_only_holds(struct bytes whole, const char *more);
size_t bytes_leading_digits(struct bytes whole);                       /* how many */
struct bytes bytes_slice(struct bytes whole, size_t from, size_t len); /* clamped to the whole */
struct bytes bytes_trim(struct bytes whole);                           /* ASCII white space */

/* Splits at the first `separator`: *head gets what is before it and *tail what is after it. Without
 * one, *head is the whole, *tail is empty, and false is returned. */
bool bytes_split(struct bytes whole, char separator, struct bytes *head, struct bytes *tail);

/* "HOST", "HOST:PORT", "[IPV6]" or "[IPV6]:PORT": *host without the brackets, *port BYTES_NONE where there is none.
 * False if it is none of these, as an IPv6 address without brackets; what host and port hold is for the caller. */
bool bytes_split_port(struct bytes address, struct bytes *host, struct bytes *port);
/* An IPv4 or IPv6 address without brackets: 4 or 16 bytes into ip. Returns that length, or 0 if the text is none. */
#define BYTES_IP_SIZE 16
size_t bytes_to_ip(struct bytes text, unsigned char ip[BYTES_IP_SIZE]);
/* A number from 1 to 65535. */
bool bytes_to_port(struct bytes text, uint16_t *port);

/* Takes the next item off the front of a list with commas and white space between; false if none is left. */
bool bytes_next_item(struct bytes *list, struct bytes *item);

/* Writes a number in decimal digits, BYTES_DIGITS_MAX at the most. Returns the position behind the last one. */
#define BYTES_DIGITS_MAX 20
char *bytes_put_digits(char *to, uint64_t value);
/* Reads a text of decimal digits only, without a sign; false if it has others or the number does not fit. */
bool bytes_to_u64(struct bytes text, uint64_t *value);

uint64_t bytes_hash(struct bytes text); /* FNV-1a; part of folders' names, so it must not change */

int bytes_hex_digit(char c); /* the value, either case; -1 if it is no hex digit */

/* Valid UTF-8 by RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF. */
bool bytes_is_utf8(struct bytes text);
/* The length of the first character of a text that is not empty; 0: it is no valid UTF-8. */
size_t bytes_utf8_length(struct bytes text);
/* Copies text to out in a form that is safe for terminals and JSON: valid UTF-8 without control characters. White space
 * becomes a space, other control characters `?`. Text that does not fit is left out. */
void bytes_to_printable(struct bytes text, char *out, size_t size);

/* CRC-32C (Castagnoli, RFC 3720 appendix B.4), with the processor's instruction if it has one. seed: 0 to begin, or an
 * earlier result to continue it. */
uint32_t bytes_crc32c(uint32_t seed, const void *data, size_t len);
/* bytes_crc32c by table, for any processor. */
uint32_t bytes_crc32c_portable(uint32_t seed, const void *data, size_t len);

/* Numbers in files are little-endian on every machine. */
static inline void bytes_put16(char *at, uint16_t value)
{
    value = htole16(value);
    memcpy(at, &value, sizeof(value));
}

static inline void bytes_put32(char *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof(value));
}

static inline void bytes_put64(char *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof(value));
}

static inline uint16_t bytes_get16(const char *at)
{
    uint16_t value;

    memcpy(&value, at, sizeof(value));
    return le16toh(value);
}

static inline uint32_t bytes_get32(const char *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return le32toh(value);
}

static inline uint64_t bytes_get64(const char *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof(value));
    return le64toh(value);
}

#endif
