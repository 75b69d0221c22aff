/* The state of an intake, shared by intake.c (connections and the order of reading), intake_read.c
 * (what is read) and intake_careful.c (what is handled one at a time); for nobody else. */
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
    bool proven;        /* new entries could be read since it connected */
    bool stopped;
    char trouble[200];
    char complaint[COMPLAINTS][160];
    struct log_fault fault;
    struct log_fault complaint_fault[COMPLAINTS];

    struct stream_id pending_after; /* how far pending entries are read */
    bool careful;                   /* the entries at hand are handled one at a time */
    struct entry *careful_head;     /* read, not yet handed on */
    struct entry *careful_tail;
    size_t careful_len;
    struct entry *in_hand; /* of those, the one that is handled; NULL: none */
    bool charging;         /* the answer to its charge is not here yet */
    int64_t charged_ms;

    struct entry *open_first; /* all that is read and not settled */
    size_t open;
    size_t open_bytes;
    size_t rejecting; /* of the open: those that wait for their row */
    size_t refused;   /* and those that the hub's token or URL was refused for */
    size_t promised;  /* asked for and not yet here, at the most */
    size_t largest;   /* bytes of the largest entry of late: how many to ask for */
    uint64_t handled;
    uint64_t failed;

    bool active;          /* the last turn was free to read: only then are its deadlines ours */
    bool had_room;        /* and there was room for more */
    bool reading;         /* XREADGROUP is under way */
    size_t reading_count; /* for so many */
    bool dry;             /* the last one brought nothing: the next may block */
    int64_t last_read_ms; /* stopped: how long the last one is waited for */
    int64_t give_up_ms;   /* stopped, and Redis is away: how long it is waited for */
    bool renewing, moving, adopting, claiming;
    size_t moved;       /* in this round of the delayed set */
    bool due_refused;   /* likewise: something was */
    size_t adopt_share; /* entries asked for of each name */
    size_t adopt_left;  /* names whose answer is not here yet */
    size_t claim_count;
    size_t claim_pages;           /* left in this turn */
    struct stream_id claim_after; /* where the search goes on; 0: at the start */
    int64_t renew_ms, due_ms, adopt_ms, claim_ms, keep_ms; /* when next, monotonic */
};

/* Hands entries that were read on to the publisher, or to the careful list. */
void intake_deliver(struct intake *intake, const struct queue_entry *entries, size_t len,
                    bool redelivered);
void intake_read_pending_page(struct intake *intake, size_t room);
void intake_careful_add(struct intake *intake, struct entry *entry);
void intake_careful_turn(struct intake *intake, int64_t now_ms);
bool intake_careful_in_hand(const struct intake *intake);
int64_t intake_careful_deadline_ms(const struct intake *intake); /* -1: none */
void intake_careful_forget(struct intake *intake);               /* those not yet handed on */
/* Our lease is about to be given back. */
void intake_careful_release(struct intake *intake);
void intake_move_due(struct intake *intake);
void intake_adopt(struct intake *intake, size_t room);
void intake_claim(struct intake *intake, size_t room);
void intake_read_more(struct intake *intake, size_t room);
void intake_keep_open(struct intake *intake);
/* To read, or to acknowledge what is done. */
bool intake_wants_redis(const struct intake *intake);
bool intake_is_broken(
    const struct intake *intake); /* a connection has ended; the next turn sees to it */
/* All is well as far as can be told. */
void intake_be_well(struct intake *intake);

#endif
