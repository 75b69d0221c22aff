/* One child of the supervisor: who it is, its state, its process and what is read from it.
 *
 * An event goes through the table of states.h. This module carries out the table's actions, and logs one line for each
 * change that concerns an operator. Nothing here waits for the child.
 *
 * A child has a process group of its own, and only the descriptors named in common/runtime/child.h. Its standard
 * input is /dev/null, its standard output and error are the output pipe. No signal is blocked, and signal actions are
 * the default ones. SIGHUP and SIGUSR1 are ignored until the child reads them itself, so that neither kills it at its
 * start. It gets SIGKILL when the supervisor ends, however that happens. A child that can't be executed writes why
 * into its output and exits with PROCESS_EXIT_NOT_STARTED.
 * PR_SET_PDEATHSIG follows the thread that forked: call from the main thread.
 *
 * A child has two pipes. A line on the first says that it is ready; the second carries its standard output and error.
 * Output becomes log lines, cut at PROCESS_LINE_SIZE and limited in number, so a child that writes without end does
 * no harm. */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/process_kind.h"
#include "common/runtime/stats.h"
#include "supervisor/states.h"

#include <signal.h>
#include <sys/types.h>

#define PROCESS_EXIT_NOT_STARTED 127
#define PROCESS_NAME_SIZE        80
#define PROCESS_LINE_SIZE        512
#define PROCESS_WINDOW_MS        10000
#define PROCESS_LINES_PER_WINDOW 100

/* The first kinds of enum process_kind. */
#define PROCESS_PROGRAMS_LEN PROCESS_SUPERVISOR
extern const char *const PROCESS_PROGRAMS[PROCESS_PROGRAMS_LEN]; /* "mqtt-bridge-consumer" */

struct process;

/* The source of an epoll event. */
enum watch_kind { WATCH_SIGNALS, WATCH_CONTROL, WATCH_READY, WATCH_OUTPUT };

struct watch {
    enum watch_kind kind;
    struct process *process; /* WATCH_READY and WATCH_OUTPUT only */
};

/* Zero-initialised is empty and ready. */
struct process_output {
    char line[PROCESS_LINE_SIZE]; /* the line whose end has not come yet */
    size_t len;
    char last_line[PROCESS_LINE_SIZE]; /* the last line that was not blank, or "" */
    int64_t window_ms;
    int shown;
    uint64_t hidden; /* lines since the last one that was shown */
};

struct process_ready {
    char text[8];
    size_t len;
    bool spoilt; /* the line is too long, or was complete: further bytes are ignored */
};

/* What all children have in common. */
struct launch {
    char *bin_dir; /* where the programs are */
    const struct settings *settings;
    int stats_fd;
    int log_fd;
    int epoll_fd; /* where the children's pipes are watched */
    struct states_rules rules;
    int64_t hang_timeout_ms; /* 0: off */
    int64_t resumed_ms; /* the supervisor did not run until then: a silence before does not count */
    uint64_t starts;    /* of all children since the start */
    struct stats_slot *own; /* the supervisor's slot, whose log `mqtt-bridge events` shows */
    struct stats_slot
        *about; /* the child that a log line is about, whose log gets it too; or NULL */
};

struct process {
    struct launch *launch;
    enum process_kind kind;
    int number;                    /* 1, 2, ... */
    char name[PROCESS_NAME_SIZE];  /* "consumer", "consumer:garden", "worker", "monitor" */
    char title[PROCESS_NAME_SIZE]; /* for people: "worker:2", else the name */
    struct states_lifecycle lifecycle;
    bool unwanted;        /* not in the roster any more: removed when its process has ended */
    bool affected;        /* settings that it reads have changed by a reload since it was started */
    bool restart_pending; /* a rolling restart has yet to restart it */
    bool hung;            /* was killed because it had no beat */
    int64_t hang_timeout_ms; /* of the settings it was started with, by which it beats */
    uint32_t files;          /* roster_files when its settings were last read */
    uint64_t start;          /* launch->starts at its last start */
    bool became_fatal;       /* the service has yet to apply [supervisor] on_fatal */

    pid_t pid; /* 0: none */
    int ready_fd;
    int output_fd;
    int watched_by; /* the epoll descriptor that watches both pipes; -1: none */
    struct watch ready_watch;
    struct watch output_watch;
    struct process_ready ready_line;
    struct process_output output;
    char cause[STATS_EXIT_SIZE]; /* how the last process ended: "signal SIGSEGV"; "" before */
    int exit_code;               /* of the last process; 128 and the number for a signal */

    struct stats_slot *slot; /* set by the caller before the process is started */
    size_t slot_index;
    uint64_t sampled; /* status_done when the rate was last computed */
};

/* A fresh, stopped process. number 0 counts as 1 and shows no number. */
struct process *process_new(struct launch *launch, enum process_kind kind, const char *name,
                            int number);
void process_free(struct process *process);

/* Handles an event. EVENT_DONE, EVENT_SETTINGS and EVENT_FAILED come from process_handle_exit. */
void process_handle_event(struct process *process, enum states_event event);
/* The process has ended; info is waitid's, with WNOWAIT. Reads its pipes to the end, kills the rest of its group, reaps
 * it, keeps the cause and clears its gauges. */
void process_handle_exit(struct process *process, const siginfo_t *info);
/* Handles EVENT_HANG and EVENT_DEADLINE if they are due. */
void process_check_deadlines(struct process *process, int64_t now_ms);
int64_t process_deadline(const struct process *process); /* -1: none */

/* Each reads once, for one epoll event. An end of file closes the pipe, which is then no longer watched. */
void process_read_ready(struct process *process);
bool process_read_output(struct process *process); /* false: there is nothing more to read */

void process_signal(const struct process *process, int signal); /* SIGKILL: to its whole group */

/* True if "worker", "worker:*", "worker:2", "consumer:garden" or "monitor:1" names this process. */
bool process_matches(const struct process *process, const char *target);
/* Why the process does not do its work: the reason that it gives while it lives, else how it ended. */
void process_reason(const struct process *process, char out[STATS_REASON_SIZE]);

/* Writes the supervisor's knowledge of the process into its slot, over whatever the child has written there. */
void process_publish(const struct process *process);
/* Computes the process's rate over the time since the last sample. */
void process_sample(struct process *process, int64_t since_ms);
/* The callback log_taker; context is the struct launch. */
void process_keep_line(void *launch, const char *line);

/* Pure. show is called for each line within the limit; hidden: how many lines before it were above the limit. */
typedef void process_output_show(void *context, const char *line, uint64_t hidden);
void process_output_feed(struct process_output *output, struct bytes bytes, int64_t now_ms,
                         process_output_show *show, void *context);
/* The child has ended: bytes behind the last line end count as a line too. */
void process_output_end(struct process_output *output, int64_t now_ms, process_output_show *show,
                        void *context);
/* Pure. True once, when "READY" and its line end have come. */
bool process_ready_feed(struct process_ready *line, struct bytes bytes);

#endif
