#include "cli/verbs.h"

int verb_version(struct cli *cli, int argc, char **argv)
{
    struct buf out = {0};

    (void)argc;
    (void)argv;
    buf_printf(&out, cli->json ? "{\"version\":\"%s\"}\n" : "mqtt-bridge %s\n",
               MQTT_BRIDGE_VERSION);
    return cli_print_free(&out);
}
