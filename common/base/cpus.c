#include "common/base/cpus.h"

#include "common/base/alloc.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define NUMBERS_SIZE    64
#define MEMBERSHIP_SIZE 65536

static int64_t round_up(long long quota, long long period)
{
    return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

static bool read_text(const char *folder, const char *name, char *text, size_t size)
{
    char *path = xasprintf("%s/%s", folder, name);
    FILE *file = fopen(path, "re");

    free(path);
    if (file == NULL)
        return false;
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
    return true;
}

/* "200000 100000" or "max 100000". */
static int64_t quota_of_v2(const char *folder)
{
    char text[NUMBERS_SIZE];
    long long quota, period;

    if (!read_text(folder, "cpu.max", text, sizeof(text)) ||
        sscanf(text, "%lld %lld", &quota, &period) != 2)
        return 0;
    return round_up(quota, period);
}

static int64_t quota_of_v1(const char *folder)
{
    char quota[NUMBERS_SIZE], period[NUMBERS_SIZE];

    if (!read_text(folder, "cpu.cfs_quota_us", quota, sizeof(quota)) ||
        !read_text(folder, "cpu.cfs_period_us", period, sizeof(period)))
        return 0;
    return round_up(atoll(quota), atoll(period));
}

/* The least of the group's and of those above it. Within a container the path may be one that only the host knows: then
 * the mounted root is the container's own group. */
static int64_t least_quota(const char *root, struct bytes path, int64_t (*quota_of)(const char *))
{
    char *folder = xasprintf("%s%.*s", root, BYTES_ARG(path));
    size_t top = strlen(root);
    int64_t least = 0;

    for (;;) {
        int64_t cpus = quota_of(folder);

        if (cpus > 0 && (least == 0 || cpus < least))
            least = cpus;
        char *slash = strrchr(folder + top, '/');
        if (slash == NULL)
            break;
        *slash = '\0';
    }
    free(folder);
    return least;
}

static bool has_cpu(struct bytes controllers)
{
    struct bytes name;

    while (controllers.len > 0) {
        bytes_split(controllers, ',', &name, &controllers);
        if (bytes_equal_text(name, "cpu"))
            return true;
    }
    return false;
}

int64_t cpus_quota(const char *root, struct bytes membership)
{
    struct bytes line;
    struct bytes number;
    struct bytes controllers;
    struct bytes path;
    int64_t cpus = 0;

    while (membership.len > 0 && cpus == 0) {
        bytes_split(membership, '\n', &line, &membership);
        bytes_split(line, ':', &number, &line);
        bytes_split(line, ':', &controllers, &path);
        if (bytes_equal_text(number, "0")) {
            cpus = least_quota(root, path, quota_of_v2);
        } else if (has_cpu(controllers)) {
            char *mounted = xasprintf("%s/cpu", root);

            cpus = least_quota(mounted, path, quota_of_v1);
            free(mounted);
        }
    }
    return cpus;
}

int64_t cpus_count(void)
{
    char membership[MEMBERSHIP_SIZE];
    cpu_set_t set;
    int64_t cpus = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
    int64_t quota = 0;

    if (read_text("/proc/self", "cgroup", membership, sizeof(membership)))
        quota = cpus_quota("/sys/fs/cgroup", bytes_of(membership));
    cpus = quota > 0 ? MIN(cpus, quota) : cpus;
    return MAX(cpus, 1);
}
