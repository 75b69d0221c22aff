/* Whom a record is meant for. See spool.h, and docs/SPOOL.md, "Destination". */
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

struct owner owner_of(const struct spool *spool, uint64_t record)
{
    struct owner owner = {spool->destination, spool->writer.destination_since};

    if (record >= owner.since)
        return owner;
    /* The last that claims it: a later one may have taken over what an earlier one had left. */
    for (const struct segment *s = spool->reader.first; s != NULL; s = s->next)
        if (s->header.destination_since <= record)
            owner = (struct owner){s->header.destination, s->header.destination_since};
    return owner;
}

const char *spool_destination(const struct spool *spool)
{
    return owner_of(spool, cursor_records(&spool->reader.read)).destination;
}

const char *spool_mark_destination(const struct spool *spool)
{
    return owner_of(spool, cursor_records(&spool->reader.committed)).destination;
}

uint64_t spool_redirect(struct spool *spool)
{
    struct spool_writer *writer = &spool->writer;
    struct segment *last = spool->reader.last;
    uint64_t from = cursor_records(&spool->reader.committed);
    uint64_t until = writer->destination_since;
    struct error err;

    if (from >= until)
        return 0;
    writer->destination_since = from;
    /* In the header of the segment that this start has begun, so that later starts know it too. A disk
     * that had no room for one makes it the next start's work again. */
    if (writer->fd < 0)
        return until - from;
    last->header.destination_since = from;
    if (segment_write_header(writer->fd, &last->header, &err) < 0)
        spool_die(spool, err.text);
    if (spool->sync != SPOOL_SYNC_NONE && sys_fdatasync(writer->fd) < 0)
        spool_die(spool, "fdatasync");
    return until - from;
}
