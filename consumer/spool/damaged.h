/* The spool's files NUMBER.damaged: put aside for people to look at, or the second name of a segment in use
 * that is to be put aside when it is freed (segment_mark_damaged). */
#ifndef CONSUMER_SPOOL_DAMAGED_H
#define CONSUMER_SPOOL_DAMAGED_H

#include "consumer/spool/segment.h"
#include "consumer/spool/u64_set.h"

/* The segments in use, from first on, that have such a name: an earlier process found damage in them. */
void damaged_recognise(const struct u64_set *damaged, struct segment *first);

/* Removes all but the newest few; those in use don't count. */
void damaged_prune(struct u64_set *damaged, int dir, const struct segment *first);

#endif
