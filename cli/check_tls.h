/* Why a TLS connection to a broker does not come about. The MQTT library only tells that it doesn't; here its
 * handshake is made once more, with the same files, and each thing that it could end for is looked at. Nothing
 * is sent after the handshake: no user, no password. */
#ifndef CLI_CHECK_TLS_H
#define CLI_CHECK_TLS_H

#include "common/base/buf.h"
#include "common/settings/settings.h"

/* Our own files, before there is a connection. True if they are good; else why says what and how to mend it. */
bool check_tls_files(const struct settings_mqtt *mqtt, struct buf *why);
/* fd: connected, non-blocking; host: a name or an address, for the certificate. True if nothing is wrong. */
bool check_tls(const struct settings_mqtt *mqtt, const char *host, int fd, int64_t deadline_ms,
               struct buf *why);

#endif
