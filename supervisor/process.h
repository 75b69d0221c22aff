/* One child: who it is, the process that fills its place, and how a process is started.
 *
 * process_spawn forks and executes; nothing in it waits for the child. The child gets: a process group
 * of its own, no descriptor but those named in common/base/child.h, standard input from /dev/null,
 * standard output and error into the words pipe, an empty signal mask, default signal actions (SIGHUP
 * and SIGUSR1 ignored until it reads them itself, so that neither kills it in its first instants), the
 * user of [supervisor] user, and SIGKILL when the supervisor ends, however that happens. If it can't
 * be executed it says why as its last words and exits with PROCESS_EXIT_NOT_STARTED.
 * PR_SET_PDEATHSIG follows the thread that forked: call from the main thread. */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/stats.h"
#include "supervisor/notify.h"
#include "supervisor/states.h"

#include <signal.h>
#include <sys/types.h>

#define PROCESS_EXIT_NOT_STARTED 127
#define PROCESS_NAME_SIZE        80
#define PROCESS_CAUSE_SIZE       96
#define PROCESS_GROUPS_MAX       64

enum process_kind { PROCESS_CONSUMER, PROCESS_WORKER, PROCESS_MONITOR };

struct process;

/* What an epoll event belongs to. */
enum watch_kind { WATCH_SIGNALS, WATCH_CONTROL, WATCH_READY, WATCH_WORDS };

struct watch {
    enum watch_kind kind;
    struct process *process; /* of the last two */
};

struct process {
    enum process_kind kind;
    int number;                    /* 1, 2, ... */
    char name[PROCESS_NAME_SIZE];  /* "consumer", "consumer:garden", "worker", "monitor" */
    char title[PROCESS_NAME_SIZE]; /* for people: "worker:2", else the name */
    struct life life;
    bool unwanted;  /* no longer in the roster: forgotten when its process is gone */
    bool concerned; /* of a reload: what it read has changed since it was started */
    bool roll;      /* waits for its turn in a rolling restart */
    bool hung;      /* was killed because it had no beat */

    pid_t pid; /* 0: none */
    int ready_fd;
    int words_fd;
    int watched_by; /* the epoll descriptor that both are in; -1: none */
    struct watch ready_watch;
    struct watch words_watch;
    struct ready_line ready_line;
    struct words words;
    char cause[PROCESS_CAUSE_SIZE]; /* how the last process ended: "signal SIGSEGV"; "" before */
    int exit_code;                  /* likewise; 128 and the signal's number for a signal */

    struct stats_slot *slot;
    size_t slot_index;
    uint64_t sampled; /* the counter behind `rate` when it was last read */
    double rate;      /* a second */
};

/* What every child is started with. */
struct launch {
    char *bin_dir;         /* where the programs are */
    struct bytes settings; /* packed */
    int stats_fd;
    int log_fd;
    bool change_user;
    uid_t uid;
    gid_t gid;
    gid_t groups[PROCESS_GROUPS_MAX];
    int groups_len;
};

/* A fresh, stopped process. number 0 counts as 1 and shows no number. */
struct process *process_new(enum process_kind kind, const char *name, int number);
void process_free(struct process *process);

/* Fills pid and the two pipe ends (non-blocking, close-on-exec). */
MUST_CHECK int process_spawn(struct process *process, const struct launch *launch,
                             struct error *err);
/* The pipes' events come with ready_watch and words_watch, until the pipes are closed. */
MUST_CHECK int process_watch(struct process *process, int epoll_fd, struct error *err);
void process_signal(const struct process *process,
                    int signal); /* SIGKILL goes to its whole group */
/* The process is gone (info from waitid, not yet reaped): ends what is left of its group, closes the
 * pipes, notes the cause and clears its gauges. Returns the event. Read the pipes empty before. */
enum event process_ended(struct process *process, const siginfo_t *info);
void process_close_ready(struct process *process);
void process_close_words(struct process *process);

/* What it has got done, and what failed for good; 0 for the monitor. */
uint64_t process_done(const struct process *process);
uint64_t process_failed(const struct process *process);

/* Does "worker", "worker:2", "consumer:garden" or "monitor:1" mean this one? */
bool process_matches(const struct process *process, const char *target);

#endif
