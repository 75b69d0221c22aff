/* What an intake waits for, and how it is doing. */
#include "common/base/clock.h"
#include "worker/intake_internal.h"
#include "worker/settle.h"

#include <poll.h>

unsigned intake_poll(const struct intake *intake, struct curl_waitfd fds[INTAKE_FDS])
{
    const struct queue *queues[INTAKE_FDS] = {intake->reader, intake->writer};
    unsigned len = 0;

    for (size_t i = 0; i < INTAKE_FDS; i++) {
        short events = queue_events(queues[i]);

        if (queue_fd(queues[i]) < 0)
            continue;
        fds[len] = (struct curl_waitfd){.fd = queue_fd(queues[i])};
        if ((events & POLLIN) != 0)
            fds[len].events |= CURL_WAIT_POLLIN;
        if ((events & POLLOUT) != 0)
            fds[len].events |= CURL_WAIT_POLLOUT;
        len++;
    }
    return len;
}

void intake_process(struct intake *intake, const struct curl_waitfd *fds, unsigned len)
{
    struct queue *queues[INTAKE_FDS] = {intake->reader, intake->writer};

    for (size_t i = 0; i < INTAKE_FDS; i++) {
        short revents = 0;

        for (unsigned j = 0; j < len; j++) {
            if (fds[j].fd != queue_fd(queues[i]))
                continue;
            revents |= (fds[j].revents & CURL_WAIT_POLLIN) != 0 ? POLLIN : 0;
            revents |= (fds[j].revents & CURL_WAIT_POLLOUT) != 0 ? POLLOUT : 0;
        }
        queue_process(queues[i], revents);
    }
}

static void soonest_renewal(const struct intake *intake, int64_t *deadline)
{
    if (!intake->renewing)
        *deadline = clock_earlier_ms(*deadline, intake->renew_ms);
}

static void soonest_of_open(const struct intake *intake, int64_t *deadline)
{
    if (intake->open > 0)
        *deadline = clock_earlier_ms(*deadline, intake->keep_ms);
    *deadline = clock_earlier_ms(*deadline, intake_careful_deadline_ms(intake));
}

/* Once it is past, it is others that are waited for. */
static void soonest_giving_up(const struct intake *intake, int64_t *deadline)
{
    if (intake->stopped && intake->give_up_ms > clock_monotonic_ms())
        *deadline = clock_earlier_ms(*deadline, intake->give_up_ms);
}

int64_t intake_deadline_ms(const struct intake *intake)
{
    int64_t deadline = -1;

    if (intake_is_broken(intake))
        return 0;

    deadline = clock_earlier_ms(deadline, queue_deadline_ms(intake->reader));
    deadline = clock_earlier_ms(deadline, queue_deadline_ms(intake->writer));
    deadline = clock_earlier_ms(deadline, settle_deadline_ms(intake->settle));
    if (intake->stopped && intake->reading)
        deadline = clock_earlier_ms(deadline, intake->last_read_ms);
    switch (intake->phase) {
    case INTAKE_DOWN:
    case INTAKE_LEASE:
        if (!intake->asked && intake_wants_redis(intake))
            deadline = clock_earlier_ms(deadline, intake->again_ms);
        soonest_giving_up(intake, &deadline);
        break;
    case INTAKE_RUNNING:
        if (intake->active && !intake->moving)
            deadline = clock_earlier_ms(deadline, intake->due_ms);
        if (intake->active && intake->had_room && !intake->claiming)
            deadline = clock_earlier_ms(deadline, intake->claim_ms);
        soonest_of_open(intake, &deadline);
        soonest_renewal(intake, &deadline);
        break;
    case INTAKE_PENDING:
        soonest_of_open(intake, &deadline);
        soonest_renewal(intake, &deadline);
        break;
    case INTAKE_SETTLING:
        soonest_renewal(intake, &deadline);
        break;
    case INTAKE_CONNECTING:
        soonest_giving_up(intake, &deadline);
        break;
    case INTAKE_GROUP:
    case INTAKE_RELEASING:
    case INTAKE_RELEASED:
        break;
    }
    return deadline;
}

bool intake_is_running(const struct intake *intake)
{
    return (intake->phase == INTAKE_RUNNING || intake->phase == INTAKE_PENDING) &&
           intake->trouble[0] == '\0';
}

bool intake_is_quiet(const struct intake *intake)
{
    switch (intake->phase) {
    case INTAKE_DOWN:
    case INTAKE_RELEASING:
    case INTAKE_RELEASED:
        return true;
    case INTAKE_LEASE:
        return !intake->asked; /* another host's */
    case INTAKE_CONNECTING:
    case INTAKE_GROUP:
    case INTAKE_SETTLING:
    case INTAKE_PENDING:
        return false;
    case INTAKE_RUNNING:
        return intake->reading && intake->dry &&
               intake->open == intake->rejecting + intake->refused;
    }
    return true;
}

bool intake_is_idle(const struct intake *intake)
{
    return intake->open == 0 && !intake->reading && settle_is_idle(intake->settle);
}

/* What was on its way when Redis went away is forgotten, but for what is on the wire to the hub. */
bool intake_is_lost(const struct intake *intake, int64_t now_ms)
{
    return intake->stopped && intake->phase <= INTAKE_CONNECTING && intake->open == 0 &&
           now_ms >= intake->give_up_ms;
}

bool intake_wants_redis(const struct intake *intake)
{
    return !intake->stopped || !settle_is_idle(intake->settle);
}

size_t intake_open(const struct intake *intake)
{
    return intake->open - intake->rejecting + intake->promised;
}

size_t intake_open_refused(const struct intake *intake)
{
    return intake->refused;
}

size_t intake_open_bytes(const struct intake *intake)
{
    return intake->open_bytes;
}

const char *intake_trouble(const struct intake *intake)
{
    if (intake->trouble[0] != '\0')
        return intake->trouble;
    for (size_t i = 0; i < COMPLAINTS; i++)
        if (intake->complaint[i][0] != '\0')
            return intake->complaint[i];
    return "";
}

struct settle *intake_settle(const struct intake *intake)
{
    return intake->settle;
}
