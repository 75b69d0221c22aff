/* The verbs: one table feeds the dispatch, `--help` of the program and of each verb, the man page and the completion
 * (manual.h). To add a verb, add a row in verbs.c and its function verb_NAME in a file verb_NAME.c. The verb of a
 * module is in that module (check.c, manual.c). */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/cli.h"
#include "common/base/buf.h"
#include "common/runtime/command_line.h"

#define CLI_ARGUMENTS_MAX 10000

/* The heading of the verb in the help. */
enum verb_group {
    VERB_SET_UP,
    VERB_WATCH,
    VERB_STEER,
    VERB_MESSAGES,
    VERB_ABOUT,
    VERB_GROUPS,
};

/* What a verb's first argument may be. */
struct verb_action {
    const char *name;
    const char *arguments; /* "ID...", "" for none */
    const char *summary;
    const char *options; /* the verb's options that it takes, separated by spaces; "" for none */
};

struct verb {
    const char *name;
    const char *arguments; /* "[NAME[:SLOT]]", "" for none */
    const char *summary;   /* one line, lower case, no full stop */
    const char *help; /* paragraphs below the options, an empty line between two; NULL for none */
    const char *examples;                      /* command lines, a line each; NULL for none */
    const struct command_line_option *options; /* ends with a row without name; NULL for none */
    const struct verb_action *actions;         /* ends with a row without name; NULL for none */
    size_t arguments_min;
    size_t arguments_max;
    enum verb_group group;
    bool json; /* --json is allowed */
    int (*run)(struct cli *cli);
};

extern const struct verb VERBS[];
extern const size_t VERBS_LEN;
extern const char *const VERB_GROUP_TITLES[VERB_GROUPS];

const struct verb *verbs_find(const char *name); /* NULL if there is none */
/* The action of that name, or the first without one; NULL if there is none. */
const struct verb_action *verbs_find_action(const struct verb *verb, const char *name);
bool verbs_action_takes(const struct verb_action *action, const char *option);
const struct command_line_option *verbs_find_option(const struct verb *verb, const char *name);
void verbs_help(struct buf *out);                              /* mqtt-bridge --help */
void verbs_describe(struct buf *out, const struct verb *verb); /* mqtt-bridge VERB --help */

/* Each returns an enum cli_exit. */
int verb_run(struct cli *cli);
int verb_check(struct cli *cli);
int verb_config(struct cli *cli);
int verb_version(struct cli *cli);
int verb_status(struct cli *cli); /* status, and top: status --watch */
int verb_start(struct cli *cli);
int verb_stop(struct cli *cli);
int verb_restart(struct cli *cli);
int verb_scale(struct cli *cli);
int verb_events(struct cli *cli);
int verb_log(struct cli *cli);
int verb_signal(struct cli *cli);
int verb_reload(struct cli *cli);
int verb_upgrade(struct cli *cli);
int verb_route(struct cli *cli);
int verb_spool(struct cli *cli);
int verb_failed(struct cli *cli);
int verb_setup(struct cli *cli);
int verb_publish(struct cli *cli);
int verb_health(struct cli *cli);
int verb_help(struct cli *cli);

#endif
