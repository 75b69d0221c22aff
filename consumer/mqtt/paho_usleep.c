#include "consumer/mqtt/paho_usleep.h"

#include "common/base/clock.h"

#include <time.h>
#include <unistd.h>

#define REST_US 500000

/* When the thread last wanted to nap; 0 in threads that may. */
static _Thread_local int64_t last_nap_us;

void paho_usleep_skip_naps(void)
{
    last_nap_us = clock_monotonic_us();
}

/* At most twice a second: without a socket the thread has nothing else to wait in. */
int usleep(useconds_t duration_us)
{
    struct timespec duration = {duration_us / 1000000, (long)(duration_us % 1000000) * 1000};
    int64_t now_us = clock_monotonic_us();

    if (last_nap_us != 0 && now_us - last_nap_us > REST_US) {
        last_nap_us = now_us;
        return 0;
    }
    return nanosleep(&duration, NULL);
}
