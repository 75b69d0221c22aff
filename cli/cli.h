/* The operator's command: what every verb is given, and what it may say.
 *
 *     mqtt-bridge [--config FILE] VERB [options] [arguments]
 *
 * Options are read by common/runtime/command_line. Those that the verb's row in verbs.h allows may stand anywhere
 * behind the verb, --config, --json and --help before it as well; "--" ends them. The verb's function is called with the arguments alone.
 * One verb a process, blocking, one thread. Results go to standard output, faults to
 * standard error as "mqtt-bridge: ...". */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "common/settings/settings.h"

#include <stdbool.h>

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,      /* a server, a process or the system said no */
    CLI_USAGE = 2,       /* the command line or the settings are wrong */
    CLI_NOT_RUNNING = 3, /* the bridge is not running */
};

#define CLI_DEFAULT_CONFIG "/etc/mqtt-bridge/mqtt-bridge.ini"
#define CLI_OPTIONS_MAX    32

struct cJSON;
struct command_line_option;
struct verb;

struct cli {
    const struct verb *verb; /* the row that was called: "top" is a name of its own */
    const char *config;      /* --config, else MQTT_BRIDGE_CONFIG, else CLI_DEFAULT_CONFIG if it is
                                 there, else NULL: environment and defaults only */
    bool config_given;       /* --config or MQTT_BRIDGE_CONFIG named it */
    bool json;               /* --json */
    bool quiet;              /* a failure is the exit code alone; set by verbs that have --quiet */
    bool color;              /* standard output is a terminal and NO_COLOR is not set */
    struct settings *settings; /* use cli_settings */
    char *socket;              /* use cli_socket */
    struct buf faults;         /* of the settings, if cli_socket found any: a line each */
    struct {
        const char *name;
        const char *value; /* "" for a flag */
    } options[CLI_OPTIONS_MAX];
    size_t options_len;
};

/* Reads the command line into cli; *count and words get the arguments (words has room for argc). Returns
 * true if cli->verb is to be run; else *exit_code is what main returns: help and version have been
 * printed, or what is wrong has been said. */
bool cli_read(struct cli *cli, int argc, char **argv, int *count, char **words, int *exit_code);
void cli_free(struct cli *cli);

/* The verb's option as given on the command line ("watch"): its value, "" for a flag; NULL: not given.
 * Given twice, the last counts. */
const char *cli_option(const struct cli *cli, const char *name);

/* The settings, loaded once, owned by cli. NULL if they are wrong, every fault said on standard error:
 * the verb then returns CLI_USAGE. */
const struct settings *cli_settings(struct cli *cli);

/* Where the supervisor listens, owned by cli; with settings that are wrong elsewhere too, which cli->faults
 * then says and nobody has been told. NULL if it can't be told. */
const char *cli_socket(struct cli *cli);

/* Prints to standard output and clears out; false, said on standard error, if it can't be written. */
bool cli_print(struct buf *out);

/* The same, and frees out. Returns CLI_DONE or CLI_FAILED. */
int cli_print_free(struct buf *out);

/* Appends a JSON value in lines, and deletes it. */
void cli_append_json(struct buf *out, struct cJSON *root);
int cli_print_json(struct cJSON *root); /* likewise; prints as cli_print_free */
/* A member, whatever bytes the text has: what is no UTF-8 is mended. */
void cli_add_text(struct cJSON *object, const char *name, struct bytes text);
void cli_add_time(struct cJSON *object, const char *name,
                  int64_t us); /* "2026-11-24T10:00:00.123456Z" */

/* "a/b" for a terminal: no control characters, at most `most` bytes. Freed by the caller. */
char *cli_printable(struct bytes text, size_t most);

/* Asks whether the action ("remove") is to be done to so many of what ("failed message"), unless --yes was given. CLI_DONE: it is; else what
 * is wrong has been said. */
int cli_confirm(const struct cli *cli, const char *action, const char *what, size_t count);

/* The options that the command has before a verb (NULL), or that every verb like this one has. */
const struct command_line_option *cli_general_options(const struct verb *verb);

/* Says so, with the nearest verb; returns CLI_USAGE. */
int cli_unknown_verb(const char *name);

/* "mqtt-bridge: <text>" on standard error; returns exit_code. */
int cli_fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
