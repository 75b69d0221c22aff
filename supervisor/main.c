/* mqtt-bridge-supervisor: starts, watches, restarts, scales and stops the bridge's processes. */
#include "common/base/buf.h"
#include "common/base/child.h"
#include "common/base/log.h"
#include "common/wire/settings_verify.h"
#include "supervisor/loop.h"
#include "supervisor/service.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROGRAM        "mqtt-bridge-supervisor"
#define DEFAULT_CONFIG "/etc/mqtt-bridge/mqtt-bridge.ini"

static void print_help(void)
{
    printf(PROGRAM
           " - runs the bridge: consumers, workers and the monitor\n\n"
           "usage: " PROGRAM " [--config FILE]\n\n"
           "  --config FILE  the settings (default: $MQTT_BRIDGE_CONFIG, else\n"
           "                 " DEFAULT_CONFIG " if it is there, else the\n"
           "                 environment and the defaults)\n"
           "  --version\n\n"
           "It stays in the foreground. SIGTERM, SIGINT drain and stop; SIGQUIT stops at once;\n"
           "SIGHUP reloads the settings; SIGUSR1 reopens the log; SIGUSR2 replaces the workers\n"
           "one after the other; SIGTTIN, SIGTTOU: one worker more, one less.\n"
           "Exit code: 0 stopped in order, 1 failed, 2 settings, 3 already running;\n"
           "with on_fatal = exit that of the process that was given up.\n");
}

static const char *parse(int argc, char **argv)
{
    static const struct option OPTIONS[] = {{"config", required_argument, NULL, 'c'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    const char *config = getenv("MQTT_BRIDGE_CONFIG");
    int option;

    if (config != NULL && config[0] == '\0') /* as every empty variable: not set */
        config = NULL;
    if (config == NULL && access(DEFAULT_CONFIG, F_OK) == 0)
        config = DEFAULT_CONFIG;
    while ((option = getopt_long(argc, argv, "c:h", OPTIONS, NULL)) != -1) {
        switch (option) {
        case 'c':
            config = optarg;
            break;
        case 'h':
            print_help();
            exit(0);
        case 'V':
            printf(PROGRAM " " MQTT_BRIDGE_VERSION "\n");
            exit(0);
        default:
            fprintf(stderr, PROGRAM ": see " PROGRAM " --help\n");
            exit(CHILD_EXIT_SETTINGS);
        }
    }
    if (optind < argc) {
        fprintf(stderr, PROGRAM ": unexpected argument \"%s\"; see " PROGRAM " --help\n",
                argv[optind]);
        exit(CHILD_EXIT_SETTINGS);
    }
    return config;
}

/* What we open later must not become somebody's standard input, output or error. */
static void fill_standard_descriptors(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

static int fail(const struct error *err)
{
    fprintf(stderr, PROGRAM ": %s\n", err->text);
    switch (err->code) {
    case ERR_LOCKED:
        return 3;
    case ERR_USAGE:
        return CHILD_EXIT_SETTINGS;
    default:
        return CHILD_EXIT_FAILED;
    }
}

static void announce(const struct service *service)
{
    log_info(LOG_WITH(log_text("config", service->config != NULL ? service->config : ""),
                      log_text("state_dir", service->settings->supervisor.state_dir),
                      log_number("consumers", (int64_t)service->settings->consumers_len + 1),
                      log_number("workers", service->workers)),
             PROGRAM " " MQTT_BRIDGE_VERSION " starts");
}

int main(int argc, char **argv)
{
    const char *config = parse(argc, argv);
    struct service service;
    struct settings *settings = NULL;
    struct buf faults = {0};
    struct error err = {0};

    fill_standard_descriptors();
    if (settings_load_verified(&settings, config, settings_verify, &faults) < 0) {
        fputs(buf_text(&faults), stderr);
        buf_free(&faults);
        return CHILD_EXIT_SETTINGS;
    }
    buf_free(&faults);
    if (service_open(&service, config, settings, &err) < 0 || loop_open(&service, &err) < 0) {
        service_close(&service);
        return fail(&err);
    }
    announce(&service);
    service_follow_roster(&service);
    loop_run(&service);
    log_info(LOG_PLAIN, "Stopped");
    service_close(&service);
    return service.exit_code;
}
