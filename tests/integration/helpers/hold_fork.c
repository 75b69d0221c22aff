/* Preloaded into the supervisor it keeps a new child between fork and exec as long as the file $HOLD_FORK is there.
 * There the child still has a copy of every descriptor of the parent. The child's first call is setpgid(0, 0). */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int setpgid(pid_t pid, pid_t group)
{
    const char *hold = getenv("HOLD_FORK");
    const struct timespec moment = {.tv_nsec = 2000000};
    pid_t parent = getppid();

    while (pid == 0 && hold != NULL && access(hold, F_OK) == 0 && getppid() == parent)
        nanosleep(&moment, NULL);
    return (int)syscall(SYS_setpgid, pid, group);
}
