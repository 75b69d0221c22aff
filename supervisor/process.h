/* One child of the supervisor: who it is, its state, its process and what is read from it.
 *
 * An event goes through the table of states.h. This module carries out what the table says and logs one
 * line for each thing that an operator would ask about. Nothing here waits for the child.
 *
 * A child is started with: a process group of its own, the descriptors named in common/runtime/child.h and
 * no others, standard input from /dev/null, standard output and error into the output pipe, no blocked
 * signals, default signal actions. SIGHUP and SIGUSR1 are ignored until
 * the child reads them itself, so that neither kills it in its first instants. It gets SIGKILL when the
 * supervisor ends, however that happens. A child that can't be executed writes why into its output and
 * exits with PROCESS_EXIT_NOT_STARTED.
 * PR_SET_PDEATHSIG follows the thread that forked: call from the main thread. */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/runtime/stats.h"
#include "supervisor/history.h"
#include "supervisor/notify.h"
#include "supervisor/states.h"

#include <signal.h>
#include <sys/types.h>

#define PROCESS_EXIT_NOT_STARTED 127
#define PROCESS_NAME_SIZE        80
#define PROCESS_CAUSE_SIZE       96

enum process_kind { PROCESS_CONSUMER, PROCESS_WORKER, PROCESS_MONITOR };

struct process;

/* What an epoll event belongs to. */
enum watch_kind { WATCH_SIGNALS, WATCH_CONTROL, WATCH_READY, WATCH_OUTPUT };

struct watch {
    enum watch_kind kind;
    struct process *process; /* of WATCH_READY and WATCH_OUTPUT */
};

struct process {
    enum process_kind kind;
    int number;                    /* 1, 2, ... */
    char name[PROCESS_NAME_SIZE];  /* "consumer", "consumer:garden", "worker", "monitor" */
    char title[PROCESS_NAME_SIZE]; /* for people: "worker:2", else the name */
    struct lifecycle lifecycle;
    bool unwanted; /* no longer in the roster: forgotten when its process is gone */
    bool affected; /* by a reload: settings that it reads have changed since it was started */
    bool restart_pending;    /* a rolling restart has yet to restart it */
    bool hung;               /* was killed because it had no beat */
    int64_t hang_timeout_ms; /* of the settings that it was started with: it beats at their pace */
    uint32_t files;          /* roster_files when its settings were last read */
    uint64_t restarts;       /* starts after the first */
    uint64_t crashes;        /* ends that nobody had asked for, planned ones apart */
    bool became_fatal;       /* the service has yet to see to it: [supervisor] on_fatal */

    pid_t pid; /* 0: none */
    int ready_fd;
    int output_fd;
    int watched_by; /* the epoll descriptor that both pipes are in; -1: none */
    struct watch ready_watch;
    struct watch output_watch;
    struct notify_ready ready_line;
    struct notify_output output;
    char cause[PROCESS_CAUSE_SIZE]; /* how the last process ended: "signal SIGSEGV"; "" before */
    int exit_code;                  /* of the last process; 128 and the number for a signal */

    struct stats_slot *slot;
    size_t slot_index;
    uint64_t sampled; /* what was done when the rate was last computed */
    double rate;      /* a second */
};

/* What every child is started with and kept by. */
struct launch {
    char *bin_dir; /* where the programs are */
    const struct settings *settings;
    int stats_fd;
    int log_fd;
    int epoll_fd; /* where the children's pipes are watched */
    struct states_rules rules;
    struct history *history;
    int64_t hang_timeout_ms; /* 0: off */
};

/* A fresh, stopped process. number 0 counts as 1 and shows no number. */
struct process *process_new(enum process_kind kind, const char *name, int number);
void process_free(struct process *process);

/* For EVENT_DONE, EVENT_SETTINGS and EVENT_FAILED there is process_handle_exit. */
void process_handle_event(struct process *process, const struct launch *launch, enum event event);
/* The process has ended; info is waitid's, with WNOWAIT. Reads its pipes empty, ends what is left of its
 * group, reaps it, notes the cause and clears its gauges. */
void process_handle_exit(struct process *process, const struct launch *launch,
                         const siginfo_t *info);

/* One read each, for an epoll event. An end of file closes the pipe, which ends the watching. */
void process_read_ready(struct process *process, const struct launch *launch);
bool process_read_output(struct process *process); /* false: there is nothing more to read */

void process_signal(const struct process *process, int signal); /* SIGKILL: to its whole group */

/* Does "worker", "worker:*", "worker:2", "consumer:garden" or "monitor:1" mean this process? */
bool process_matches(const struct process *process, const char *target);

#endif
