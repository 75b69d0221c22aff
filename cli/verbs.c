#include "cli/verbs.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define NAME_WIDTH   8
#define OPTION_WIDTH 20

static const struct command_line_option CHECK_OPTIONS[] = {
    {"connect", 0, NULL, "also connect to every server, and say what is wrong and how to mend it",
     false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option CONFIG_OPTIONS[] = {
    {"template", 0, NULL, "print the commented ini file with every key and its default", false},
    {"reference", 0, NULL, "the tables of the settings, in Markdown", true},
    {"man", 0, NULL, "the man page of the settings", true},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option STATUS_OPTIONS[] = {
    {"watch", 0, NULL, "redraw every second, as top", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option HEALTH_OPTIONS[] = {
    {"quiet", 'q', NULL, "say nothing: the exit code alone", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option PUBLISH_OPTIONS[] = {
    {"private", 0, NULL, "only for subscribers whose token allows the topic", false},
    {"type", 0, "TYPE", "the event's type, as EventSource names it", false},
    {"id", 0, "ID", "the update's id; else a random one", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option HELP_OPTIONS[] = {
    {"completion", 0, NULL, "print the completion for bash", false},
    {"man", 0, NULL, "print the man page", true},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option SPOOL_OPTIONS[] = {
    {"all", 0, NULL, "resend, remove: all of them", false},
    {"yes", 'y', NULL, "resend, remove: don't ask", false},
    {"topic", 0, "FILTER", "dump: messages of these topics, as `plant/+/temp`", false},
    {"limit", 0, "N", "dump: the first N messages", false},
    {"unsent", 0, NULL, "dump: what is not known to be in Redis", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct command_line_option FAILED_OPTIONS[] = {
    {"all", 0, NULL, "retry, remove: all that the filters leave", false},
    {"yes", 'y', NULL, "don't ask", false},
    {"topic", 0, "FILTER", "only what this MQTT filter matches, as sensors/+/temp", false},
    {"class-filter", 0, "CLASS", "only messages of this class", false},
    {"since", 0, "TIME", "only what failed then or later: 2h, 7d, 2026-11-24T10:00", false},
    {"until", 0, "TIME", "only what failed before then", false},
    {"limit", 0, "N", "so many at most (list: 50; 0 for all)", false},
    {"rate", 0, "N", "retry: so many a second", false},
    {"taken", 0, NULL, "retry, remove: also what a PHP worker took and did not settle", false},
    {"transport", 0, "NAME", "retry: to this one, wherever it came from", false},
    {NULL, 0, NULL, NULL, false},
};

static const struct verb_action FAILED_ACTIONS[] = {
    {"list", "", "what failed, the newest first (the default)",
     "class-filter topic since until limit"},
    {"show", "ID", "its stamps, error and payload", ""},
    {"stats", "", "how many by class, topic, error and hour", "class-filter topic since until"},
    {"retry", "ID...|--all", "handle it anew: once for a transport, however often it is tried",
     "all yes class-filter topic since until limit rate taken transport"},
    {"remove", "ID...|--all", "delete it: nobody else has it",
     "all yes class-filter topic since until limit taken"},
    {NULL, NULL, NULL, NULL},
};

static const struct verb_action SPOOL_ACTIONS[] = {
    {"list", "", "messages that were too large, and were set aside (the default)", ""},
    {"resend", "ID...|--all", "give such messages to the transport `async`", "all yes"},
    {"remove", "ID...|--all", "delete such messages: nobody else has them", "all yes"},
    {"show", "[SPOOL]...", "segments, sequences, the mark, what is unsent", ""},
    {"verify", "[SPOOL]...", "check every record; exit code 1 if there is damage", ""},
    {"dump", "[SPOOL]...", "print the messages, as JSON lines with --json", "topic limit unsent"},
    {NULL, NULL, NULL, NULL},
};

const struct verb VERBS[] = {
    {
        .name = "run",
        .group = VERB_SET_UP,
        .arguments = "",
        .summary = "run the bridge in the foreground (without a terminal the default)",
        .help = "It becomes the supervisor. SIGTERM and SIGINT drain and stop it, SIGHUP reloads "
                "the settings.\nIt ends with the terminal that it was started on, but for nohup.",
        .run = verb_run,
    },
    {
        .name = "check",
        .group = VERB_SET_UP,
        .arguments = "",
        .summary = "check the settings; every fault is named with its file, line and key",
        .help =
            "Exit code: 0 all is well (warnings may be printed), 1 a server does not do what it "
            "must,\n2 the settings are wrong.",
        .options = CHECK_OPTIONS,
        .json = true,
        .run = verb_check,
    },
    {
        .name = "config",
        .group = VERB_SET_UP,
        .arguments = "",
        .summary = "print the settings in force and where each comes from, secrets masked",
        .options = CONFIG_OPTIONS,
        .json = true,
        .run = verb_config,
    },
    {
        .name = "setup",
        .group = VERB_SET_UP,
        .arguments = "",
        .summary = "make the stream, the consumer group and the failure table, if they are missing",
        .help = "As messenger:setup-transports does, for every [transport:NAME] and [failure]. "
                "What is there stays as\nit is, so it may be run again at any time. The bridge "
                "makes them by itself when it first needs them,\nthe table only with [failure] "
                "auto_setup.\n\n"
                "Exit code: 0 all is there, 1 a server could not be reached or refused, 2 the "
                "settings are wrong.",
        .json = true,
        .run = verb_setup,
    },
    {
        .name = "status",
        .group = VERB_WATCH,
        .arguments = "",
        .summary = "show the processes and the queue",
        .options = STATUS_OPTIONS,
        .json = true,
        .run = verb_status,
    },
    {
        .name = "top",
        .group = VERB_WATCH,
        .arguments = "",
        .summary = "watch the processes; keys sort them, q ends it",
        .help =
            "Keys sort by a column, the same key again the other way round: n name, s state, u "
            "uptime,\n"
            "t restarts, c crashes, r rate, d done, f failed, m memory; 0 as at first. q ends it.\n"
            "Where the output is no terminal, one picture follows the other.",
        .run = verb_status,
    },
    {
        .name = "start",
        .group = VERB_STEER,
        .arguments = "[NAME[:SLOT|:*]]...",
        .summary = "start processes that were stopped (all of them without a name)",
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_start,
    },
    {
        .name = "stop",
        .group = VERB_STEER,
        .arguments = "[NAME[:SLOT|:*]]...",
        .summary = "stop processes; without a name, drain and end the bridge",
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_stop,
    },
    {
        .name = "shutdown",
        .group = VERB_STEER,
        .arguments = "",
        .summary = "drain and end the bridge, as stop without a name",
        .json = true,
        .run = verb_stop,
    },
    {
        .name = "restart",
        .group = VERB_STEER,
        .arguments = "[NAME[:SLOT|:*]]...",
        .summary = "drain and replace processes (all of them without a name)",
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_restart,
    },
    {
        .name = "scale",
        .group = VERB_STEER,
        .arguments = "N",
        .summary = "run N workers from now on",
        .arguments_min = 1,
        .arguments_max = 1,
        .json = true,
        .run = verb_scale,
    },
    {
        .name = "signal",
        .group = VERB_STEER,
        .arguments = "NAME[:SLOT|:*] SIGNAL",
        .summary = "send a signal to processes, as TERM or USR1",
        .arguments_min = 2,
        .arguments_max = 2,
        .json = true,
        .run = verb_signal,
    },
    {
        .name = "events",
        .group = VERB_WATCH,
        .arguments = "",
        .summary = "show what happened to the bridge, the newest last",
        .help = "What the supervisor has logged, whatever the level of the log: the last 64 lines.",
        .json = true,
        .run = verb_events,
    },
    {
        .name = "log",
        .group = VERB_WATCH,
        .arguments = "[NAME[:SLOT|:*]]...",
        .summary = "show the last lines that processes have logged, the newest last",
        .help = "The last 64 of each from level info on, whatever the level and the place of the "
                "log is, with\n"
                "what the process wrote to standard error and how it ended. They are kept in "
                "memory, over the\n"
                "end of the process, until the bridge ends.",
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_log,
    },
    {
        .name = "reload",
        .group = VERB_STEER,
        .arguments = "",
        .summary = "check and reload the settings; only what changed is restarted",
        .json = true,
        .run = verb_reload,
    },
    {
        .name = "upgrade",
        .group = VERB_STEER,
        .arguments = "",
        .summary = "become the version that has been installed over the running one",
        .help =
            "The new program first checks the settings, and whether all its programs can be run. "
            "If it refuses,\nnothing changes. Else the processes drain and end, and the "
            "supervisor, which keeps its process id,\nexecutes the new program. The broker and "
            "the spool keep what comes meanwhile. Statistics count from 0.\n\n"
            "Exit code: 0 all processes of the new version run, 1 not, and why, 3 not running.",
        .json = true,
        .run = verb_upgrade,
    },
    {
        .name = "route",
        .group = VERB_MESSAGES,
        .arguments = "TOPIC [PAYLOAD]",
        .summary = "say which route takes a topic, and the update that a message becomes",
        .help = "Nothing is sent. The settings alone are asked: the bridge need not run.",
        .arguments_min = 1,
        .arguments_max = 2,
        .json = true,
        .run = verb_route,
    },
    {
        .name = "publish",
        .group = VERB_MESSAGES,
        .arguments = "TOPIC DATA",
        .summary = "publish one update, to try the hub",
        .help = "TOPIC is the hub's, as subscribers name it. DATA `-` reads standard input. The "
                "settings alone are\nneeded: the bridge need not run.\n\n"
                "Exit code: 0 the hub has it, 1 it has not (what it answered, and what to mend, "
                "goes to standard\nerror), 2 usage or settings.",
        .examples = "mqtt-bridge publish sensors/room1/temp '{\"temp\":21.5}'\n"
                    "date | mqtt-bridge publish --private --type clock time -",
        .options = PUBLISH_OPTIONS,
        .arguments_min = 2,
        .arguments_max = 2,
        .json = true,
        .run = verb_publish,
    },
    {
        .name = "spool",
        .group = VERB_MESSAGES,
        .arguments = "[ACTION] [ID|SPOOL]...",
        .summary = "look into the spool; resend or remove messages that were too large for it",
        .help = "show, verify and dump only look: they take no lock, and the bridge may run "
                "meanwhile. What the\nbroker delivers is written to the spool before it is "
                "acknowledged, and kept for a while after\nRedis has it. A SPOOL is named as show "
                "prints it; without one, all are meant.\n\n"
                "A message that no segment takes, or no entry of Redis, lies in a file of its own "
                "in its spool's\nfolder, and everything behind it went on. resend gives it to the "
                "transport `async` under its own\nidentity, once however often it is tried, and "
                "removes the file. Its entry must fit into max_entry,\nand Redis must take it. "
                "Files take as much of the disk as they need, whatever [spool] size says.\n\n"
                "Exit code: 0 done, 1 damage was found, one of them could not be sent or removed, "
                "there is no such\nmessage, or the question was not answered with y; 2 usage or "
                "settings, or nobody can be asked\n(--yes is missing).",
        .examples = "mqtt-bridge spool show\n"
                    "mqtt-bridge spool dump --topic 'plant/+/temp' --unsent --limit 20\n"
                    "mqtt-bridge spool dump --json | jq .payload",
        .options = SPOOL_OPTIONS,
        .actions = SPOOL_ACTIONS,
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_spool,
    },
    {
        .name = "failed",
        .group = VERB_MESSAGES,
        .arguments = "[ACTION [ID...]]",
        .summary = "list, show, count, retry or remove the messages that failed",
        .help =
            "retry gives a message to the transport that it came from, and takes it out of the "
            "failure "
            "transport; a\ntopic's messages in their order.\n"
            "--all with filters means what they leave. Before anything is done to all, you are "
            "asked "
            "(-y: not).\nWhat a PHP worker has in hand is left alone. Times are UTC unless they "
            "have "
            "a zone.\n\n"
            "Exit code: 0 done, 1 one of them could not be sent or removed, there is no such "
            "message, a server\nfailed, or the question was not answered with y; 2 usage or "
            "settings, or nobody can be asked\n(--yes is missing).",
        .examples =
            "mqtt-bridge failed list --since 2h --topic 'plant/#'\n"
            "mqtt-bridge failed retry --all --class-filter 'App\\Message\\MqttMessage' --rate 100",
        .options = FAILED_OPTIONS,
        .actions = FAILED_ACTIONS,
        .arguments_max = CLI_ARGUMENTS_MAX,
        .json = true,
        .run = verb_failed,
    },
    {
        .name = "health",
        .group = VERB_WATCH,
        .arguments = "",
        .summary = "a probe for containers: exit code 0 if the bridge is ready",
        .help = "Ready is what /readyz says: all consumers are connected and can send, Redis and "
                "the hub "
                "answer, a worker runs.\n\n"
                "Exit code: 0 ready, 1 not ready (what is missing goes to standard error), 2 the "
                "settings are wrong,\n3 not running.",
        .options = HEALTH_OPTIONS,
        .run = verb_health,
    },
    {
        .name = "help",
        .group = VERB_ABOUT,
        .arguments = "[VERB]",
        .summary = "explain a verb, or list them all (on a terminal the default)",
        .options = HELP_OPTIONS,
        .examples = "mqtt-bridge help spool\nsource <(mqtt-bridge help --completion)",
        .arguments_max = 1,
        .run = verb_help,
    },
    {
        .name = "version",
        .group = VERB_ABOUT,
        .arguments = "",
        .summary = "print the version",
        .json = true,
        .run = verb_version,
    },
};
const size_t VERBS_LEN = LENGTH_OF(VERBS);

const char *const VERB_GROUP_TITLES[VERB_GROUPS] = {
    [VERB_SET_UP] = "Set up and run", [VERB_WATCH] = "Watch", [VERB_STEER] = "Steer",
    [VERB_MESSAGES] = "Messages",     [VERB_ABOUT] = "About",
};

const struct verb *verbs_find(const char *name)
{
    for (size_t i = 0; i < VERBS_LEN; i++)
        if (strcmp(VERBS[i].name, name) == 0)
            return &VERBS[i];
    return NULL;
}

const struct verb_action *verbs_find_action(const struct verb *verb, const char *name)
{
    const struct verb_action *action = verb->actions;

    while (name && action->name && strcmp(action->name, name) != 0)
        action++;
    return action->name ? action : NULL;
}

bool verbs_action_takes(const struct verb_action *action, const char *option)
{
    struct bytes rest = bytes_of(action->options), name;

    while (bytes_next_item(&rest, &name))
        if (bytes_equal_text(name, option))
            return true;
    return false;
}

const struct command_line_option *verbs_find_option(const struct verb *verb, const char *name)
{
    for (const struct command_line_option *option = verb->options; option && option->name; option++)
        if (strcmp(option->name, name) == 0)
            return option;
    return NULL;
}

static void append_row(struct buf *out, int width, const char *left, const char *text)
{
    buf_printf(out, "  %-*s  %s\n", width, left, text);
}

static void append_options(struct buf *out, const struct command_line_option *options)
{
    for (const struct command_line_option *option = options; option && option->name; option++) {
        char left[80];
        char letter[] = {'-', option->letter, ',', ' ', '\0'};

        if (option->hidden)
            continue;
        snprintf(left, sizeof(left), "%s--%s%s%s", option->letter ? letter : "", option->name,
                 option->argument ? " " : "", option->argument ? option->argument : "");
        append_row(out, OPTION_WIDTH, left, option->summary);
    }
}

static void append_actions(struct buf *out, const struct verb_action *actions)
{
    if (actions)
        buf_append_text(out, "Actions:\n");
    for (const struct verb_action *action = actions; action && action->name; action++) {
        char left[80];

        snprintf(left, sizeof(left), "%s%s%s", action->name, action->arguments[0] ? " " : "",
                 action->arguments);
        append_row(out, OPTION_WIDTH, left, action->summary);
    }
    if (actions)
        buf_append_char(out, '\n');
}

static void append_examples(struct buf *out, const char *examples)
{
    struct bytes rest = bytes_of(examples), line;

    if (rest.len > 0)
        buf_append_text(out, "\nExamples:\n");
    while (rest.len > 0) {
        bytes_split(rest, '\n', &line, &rest);
        buf_printf(out, "  %.*s\n", BYTES_ARG(line));
    }
}

void verbs_help(struct buf *out)
{
    buf_append_text(out,
                    "Usage: mqtt-bridge [--config FILE] VERB [options] [arguments]\n\n"
                    "Brings MQTT messages to a Mercure hub by way of a Symfony Messenger queue.\n");
    for (int group = 0; group < VERB_GROUPS; group++) {
        buf_printf(out, "\n%s:\n", VERB_GROUP_TITLES[group]);
        for (size_t i = 0; i < VERBS_LEN; i++)
            if ((int)VERBS[i].group == group)
                append_row(out, NAME_WIDTH, VERBS[i].name, VERBS[i].summary);
    }
    buf_append_text(out, "\nOptions:\n");
    append_options(out, cli_general_options(NULL));
    append_examples(out, "mqtt-bridge check --connect\n"
                         "mqtt-bridge status --watch\n"
                         "mqtt-bridge help VERB");
    buf_append_text(out, "\nExit codes: 0 done, 1 failed, 2 usage or settings, 3 not running.\n");
}

void verbs_describe(struct buf *out, const struct verb *verb)
{
    buf_printf(out, "Usage: mqtt-bridge [--config FILE] %s%s%s%s\n\n%c%s.\n\n", verb->name,
               verb->options || verb->json ? " [options]" : "", verb->arguments[0] ? " " : "",
               verb->arguments, toupper((unsigned char)verb->summary[0]), verb->summary + 1);
    append_actions(out, verb->actions);
    buf_append_text(out, "Options:\n");
    append_options(out, verb->options);
    append_options(out, cli_general_options(verb));
    if (verb->help)
        buf_printf(out, "\n%s\n", verb->help);
    append_examples(out, verb->examples);
}
