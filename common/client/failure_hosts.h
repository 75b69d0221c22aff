/* Which addresses libpq shall connect to: it would look the names up itself, and block. Used by failure_pg.
 * One thread.
 *
 * libpq gets `hostaddr` beside `host`, and so certificates and .pgpass are still compared with the name. A
 * name with several addresses becomes several hosts, which libpq tries in turn, as it would do with the
 * addresses itself. */
#ifndef COMMON_CLIENT_FAILURE_HOSTS_H
#define COMMON_CLIENT_FAILURE_HOSTS_H

#include <postgresql/libpq-fe.h>
#include <stdbool.h>

struct failure_hosts;

/* conninfo: one that PQconninfoParse takes. Its host, hostaddr and port are copied. */
struct failure_hosts *failure_hosts_new(const char *conninfo);
void failure_hosts_free(struct failure_hosts *hosts); /* does not wait for look-ups */

/* All names at once. */
void failure_hosts_ask(struct failure_hosts *hosts);
/* Takes what has come. True: nothing is waited for any more. */
bool failure_hosts_process(struct failure_hosts *hosts);
int failure_hosts_fd(const struct failure_hosts *hosts); /* POLLIN; -1: nothing is waited for */

/* PQconnectStart to what is known by now. NULL: no host has an address, and why says so. */
PGconn *failure_hosts_connect(const struct failure_hosts *hosts, const char *conninfo,
                              char why[200]);
/* The next attempt begins with the next address, be it the same host's or another's: libpq goes on by itself
 * from one that refuses, but not from one that accepts and says nothing. */
void failure_hosts_rotate(struct failure_hosts *hosts);

#endif
