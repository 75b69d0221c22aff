/* The spool of the same client id that received before this one, at another destination. What the broker may
 * send again belongs to its session, and so does the order of messages: both go on over a change of the DSN.
 * The new spool has the predecessor's spool id and a mark of its own, its sequences lie above, and it
 * remembers what the predecessor remembers. See docs/SPOOL.md, "Destination". */
#ifndef CONSUMER_SPOOL_PREDECESSOR_H
#define CONSUMER_SPOOL_PREDECESSOR_H

#include "consumer/spool/spool.h"

/* While `spool` is being opened, before it begins its first segment. 1: something was taken over; 0: there is
 * none; -ERR_LOCKED: it is in use still. */
MUST_CHECK int predecessor_take_over(struct spool *spool, const struct spool_options *options,
                                     struct error *err);
/* From now on the spool in dir is the one that receives. */
void predecessor_note(const char *dir);
/* The folder of the spool that the one in dir would take over from; NULL: there is none. To be freed. */
char *predecessor_find(const char *dir);

#endif
