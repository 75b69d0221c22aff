/* Any text as [mqtt] server_uris: no crash. Each address that is taken has a host, a port and an URI that is read as
 * the same again. A refusal has its reason. */
#include "common/settings/broker_address.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_taken(const struct broker_address *address)
{
    struct broker_address again;
    struct error err = {0};

    require(address->host[0] != '\0');
    require(atoi(address->port) >= 1 && atoi(address->port) <= 65535);
    require(strncmp(address->uri, address->tls ? "ssl://" : "tcp://", 6) == 0);
    require(strcmp(address->uri + 6, address->name) == 0);
    require(broker_address_read(&again, bytes_of(address->uri), !address->tls, &err) == 0);
    require(strcmp(again.host, address->host) == 0 && strcmp(again.port, address->port) == 0);
    require(again.tls == address->tls);
    broker_address_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes list = {(const char *)data, size}, text;

    /* Settings have no NUL byte in them. */
    if (memchr(data, '\0', size) != NULL)
        return 0;
    while (bytes_next_item(&list, &text)) {
        struct broker_address address;
        struct error err = {0};

        if (broker_address_read(&address, text, size % 2 == 1, &err) < 0) {
            require(err.code == ERR_USAGE && err.text[0] != '\0');
            continue;
        }
        check_taken(&address);
        broker_address_free(&address);
    }
    return 0;
}
