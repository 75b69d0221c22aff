/* When the certificates that the settings name expire, for the metrics. */
#ifndef MONITOR_CERTIFICATES_H
#define MONITOR_CERTIFICATES_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

/* Of a file with our own certificate, which stands first: its end. Of one with authorities: the last one's end,
 * after which nothing is trusted. Seconds since 1970; -1 if the file can't be read or holds none. */
double certificates_expiry(const char *path, bool authorities);

typedef void certificates_found(void *context, const char *name, double expiry_s);

/* Calls back for each file that the settings name and that can be read, as "mqtt cert_file", or an
 * option of a DSN, as "transport:async ssl[cafile]". Under the supervisor a monitor knows those that it reads: of
 * [mqtt], [mercure], the first transport and the failure transport. */
void certificates_each(const struct settings *settings, certificates_found *found, void *context);

#endif
