/* Any bytes as a request of the control socket: no crash; what is taken is within its bounds; what is refused says
 * why. */
#include "supervisor/control.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct control_request request;
    struct error err = {0};

    if (control_parse((struct bytes){(const char *)data, size}, &request, &err) < 0) {
        require(err.text[0] != '\0');
        return 0;
    }
    require(request.verb < CONTROL_VERBS_LEN);
    require(memchr(request.target, '\0', sizeof(request.target)) != NULL);
    require(memchr(request.bridge, '\0', sizeof(request.bridge)) != NULL);
    require(request.count >= 0 && request.count <= 100000);
    require(request.verb != CONTROL_SIGNAL || (request.signal > 0 && request.signal < NSIG));
    return 0;
}
