/* Texts about OpenSSL's certificates and errors. */
#ifndef COMMON_CLIENT_TLS_H
#define COMMON_CLIENT_TLS_H

#include "common/base/buf.h"

struct x509_st; /* OpenSSL's X509 */

/* The first error in OpenSSL's queue of this thread, which is the cause of the others. */
const char *tls_reason(void);
/* A pem_password_cb, whose last argument is the passphrase; NULL: there is none. */
int tls_give_passphrase(char *out, int size, int writing, void *passphrase);
/* Appends the certificate's names, "DNS:redis.example.org, IP Address:10.0.0.1", or its subject. */
void tls_append_names(struct buf *out, struct x509_st *certificate);

/* When the file's certificates expire, in seconds since 1970; -1 if the file can't be read or has none. That is the
 * first certificate's end, our own. Of a file with authorities it is the latest end, after which nothing is trusted. */
double tls_file_expiry(const char *path, bool authorities);

#endif
