/* Where records go that were stored under a former DSN. Pure. */
#ifndef CONSUMER_FORMER_H
#define CONSUMER_FORMER_H

/* A DSN for place ("redis://host:6379/messages", as dsn_redacted writes it), with the credentials and
 * options of the current one: all that is known. To be freed. */
char *former_dsn(const char *current, const char *place);

#endif
