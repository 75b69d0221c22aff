/* What queue.c shares with queue_append.c and queue_group.c; for nobody else. */
#ifndef COMMON_CLIENT_QUEUE_INTERNAL_H
#define COMMON_CLIENT_QUEUE_INTERNAL_H

#include "common/client/queue.h"
#include "common/client/redis.h"

enum queue_script {
    QUEUE_SCRIPT_APPEND,
    QUEUE_SCRIPT_GROUP,
    QUEUE_SCRIPT_LEASE,
    QUEUE_SCRIPT_RENEW,
    QUEUE_SCRIPT_RELEASE,
    QUEUE_SCRIPT_ADOPT,
    QUEUE_SCRIPT_ACKNOWLEDGE,
    QUEUE_SCRIPT_RETRY,
    QUEUE_SCRIPT_MOVE,
    QUEUE_SCRIPT_REDRIVE,
    QUEUE_SCRIPTS
};

/* In the order of the enum; queue_scripts.c. */
extern const char *const QUEUE_SCRIPT_TEXT[QUEUE_SCRIPTS];

struct queue {
    struct dsn_redis dsn;
    char *place;
    struct redis *redis;
    bool connected;
    struct error last_error;
    queue_done *connected_done; /* NULL: not connecting */
    void *connected_context;
    size_t scripts_loaded;
    char sha[QUEUE_SCRIPTS][41];
    char *delayed; /* <stream>__queue */
    char *prefix;  /* of our own keys: {<stream>}__ */
    struct queue_server server;
    bool server_is_known;
};

/* "{messages}__spool:<id>"; free it. */
char *queue_key(const struct queue *queue, const char *kind, const char *name);

/* EVALSHA of a script. A script that the server has forgotten breaks the connection: it is loaded when
 * the caller connects again. */
void queue_eval(struct queue *queue, enum queue_script script, size_t keys,
                const struct bytes *arguments, size_t count, redis_replied *done, void *context);
/* For answers of scripts: closes the connection on NOSCRIPT. */
void queue_check_script(struct queue *queue, const redisReply *reply, const struct error *err);

#endif
