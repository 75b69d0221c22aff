/* What the mark in Redis meant for the spool, told to the operator. */
#ifndef CONSUMER_REWOUND_H
#define CONSUMER_REWOUND_H

#include "consumer/spool.h"

/* place: which Redis. */
void rewound_report(const struct spool_rewound *rewound, struct bytes mark, const char *place);

#endif
