/* The command line of a program beside mqtt-bridge: --config FILE, --help, --version, and at most one option of
 * the program's own, which has a value. */
#ifndef COMMON_RUNTIME_COMMAND_LINE_H
#define COMMON_RUNTIME_COMMAND_LINE_H

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
