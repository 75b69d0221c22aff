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
 * PR_SET_PDEATHSIG follows the thread that forked: call from the main thread.
 *
 * A child tells two things: one line on one pipe says that it is ready; another pipe carries its output, whatever it or a
 * library writes to standard output and standard error. Output becomes lines, cut at PROCESS_LINE_SIZE and limited in
 * number, so that a child that writes without end costs nothing but its own time. */
#ifndef SUPERVISOR_PROCESS_H
#define SUPERVISOR_PROCESS_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/runtime/stats.h"
#include "supervisor/states.h"

#include <signal.h>
#include <sys/types.h>

#define PROCESS_EXIT_NOT_STARTED 127
#define PROCESS_NAME_SIZE        80
#define PROCESS_LINE_SIZE        512
#define PROCESS_WINDOW_MS        10000
#define PROCESS_LINES_PER_WINDOW 100

enum process_kind { PROCESS_CONSUMER, PROCESS_WORKER, PROCESS_MONITOR };
#define PROCESS_KINDS 3
extern const char *const PROCESS_PROGRAMS[PROCESS_KINDS]; /* "mqtt-bridge-consumer" */

struct process;

/* What an epoll event belongs to. */
enum watch_kind { WATCH_SIGNALS, WATCH_CONTROL, WATCH_READY, WATCH_OUTPUT };

struct watch {
    enum watch_kind kind;
    struct process *process; /* of WATCH_READY and WATCH_OUTPUT */
};

/* Zero-initialised is empty and ready. */
struct process_output {
    char line[PROCESS_LINE_SIZE]; /* the line whose end has not come yet */
    size_t len;
    char
        last_line[PROCESS_LINE_SIZE]; /* the last output: the last line that was not blank, or "" */
    int64_t window_ms;
    int shown;
    uint64_t hidden; /* lines since the last one that was shown */
};

struct process_ready {
    char text[8];
    size_t len;
    bool spoilt; /* too long, or true was returned: the rest is ignored */
};

/* What every child is started with and kept by. */
struct launch {
    char *bin_dir; /* where the programs are */
    const struct settings *settings;
    int stats_fd;
    int log_fd;
    int epoll_fd; /* where the children's pipes are watched */
    struct states_rules rules;
    int64_t hang_timeout_ms; /* 0: off */
    int64_t
        resumed_ms; /* the supervisor itself stood still until then: silence before counts for nothing */
    uint64_t starts;        /* of all children, ever */
    struct stats_slot *own; /* the supervisor's slot: its log is what `mqtt-bridge events` shows */
    struct stats_slot
        *about; /* of the child that is being logged of: its log gets the line too; NULL: none */
};

struct process {
    struct launch *launch;
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
    uint64_t start;          /* launch->starts at its last start */
    bool became_fatal;       /* the service has yet to see to it: [supervisor] on_fatal */

    pid_t pid; /* 0: none */
    int ready_fd;
    int output_fd;
    int watched_by; /* the epoll descriptor that both pipes are in; -1: none */
    struct watch ready_watch;
    struct watch output_watch;
    struct process_ready ready_line;
    struct process_output output;
    char cause[STATS_EXIT_SIZE]; /* how the last process ended: "signal SIGSEGV"; "" before */
    int exit_code;               /* of the last process; 128 and the number for a signal */

    struct stats_slot *slot; /* the caller gives it one before it is started */
    size_t slot_index;
    uint64_t sampled; /* what was done when the rate was last computed */
};

/* A fresh, stopped process. number 0 counts as 1 and shows no number. */
struct process *process_new(struct launch *launch, enum process_kind kind, const char *name,
                            int number);
void process_free(struct process *process);

/* For EVENT_DONE, EVENT_SETTINGS and EVENT_FAILED there is process_handle_exit. */
void process_handle_event(struct process *process, enum event event);
/* The process has ended; info is waitid's, with WNOWAIT. Reads its pipes empty, ends what is left of its
 * group, reaps it, notes the cause and clears its gauges. */
void process_handle_exit(struct process *process, const siginfo_t *info);
/* EVENT_HANG and EVENT_DEADLINE, where their time has come. */
void process_check_deadlines(struct process *process, int64_t now_ms);
int64_t process_deadline(const struct process *process); /* -1: none */

/* One read each, for an epoll event. An end of file closes the pipe, which ends the watching. */
void process_read_ready(struct process *process);
bool process_read_output(struct process *process); /* false: there is nothing more to read */

void process_signal(const struct process *process, int signal); /* SIGKILL: to its whole group */

/* Does "worker", "worker:*", "worker:2", "consumer:garden" or "monitor:1" mean this process? */
bool process_matches(const struct process *process, const char *target);
/* Why it does not do its work: what it says itself while it lives, else how it ended. */
void process_reason(const struct process *process, char out[STATS_REASON_SIZE]);

/* Writes into its slot what the supervisor knows of it, over whatever the child has written there. */
void process_publish(const struct process *process);
/* Computes its rate over the time since the last sample. */
void process_sample(struct process *process, int64_t since_ms);
/* A log_taker; context is the struct launch. */
void process_keep_line(void *launch, const char *line);

/* Pure. show is called for each line within the limit; hidden: how many lines before it were above the limit. */
typedef void process_output_show(void *context, const char *line, uint64_t hidden);
void process_output_feed(struct process_output *output, struct bytes bytes, int64_t now_ms,
                         process_output_show *show, void *context);
/* The child has ended: the bytes behind the last end of line are a line too. */
void process_output_end(struct process_output *output, int64_t now_ms, process_output_show *show,
                        void *context);
/* Pure. True once: when "READY" and its end of line have come. */
bool process_ready_feed(struct process_ready *line, struct bytes bytes);

#endif
