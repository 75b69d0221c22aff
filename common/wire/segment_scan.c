#include "common/wire/segment_scan.h"

void segment_scan_begin(struct segment_scan *scan, const struct segment_header *header,
                        struct bytes data)
{
    uint64_t first = header->first_sequence;
    uint64_t room = data.len / RECORD_HEAD_SIZE;

    *scan = (struct segment_scan){
        .data = data,
        .seed = record_seed(header->spool_id, header->run, header->number),
        .first_sequence = first,
        .next_sequence = first,
        .highest = first <= UINT64_MAX - 1 - room ? first + room : UINT64_MAX - 1,
        .at = SEGMENT_HEADER_SIZE,
    };
}

static struct bytes bytes_from(const struct segment_scan *scan, size_t at)
{
    return at < scan->data.len ? (struct bytes){scan->data.data + at, scan->data.len - at}
                               : BYTES_NONE;
}

static enum segment_found end(const struct segment_scan *scan, struct segment_item *item)
{
    struct bytes rest = bytes_from(scan, scan->at);
    struct record record;
    uint64_t size = 0;

    item->torn = rest.len >= RECORD_HEAD_SIZE &&
                 (record_read(&record, &size, rest, scan->seed) == RECORD_CUT || size > 0);
    return SEGMENT_END;
}

enum segment_found segment_scan_next(struct segment_scan *scan, struct segment_item *item)
{
    *item = (struct segment_item){.offset = scan->at};
    if (scan->at >= scan->data.len)
        return end(scan, item);
    size_t at = record_find(scan->data, scan->at, scan->seed, scan->next_sequence, scan->highest);
    uint64_t size = 0;
    if (at >= scan->data.len ||
        record_read(&item->record, &size, bytes_from(scan, at), scan->seed) != RECORD_GOOD)
        return end(scan, item);
    item->missing = item->record.sequence - scan->next_sequence;
    if (at > scan->at || item->missing > 0) {
        item->len = at - scan->at;
        scan->at = at;
        scan->next_sequence = item->record.sequence;
        scan->missing += item->missing;
        return SEGMENT_DAMAGE;
    }
    item->len = (size_t)size;
    scan->at = at + item->len;
    scan->messages += item->record.type == RECORD_MESSAGE;
    scan->next_sequence += item->record.type == RECORD_MESSAGE;
    return SEGMENT_RECORD;
}
