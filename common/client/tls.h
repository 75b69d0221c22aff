/* What OpenSSL knows of a certificate and of a fault, in words. */
#ifndef COMMON_CLIENT_TLS_H
#define COMMON_CLIENT_TLS_H

#include "common/base/buf.h"

struct x509_st; /* OpenSSL's X509 */

/* OpenSSL's first complaint of this thread, which is the cause of the others. */
const char *tls_reason(void);
/* A pem_password_cb, whose last argument is the passphrase; NULL: there is none. */
int tls_give_passphrase(char *out, int size, int writing, void *passphrase);
/* "DNS:redis.example.org, IP Address:10.0.0.1", or its subject. */
void tls_append_names(struct buf *out, struct x509_st *certificate);

/* Of a file with our own certificate, which stands first: its end. Of one with authorities: the last one's end,
 * after which nothing is trusted. Seconds since 1970; -1 if the file can't be read or holds none. */
double tls_file_expiry(const char *path, bool authorities);

#endif
