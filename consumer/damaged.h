/* The spool's files NUMBER.damaged: put aside for people to look at, or the second name of a segment in use
 * that is to be put aside when it is freed (segment_mark_damaged). */
#ifndef CONSUMER_DAMAGED_H
#define CONSUMER_DAMAGED_H

#include "consumer/numbers.h"
#include "consumer/segment.h"

/* The segments in use, from first on, that have such a name: an earlier process found damage in them. */
void damaged_recognise(const struct numbers *damaged, struct segment *first);

/* Removes all but the newest few; those in use don't count. */
void damaged_prune(struct numbers *damaged, int dir, const struct segment *first);

#endif
