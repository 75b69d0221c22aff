/* The lines that a worker and a handler's process exchange: JSON, one document a line. Pure.
 * Source: docs/HANDLERS.md.
 *
 *   to it:    {"id":"…","topic":"…","payload":…,"receivedAt":"…","qos":1,"retained":false,"headers":{…},"attempt":1}
 *   from it:  {"ready":true}                            first; with "payload":"text" it wants each payload as a string
 *             {"id":"…","updates":[{"topic":"…","data":…},…]}
 *             {"id":"…","error":"…","retry":true} */
#ifndef COMMON_WIRE_HANDLER_LINE_H
#define COMMON_WIRE_HANDLER_LINE_H

#include "common/base/arena.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/wire/json.h"

/* The most nested lists and objects in a member of an answer: twice the depth of a document that the handler is
 * given. */
#define HANDLER_DEPTH_MAX JSON_DEPTH_LIMIT
/* A line of 16 MB could name over a million, each of eight times its length in memory. */
#define HANDLER_UPDATES_MAX 10000

struct handler_message {
    struct bytes id;
    struct bytes topic;
    struct bytes payload;
    bool as_text;         /* the payload is a string, whatever it holds */
    int64_t received_us;  /* since 1970; 0: not known */
    struct bytes headers; /* the envelope's: JSON */
    int64_t attempt;
};

/* Appends the line to `out`. arena: scratch memory. */
void handler_line_write(struct buf *out, const struct handler_message *message,
                        struct arena *arena);

/* The members of an update that the answer gives; the route has the others. */
struct handler_update {
    struct bytes *topics; /* the update's topic and its alternates */
    size_t topics_len;    /* 0: none given */
    struct bytes data;
    bool has_private;
    bool is_private;
    struct bytes type;  /* empty: not given */
    struct bytes retry; /* empty: not given */
    struct bytes id;    /* empty: not given */
};

enum handler_line_kind { HANDLER_READY, HANDLER_UPDATES, HANDLER_ERROR };

struct handler_line {
    enum handler_line_kind kind;
    struct bytes id; /* empty for HANDLER_READY */
    struct handler_update *updates;
    size_t updates_len;
    struct bytes error;
    bool retry;      /* the message may be tried again */
    bool wants_text; /* of HANDLER_READY */
};

/* Reads one line without its line end; each \r in it becomes a space. The bytes point into the text or the arena.
 * -ERR_FORMAT: err says what is wrong, and line->id is the id of the message that was answered, or empty if unknown.
 * Free line in any case. */
MUST_CHECK int handler_line_read(struct handler_line *line, char *text, size_t len,
                                 struct arena *arena, struct error *err);
void handler_line_free(struct handler_line *line);

#endif
