/* The state of an intake, shared by intake.c (connections and the order of reading) and intake_read.c
 * (what is read); for nobody else. */
#ifndef WORKER_INTAKE_INTERNAL_H
#define WORKER_INTAKE_INTERNAL_H

#include "common/base/backoff.h"
#include "common/base/log.h"
#include "common/client/queue_group.h"
#include "worker/intake.h"

enum intake_phase {
    INTAKE_DOWN,       /* until again_ms */
    INTAKE_CONNECTING, /* both connections */
    INTAKE_GROUP,      /* the consumer group is made if it is missing */
    INTAKE_LEASE,      /* taken, or waited for */
    INTAKE_SETTLING,   /* what is on the wire to the hub comes home first */
    INTAKE_PENDING,    /* what this consumer had pending is read */
    INTAKE_RUNNING,
    INTAKE_RELEASING,
    INTAKE_RELEASED,
};

struct intake {
    const struct child *child;
    struct publisher *publisher;
    struct rejects *rejects;
    struct settle *settle;
    struct queue *reader;
    struct queue *writer;
    struct queue_reader me;

    enum intake_phase phase;
    struct backoff backoff;
    int64_t again_ms;
    unsigned connected; /* of the two */
    bool asked;         /* a request of this phase is unanswered */
    bool held_before;   /* this process has had the lease: a standing one is our own */
    bool stopped;
    char trouble[200];
    struct log_fault fault;

    struct stream_id pending_after; /* how far pending entries are read */
    bool careful;                   /* a worker died with them: one at a time, each charged */
    struct entry *careful_head;     /* read, not yet handed on */
    struct entry *careful_tail;
    struct entry *careful_asked; /* being charged */

    struct entry *open_first; /* all that is read and not settled */
    size_t open;
    uint64_t handled;
    uint64_t failed;

    bool active;  /* the last turn was free to read: only then are reading's deadlines ours */
    bool reading; /* XREADGROUP is under way */
    bool dry;     /* the last one brought nothing: the next may block */
    int64_t last_read_ms; /* stopped: how long the last one is waited for */
    bool renewing, moving, adopting, claiming;
    int64_t renew_ms, due_ms, adopt_ms, claim_ms, keep_ms; /* when next, monotonic */
};

/* Hands entries that were read on to the publisher, or to the careful list. */
void intake_deliver(struct intake *intake, const struct queue_entry *entries, size_t len,
                    bool redelivered);
void intake_read_pending_page(struct intake *intake);
void intake_careful_turn(struct intake *intake);
void intake_move_due(struct intake *intake);
void intake_adopt(struct intake *intake, size_t room);
void intake_claim(struct intake *intake, size_t room);
void intake_read_more(struct intake *intake, size_t room);
void intake_keep_open(struct intake *intake);
/* Forgets all that is not on the wire and begins again after a back-off. */
void intake_break(struct intake *intake, const char *why);

#endif
