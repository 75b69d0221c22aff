/* What the actions of `mqtt-bridge failed` share: which messages are wanted. */
#ifndef CLI_VERB_FAILED_H
#define CLI_VERB_FAILED_H

#include "cli/cli.h"
#include "common/client/failure.h"
#include "common/wire/failed.h"

/* The options and arguments of the command line, checked. */
struct verb_failed_wanted {
    int64_t since_us;      /* 0: no limit */
    int64_t until_us;      /* 0: no limit */
    const char *class;     /* of the message; NULL: any */
    const char *topic;     /* an MQTT filter; NULL: any */
    const char *transport; /* retry: instead of the transport that it came from; or NULL */
    int64_t limit;         /* 0: none */
    int64_t rate;          /* retry: messages a second; 0: as fast as it goes */
    bool taken_too;
    bool all;
    const struct bytes *ids; /* checked ids; none: all messages, except for show */
    size_t ids_len;
};

/* True if the message matches class and topic. Messages without a topic match no filter. */
bool verb_failed_is_wanted(const struct verb_failed_wanted *wanted, const struct failed *failed);
/* True if verb_failed_is_wanted needs the bodies. */
bool verb_failed_needs_body(const struct verb_failed_wanted *wanted);

/* Each returns an enum cli_exit; errors were printed. */
int verb_failed_list(const struct cli *cli, struct failure_admin *admin,
                     const struct verb_failed_wanted *wanted);
int verb_failed_show(const struct cli *cli, struct failure_admin *admin,
                     const struct verb_failed_wanted *wanted);
int verb_failed_stats(const struct cli *cli, struct failure_admin *admin,
                      const struct verb_failed_wanted *wanted);
int verb_failed_retry(const struct cli *cli, struct failure_admin *admin,
                      const struct verb_failed_wanted *wanted);
int verb_failed_remove(const struct cli *cli, struct failure_admin *admin,
                       const struct verb_failed_wanted *wanted);

#endif
