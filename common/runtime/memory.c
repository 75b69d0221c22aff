#include "common/runtime/memory.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int64_t memory_of_process(pid_t pid)
{
    char path[48];
    char text[1024];
    long long kilobytes = -1;

    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return -1;
    text[len] = '\0';
    const char *line = strstr(text, "\nPss:");
    if (line == NULL || sscanf(line, " Pss: %lld", &kilobytes) != 1)
        return -1;
    return kilobytes * 1024;
}
