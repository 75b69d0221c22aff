#include "common/runtime/command_line.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define EXIT_USAGE 2

void command_line_read(struct command_line *line, int argc, char **argv)
{
    const struct option options[] = {{"config", required_argument, NULL, 'c'},
                                     {"help", no_argument, NULL, 'h'},
                                     {"version", no_argument, NULL, 'V'},
                                     {line->option, required_argument, NULL, 'o'},
                                     {NULL, 0, NULL, 0}};
    int option;

    line->config = getenv("MQTT_BRIDGE_CONFIG");
    if (line->config != NULL && line->config[0] == '\0')
        line->config = NULL; /* as every variable that is empty */
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c':
            line->config = optarg;
            break;
        case 'o':
            line->value = optarg;
            break;
        case 'h':
            fputs(line->help, stdout);
            exit(0);
        case 'V':
            printf("%s %s\n", line->program, MQTT_BRIDGE_VERSION);
            exit(0);
        default:
            fprintf(stderr, "%s: see %s --help\n", line->program, line->program);
            exit(EXIT_USAGE);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument \"%s\"; see %s --help\n", line->program,
                argv[optind], line->program);
        exit(EXIT_USAGE);
    }
}
