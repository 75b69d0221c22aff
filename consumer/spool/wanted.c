/* A record that found no room although an empty spool could take it: its size outlives the process that
 * ended over it, so that the next one makes room before it joins the broker. See docs/SPOOL.md, "Space". */
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

uint64_t wanted_segment_size(const struct spool *spool, uint64_t record_size)
{
    if (SEGMENT_HEADER_SIZE + record_size <= spool->segment_size)
        return spool->segment_size;
    return (SEGMENT_HEADER_SIZE + record_size + 4095) & ~UINT64_C(4095);
}

uint64_t wanted_most(const struct spool *spool)
{
    return spool->size - 2 * spool->segment_size;
}

void wanted_write(struct spool *spool, uint64_t segment_size)
{
    int fd = sys_openat(spool->dir, SEGMENT_WANTED, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    /* Without it the next start only has no room either. */
    if (fd < 0)
        return;
    dprintf(fd, "%" PRIu64, segment_size);
    close(fd);
}

void wanted_read(struct spool *spool)
{
    char text[24];
    uint64_t wanted;
    int fd = sys_openat(spool->dir, SEGMENT_WANTED, O_RDONLY | O_CLOEXEC, 0);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text));

    if (fd >= 0)
        close(fd);
    if (len <= 0 || !bytes_to_u64((struct bytes){text, (size_t)len}, &wanted))
        return;
    spool->reader.wanted = wanted < wanted_most(spool) ? wanted : wanted_most(spool);
    log_notice(LOG_WITH(log_text("spool", spool->path), log_number("bytes", (int64_t)wanted)),
               "A message had no room in the spool: making room before the broker sends it again");
}

void wanted_done(struct spool *spool)
{
    spool->reader.wanted = 0;
    sys_unlinkat(spool->dir, SEGMENT_WANTED);
}
