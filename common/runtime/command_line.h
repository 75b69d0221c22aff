/* Command lines, read by getopt_long: tables say which options there are, and what is wrong is said on standard
 * error with the nearest name, or with all names there are.
 *
 * Options may be cut short as far as they are unambiguous, letters may be joined, and "--" ends the options. A number
 * below zero is an argument. One reader at a time: getopt's state is the process's. */
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
    COMMAND_LINE_WRONG, /* and that is said */
};

/* Zero-initialised but for what is given. */
struct command_line_reader {
    const char *program; /* "mqtt-bridge": before each error */
    const char *subject; /* who has the options, in errors: "status" */
    const struct command_line_option
        *tables[COMMAND_LINE_TABLES]; /* each ends with a row without a name; NULL: none */
    int argc;
    char **argv; /* argv[0] is passed over */
    bool ended;  /* "--" was there: all that follows are arguments */
    /* What was read: */
    const struct command_line_option *option; /* NULL: an argument */
    const char *text; /* an option's value ("" for a flag), or the argument */
    int next;         /* the index in argv of what follows */
    int base;         /* getopt's argv[0]; 0 with begun false: it has not been asked yet */
    bool begun;
};

enum command_line_step command_line_next(struct command_line_reader *reader);
/* Says that there is no such option ("--json"), which is wrong. */
void command_line_refuse(const struct command_line_reader *reader, const char *word);

/* A program beside mqtt-bridge: --config FILE, --help, --version, and at most one option of the program's own, which
 * has a value. */
struct command_line {
    const char *program; /* "mqtt-bridge-worker" */
    const char *help;
    const char *option; /* "slot"; NULL: there is none */
    const char *value;  /* its value; NULL: not given */
    const char *config; /* --config, else MQTT_BRIDGE_CONFIG; NULL: neither is given */
};

/* Fills value and config. Exits with 0 for --help and --version, with 2 for what is wrong, which is said. */
void command_line_read(struct command_line *line, int argc, char **argv);

#endif
