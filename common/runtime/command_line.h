/* Reads command lines with getopt_long. Tables list the options. Errors go to standard error, with the nearest option's
 * name, or with all names.
 *
 * Options may be abbreviated if they stay unambiguous, letters may be joined, and "--" ends the options. A negative
 * number is an argument. One reader at a time, since getopt's state is global. */
#ifndef COMMON_RUNTIME_COMMAND_LINE_H
#define COMMON_RUNTIME_COMMAND_LINE_H

#include <stdbool.h>

struct command_line_option {
    const char *name;     /* "watch": --watch */
    char letter;          /* 'q': -q as well; 0: none */
    const char *argument; /* "SECONDS", or NULL for a flag */
    const char *summary;
    bool hidden; /* neither in help nor in errors */
};

#define COMMAND_LINE_TABLES 2

enum command_line_step {
    COMMAND_LINE_END,
    COMMAND_LINE_OPTION,
    COMMAND_LINE_ARGUMENT,
    COMMAND_LINE_WRONG, /* the error was printed */
};

/* The caller sets the first members; the others are zero-initialised. */
struct command_line_reader {
    const char *program; /* "mqtt-bridge": printed before each error */
    const char *subject; /* the command that has the options, for errors: "status" */
    /* Each table ends with a row without a name; NULL: none. */
    const struct command_line_option *tables[COMMAND_LINE_TABLES];
    int argc;
    char **argv; /* argv[0] is skipped */
    bool ended;  /* after "--": only arguments follow */
    /* What was read: */
    const struct command_line_option *option; /* NULL: an argument */
    const char *text; /* an option's value ("" for a flag), or the argument */
    int next;         /* index in argv of the next word */
    int base;         /* index in argv of getopt's argv[0] */
    bool begun;       /* getopt was called */
};

enum command_line_step command_line_next(struct command_line_reader *reader);
/* Prints the error for an option that does not exist ("--json"). */
void command_line_refuse(const struct command_line_reader *reader, const char *word);

/* The command line of a program beside mqtt-bridge: --config FILE, --help, --version, and at most one further option,
 * which has a value. */
struct command_line {
    const char *program; /* "mqtt-bridge-worker" */
    const char *help;
    const char *option; /* "slot"; NULL: there is none */
    const char *value;  /* value of `option`; NULL: not given */
    const char *config; /* --config, else MQTT_BRIDGE_CONFIG; NULL: neither is given */
};

/* Fills value and config. Exits with 0 after --help and --version, with 2 after an error, which is printed. */
void command_line_read(struct command_line *line, int argc, char **argv);

#endif
