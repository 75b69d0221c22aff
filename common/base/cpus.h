/* How many processors this process may use: those that it may run on, and no more than its control groups pay for
 * (docker run --cpus, a limit of Kubernetes, CPUQuota of systemd). */
#ifndef COMMON_BASE_CPUS_H
#define COMMON_BASE_CPUS_H

#include "common/base/bytes.h"

#include <stdint.h>

int64_t cpus_count(void); /* at least 1 */

/* The quota alone, rounded up; 0: there is none. root: where the groups are mounted, /sys/fs/cgroup; membership: what
 * /proc/self/cgroup holds, version 1 or 2. A group counts, and each that it is in. */
int64_t cpus_quota(const char *root, struct bytes membership);

#endif
