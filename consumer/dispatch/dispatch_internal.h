/* What dispatch.c shares with dispatch_send.c; for nobody else. */
#ifndef CONSUMER_DISPATCH_DISPATCH_INTERNAL_H
#define CONSUMER_DISPATCH_DISPATCH_INTERNAL_H

#include "common/base/backoff.h"
#include "common/base/log.h"
#include "consumer/dispatch/append_limit.h"
#include "consumer/dispatch/dispatch.h"
#include "consumer/dispatch/dispatch_envelope.h"
#include "consumer/dispatch/oversized.h"

#define DISPATCH_MARK_SIZE 40

enum dispatch_state {
    DISPATCH_WAITING,    /* no connection; tried again at retry_ms */
    DISPATCH_CONNECTING, /* or reading the mark */
    DISPATCH_RUNNING,
};

struct dispatch_batch {
    char next[DISPATCH_MARK_SIZE]; /* the mark that it sets */
    struct spool_position end;     /* behind its last record */
    size_t count;
    size_t bytes;
    size_t replayed;
    size_t oversized; /* 1: no entry, the mark moves past a record that went elsewhere */
    int64_t sent_us;
};

struct dispatch {
    const struct settings *settings;
    const struct settings_transport *transport;
    struct stats_slot *slot;
    struct spool *spool;
    char *place;         /* of the transport's own DSN */
    char *former;        /* another place, which comes first; NULL: none */
    struct queue *queue; /* to the one or the other */
    struct envelope_template *template;
    struct queue_batch values;
    struct oversized *oversized;

    enum dispatch_state state;
    int64_t retry_ms;
    struct backoff backoff;
    struct buf expected_mark; /* the mark that the next batch expects */
    struct append_limit pace;
    struct dispatch_batch in_flight[APPEND_LIMIT_IN_FLIGHT];
    size_t first;
    size_t in_flight_len;
    struct error trouble; /* of this turn's answers; code 0: none */
    int fenced;           /* in a row */

    uint64_t sent;                          /* messages, since the start */
    struct spool_message oversized_message; /* read and too large; sequence 0: none */
    struct spool_position oversized_end;
    uint64_t replay_until; /* records up to here were in Redis once */
    struct log_fault fault;
    struct log_fault damage;
    char reason[STATS_REASON_SIZE];
    struct queue_server server;
    bool server_known;
};

/* The first of a turn says why; what follows from it is FENCED, or a connection that is gone. */
void dispatch_note_trouble(struct dispatch *dispatch, const struct error *err);
void dispatch_mark_healthy(struct dispatch *dispatch);
/* The queue goes there. */
bool dispatch_is_at(const struct dispatch *dispatch, const char *destination);

/* Fills a batch from the spool; false if there was nothing to send. */
bool dispatch_send_next(struct dispatch *dispatch);
/* In its turn: when everything before it is answered, it goes to the failure transport, and when it is
 * there the mark moves past it. */
void dispatch_send_oversized(struct dispatch *dispatch, int64_t now_ms);

#endif
