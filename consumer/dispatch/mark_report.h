/* What the mark in Redis meant for the spool, told to the operator. */
#ifndef CONSUMER_DISPATCH_MARK_REPORT_H
#define CONSUMER_DISPATCH_MARK_REPORT_H

#include "consumer/spool/spool.h"

/* place: which Redis. */
void mark_report(const struct mark_result *rewound, struct bytes mark, const char *place);

#endif
