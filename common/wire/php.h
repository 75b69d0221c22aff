/* PHP's serialize() format, read strictly and without building values.
 *
 *     N;  b:1;  i:-5;  d:0.5;  s:5:"topic";  a:1:{<key><value>}  O:3:"Foo":1:{<key><value>}
 *     E:7:"Foo:Bar";  C:3:"Foo":2:{..}  r:4;  R:4;
 *
 * r:N; (an object seen before) and R:N; (a PHP reference) count values from 1, the outermost: every value counts but
 * keys and R: itself. The bytes inside C:'s braces have the class's own format.
 * Source: php-src ext/standard/var.c (php_add_var_hash) and var_unserializer.re.
 *
 * Input may be hostile: lengths are checked against the text, depth is limited, nothing recurses. Pure. */
#ifndef COMMON_WIRE_PHP_H
#define COMMON_WIRE_PHP_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define PHP_DEPTH_MAX 4096 /* inside a value that php_skip passes over: unserialize_max_depth */

enum php_type {
    PHP_NULL,
    PHP_BOOL,
    PHP_INT,
    PHP_FLOAT,
    PHP_STRING,
    PHP_ARRAY,
    PHP_OBJECT,
    PHP_ENUM,
    PHP_CUSTOM,
    PHP_REPEATED,  /* r:N; */
    PHP_REFERENCE, /* R:N; */
};

struct php_value {
    enum php_type type;
    struct bytes text; /* a string's bytes, an object's class, an enum's Class:Case */
    int64_t number;    /* of a bool or int; N of r: and R: */
    size_t count;      /* array, object: pairs that follow, then php_read_end */
    size_t count_at;   /* where in the text that count stands */
    size_t count_len;
};

/* A place that names another value by its number. */
struct php_reference {
    size_t at; /* of the digits */
    size_t len;
    uint64_t number;
};

struct php_references {
    struct php_reference *list;
    size_t len;
};

struct php_reader {
    struct bytes text;
    size_t at;
    uint64_t values;                   /* values read so far */
    bool custom;                       /* a C: was read */
    bool custom_references;            /* a C: was read whose content looks like it has r: or R: */
    struct php_references *references; /* NULL: not collected */
    uint64_t sought;                   /* the number of a value to be found */
    size_t sought_at;                  /* where that value begins, once it was read */
};

/* Each returns 0 or -ERR_FORMAT. php_read reads a whole scalar; of an array or object it reads the part before the
 * first key. A key is a PHP_STRING or PHP_INT and does not count as a value. */
MUST_CHECK int php_read(struct php_reader *reader, struct php_value *value);
MUST_CHECK int php_read_key(struct php_reader *reader, struct php_value *key);
MUST_CHECK int php_read_end(struct php_reader *reader);
MUST_CHECK int php_skip(struct php_reader *reader); /* one value, whole */
/* The rest of a value that php_read has begun: nothing for a scalar. */
MUST_CHECK int php_skip_rest(struct php_reader *reader, const struct php_value *value);
bool php_at_end(const struct php_reader *reader);

/* Reads the value that `reference` (r: or R:) names, as php_read does, and leaves *target behind it. reader: its state
 * after the reference was read. Takes one pass over the text before the reference and the values that enclose it.
 * Refuses a value that is a reference itself: serialize() names values, never references. Also refuses a value behind
 * a C:, since its number can't be counted. */
MUST_CHECK int php_follow(const struct php_reader *reader, const struct php_value *reference,
                          struct php_reader *target, struct php_value *value);

void php_references_free(struct php_references *references);

/* A property's name without the prefix of its visibility: `topic` of "\0*\0topic". */
struct bytes php_property_name(struct bytes key);

void php_write_string(struct buf *out, struct bytes text); /* s:5:"topic"; */
void php_write_int(struct buf *out, int64_t value);        /* i:5; */
/* O:3:"Foo":2:{ ; keys, values and the closing brace are the caller's. */
void php_write_object(struct buf *out, struct bytes class, size_t properties);
/* A DateTimeImmutable: date "2026-11-24 10:00:00.123456", zone "UTC", "Europe/Berlin", or an offset, "+02:00". */
void php_write_time(struct buf *out, struct bytes date, struct bytes zone, bool is_offset);

void php_addslashes(struct buf *out, struct bytes text);
/* text itself if there is no backslash in it, else a copy in arena. */
struct bytes php_stripslashes(struct bytes text, struct arena *arena);

#endif
