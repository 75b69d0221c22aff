/* What queue.c shares with the other files of the queue. Not for other files. */
#ifndef COMMON_CLIENT_QUEUE_INTERNAL_H
#define COMMON_CLIENT_QUEUE_INTERNAL_H

#include "common/client/queue_group.h"
#include "common/client/redis.h"

#include <inttypes.h>

enum queue_script {
    QUEUE_SCRIPT_APPEND, /* the consumer's, which needs no other */
    QUEUE_SCRIPT_GROUP,
    QUEUE_SCRIPT_LEASE,
    QUEUE_SCRIPT_RENEW,
    QUEUE_SCRIPT_RELEASE,
    QUEUE_SCRIPT_TAKE_OVER_DEAD,
    QUEUE_SCRIPT_TAKE_OVER_IDLE,
    QUEUE_SCRIPT_SWEEP,
    QUEUE_SCRIPT_ACKNOWLEDGE,
    QUEUE_SCRIPT_RETRY,
    QUEUE_SCRIPT_MOVE,
    QUEUE_SCRIPT_REDRIVE,
    QUEUE_SCRIPT_ADD_FAILED,
    QUEUE_SCRIPT_KEEP_LATEST,
    QUEUE_SCRIPTS
};

/* In the order of the enum; queue_scripts.c. */
extern const char *const QUEUE_SCRIPT_TEXT[QUEUE_SCRIPTS];

struct queue {
    struct dsn_redis dsn;
    char *address;
    struct redis *redis;
    bool connected;
    struct error last_error;
    queue_done *connected_done; /* NULL: not connecting */
    void *connected_context;
    size_t scripts; /* the first so many scripts are loaded */
    size_t scripts_loaded;
    char sha[QUEUE_SCRIPTS][41];
    char *delayed; /* <stream>__queue */
    char *prefix;  /* of our own keys, {<stream>}__ */
    char *latest;  /* <prefix>latest */
    char *names;   /* <prefix>consumers:<group> */
    char *last;    /* <prefix>last:<group> */
    char *since;   /* <prefix>since:<group> */
    struct queue_server server;
    bool server_is_known;
};

#define STREAM_ID_FORMAT "%" PRIu64 "-%" PRIu64

/* A request under way. The function that reads the answer knows which callback of the union is set. */
struct queue_call {
    struct queue *queue;
    union {
        queue_done *done; /* may be NULL */
        queue_latest_read *latest;
        queue_number_read *number;
        queue_names_read *names;
        queue_entries_read *entries;
        queue_idle_taken *idle;
        queue_swept *swept;
        queue_mark_read *mark;
    };
    void *context;
    struct redis_budget budget;
    bool without_stream; /* queue_set_up: the stream does not exist yet */
};
struct queue_call *queue_call_new(struct queue_call call);
/* QUEUE_CALL(queue, context, .done = done) */
#define QUEUE_CALL(its_queue, its_context, ...)                                                    \
    queue_call_new((struct queue_call){.queue = (its_queue), .context = (its_context), __VA_ARGS__})
struct queue_call queue_call_take(void *call); /* frees it */
int queue_result(const struct error *err);     /* for the callback: 0, or -err->code */

/* redis_replied, with a struct queue_call as context: */
void queue_answer_done(void *call, const redisReply *reply, const struct error *err);
void queue_answer_number(void *call, const redisReply *reply, const struct error *err);

/* Begins a request: writes EVALSHA and the script. The caller then writes so many keys, and so many arguments. */
void queue_begin_eval(const struct queue *queue, struct buf *resp, enum queue_script script,
                      size_t keys, size_t arguments);
/* EVALSHA of a script; format: so many keys and then the arguments, as for redis_command. If the server has forgotten
 * the script (SCRIPT FLUSH), it is loaded again and the request repeated, behind those that were sent meanwhile. If the
 * server forgets it again at once, the connection is closed. */
void queue_eval(struct queue *queue, enum queue_script script, redis_replied *done, void *context,
                int keys, const char *format, ...);
/* As queue_eval, for a request that was begun with queue_begin_eval. Takes the memory of resp. */
void queue_eval_written(struct queue *queue, enum queue_script script, struct buf resp,
                        redis_replied *done, void *context);

#endif
