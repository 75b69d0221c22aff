/* The operator's command: what all verbs have in common.
 *
 *     mqtt-bridge [--config FILE] VERB [options] [arguments]
 *
 * Options are read by common/runtime/command_line. The options of the verb's row in verbs.h may come anywhere behind
 * the verb; --config, --json and --help before it too; "--" ends them. A process runs one verb, blocking, in one
 * thread. Results go to standard output, errors to standard error as "mqtt-bridge: ...". */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "common/settings/settings.h"

#include <stdbool.h>

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,      /* a server, a process or the system refused */
    CLI_USAGE = 2,       /* the command line or the settings are wrong */
    CLI_NOT_RUNNING = 3, /* the bridge is not running */
};

#define CLI_DEFAULT_CONFIG "/etc/mqtt-bridge/mqtt-bridge.ini"
#define CLI_OPTIONS_MAX    32

struct cJSON;
struct command_line_option;
struct verb;

struct cli {
    const struct verb *verb; /* the row that was called; "top" has a row of its own */
    /* --config, else MQTT_BRIDGE_CONFIG, else CLI_DEFAULT_CONFIG if that exists, else NULL: no file. */
    const char *config;
    bool json;                 /* --json */
    bool quiet;                /* a failure prints nothing; set by verbs that have --quiet */
    bool color;                /* standard output is a terminal and NO_COLOR is not set */
    struct settings *settings; /* use cli_settings */
    char *socket;              /* use cli_socket */
    struct buf faults;         /* faults of the settings that cli_socket found, one on each line */
    struct {
        const char *name;
        const char *value; /* "" for a flag */
    } options[CLI_OPTIONS_MAX];
    size_t options_len;
    char **arguments; /* of the verb; main owns the array */
    size_t arguments_len;
    bool help;    /* --help */
    bool version; /* --version */
};

/* Reads the command line into cli, whose `arguments` has room for argc. Returns true if cli->verb is to be run. Else
 * help, version or an error has been printed, and *exit_code is main's result. */
bool cli_read(struct cli *cli, int argc, char **argv, int *exit_code);
void cli_free(struct cli *cli);

/* The verb's option as given on the command line ("watch"): its value, "" for a flag; NULL: not given.
 * Given twice, the last counts. */
const char *cli_option(const struct cli *cli, const char *name);

/* The settings, loaded once, owned by cli. NULL if they are wrong, with every fault printed: the verb then returns
 * CLI_USAGE. */
const struct settings *cli_settings(struct cli *cli);

/* The supervisor's socket, owned by cli; NULL if it is unknown. It is also found if other settings are wrong: these
 * faults are in cli->faults, and were not printed. */
const char *cli_socket(struct cli *cli);

/* Prints to standard output and clears out. False, with an error printed, if it can't be written. */
bool cli_print(struct buf *out);

/* As cli_print, and frees out. Returns CLI_DONE or CLI_FAILED. */
int cli_print_free(struct buf *out);

/* Appends a JSON value in several lines, and deletes it. */
void cli_append_json(struct buf *out, struct cJSON *root);
/* Prints a JSON value in several lines, and deletes it. Returns as cli_print_free. */
int cli_print_json(struct cJSON *root);
/* Adds a member with any text: bytes that are no UTF-8 are replaced. */
void cli_add_text(struct cJSON *object, const char *name, struct bytes text);
void cli_add_time(struct cJSON *object, const char *name,
                  int64_t us); /* "2026-11-24T10:00:00.123456Z" */

/* "a/b" for a terminal: no control characters, at most `most` bytes. Freed by the caller. */
char *cli_printable(struct bytes text, size_t most);

/* Asks whether to do the action ("remove") to so many of what ("failed message"), unless --yes was given. CLI_DONE:
 * yes; else the reason has been printed. */
int cli_confirm(const struct cli *cli, const char *action, const char *what, size_t count);

/* The options that the command has before a verb (NULL), or that every verb like this one has. */
const struct command_line_option *cli_general_options(const struct verb *verb);

/* Prints that there is no such verb, and the nearest one; returns CLI_USAGE. */
int cli_unknown_verb(const char *name);

/* "mqtt-bridge: <text>" on standard error; returns exit_code. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
