/* The verb failed handles the failure transport without PHP. This file checks the command line.
 * verb_failed_read.c reads messages, and verb_failed_act.c changes them. */
#include "cli/verb_failed.h"

#include "cli/verbs.h"
#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/wire/topic.h"

#include <stdlib.h>
#include <string.h>

#define LIST_LIMIT 50
#define RATE_MAX   1000000

/* The actions. The options of an action, and whether it takes an ID, are in the verb's row in
 * verbs.c. */
static const struct action {
    const char *name;
    int (*run)(const struct cli *cli, struct failure_admin *admin,
               const struct verb_failed_wanted *wanted);
    enum { OF_NONE, OF_ONE, OF_WHICH } of; /* the messages it takes; OF_WHICH: ids, or --all */
} ACTIONS[] = {
    {"list", verb_failed_list, OF_NONE},      {"show", verb_failed_show, OF_ONE},
    {"stats", verb_failed_stats, OF_NONE},    {"retry", verb_failed_retry, OF_WHICH},
    {"remove", verb_failed_remove, OF_WHICH},
};
#define ACTIONS_LEN LENGTH_OF(ACTIONS)

/* Finds the row of an action. The command line has been checked, so the action exists. */
static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < ACTIONS_LEN; i++)
        if (strcmp(ACTIONS[i].name, name) == 0)
            return &ACTIONS[i];
    abort();
}

static int read_number(const struct cli *cli, const char *option, uint64_t least, uint64_t most,
                       int64_t *number)
{
    const char *text = cli_option(cli, option);
    uint64_t value;

    if (text == NULL)
        return CLI_DONE;
    if (!bytes_to_u64(bytes_of(text), &value) || value < least || value > most)
        return cli_fail(CLI_USAGE, "failed: --%s takes a number from %llu to %llu, not `%s`",
                        option, (unsigned long long)least, (unsigned long long)most, text);
    *number = (int64_t)value;
    return CLI_DONE;
}

static int read_moment(const struct cli *cli, const char *option, int64_t *us)
{
    const char *text = cli_option(cli, option);
    struct error err;

    if (text == NULL || clock_parse(bytes_of(text), clock_wall_us(), us, &err) == 0)
        return CLI_DONE;
    return cli_fail(CLI_USAGE, "failed: --%s: %s", option, err.text);
}

static int read_filters(const struct cli *cli, struct verb_failed_wanted *wanted)
{
    struct error err;

    wanted->class = cli_option(cli, "class-filter");
    wanted->topic = cli_option(cli, "topic");
    wanted->transport = cli_option(cli, "transport");
    wanted->all = cli_option(cli, "all") != NULL;
    wanted->taken_too = cli_option(cli, "taken") != NULL;
    if (wanted->topic != NULL && topic_filter_check(bytes_of(wanted->topic), &err) < 0)
        return cli_fail(CLI_USAGE, "failed: --topic: %s", err.text);
    if (read_moment(cli, "since", &wanted->since_us) != CLI_DONE ||
        read_moment(cli, "until", &wanted->until_us) != CLI_DONE ||
        read_number(cli, "limit", 0, INT64_MAX, &wanted->limit) != CLI_DONE ||
        read_number(cli, "rate", 1, RATE_MAX, &wanted->rate) != CLI_DONE)
        return CLI_USAGE;
    if (wanted->since_us > 0 && wanted->until_us > 0 && wanted->since_us >= wanted->until_us)
        return cli_fail(CLI_USAGE,
                        "failed: --since %s is not before --until %s: nothing lies between",
                        cli_option(cli, "since"), cli_option(cli, "until"));
    return CLI_DONE;
}

static bool has_filter(const struct cli *cli)
{
    static const char *const FILTERS[] = {"class-filter", "topic", "since", "until", "limit"};

    for (size_t i = 0; i < LENGTH_OF(FILTERS); i++)
        if (cli_option(cli, FILTERS[i]) != NULL)
            return true;
    return false;
}

static int check_which(const struct cli *cli, const struct action *action,
                       const struct verb_failed_wanted *wanted)
{
    if (action->of == OF_NONE)
        return CLI_DONE;
    if (action->of == OF_ONE)
        return wanted->ids_len == 1 ? CLI_DONE
                                    : cli_fail(CLI_USAGE, "failed show takes one ID; `mqtt-bridge "
                                                          "failed list` lists them");
    if (wanted->all == (wanted->ids_len > 0))
        return cli_fail(CLI_USAGE,
                        "failed %s: say which: ID..., or --all (of what --topic, --since and the "
                        "other filters leave)",
                        action->name);
    if (wanted->ids_len > 0 && has_filter(cli))
        return cli_fail(CLI_USAGE, "failed %s: filters go with --all, not with ID", action->name);
    return CLI_DONE;
}

static int check_ids(const struct failure_admin *admin, const struct verb_failed_wanted *wanted)
{
    for (size_t i = 0; i < wanted->ids_len; i++)
        if (!admin->store->is_id(wanted->ids[i]))
            return cli_fail(CLI_USAGE,
                            "failed: `%.*s` is no message's id, which is a number (of a stream "
                            "in Redis two with a dash: 1764467168000-0); `mqtt-bridge "
                            "failed list` lists them",
                            BYTES_ARG(wanted->ids[i]));
    return CLI_DONE;
}

static int run(const struct cli *cli, const struct action *action, const struct settings *settings,
               const struct verb_failed_wanted *wanted)
{
    struct failure_admin *admin;
    struct error err;

    if (failure_admin_new(&admin, &settings->failure, &err) < 0)
        return cli_fail(CLI_USAGE, "%s", err.text);
    int code = check_ids(admin, wanted);
    if (code == CLI_DONE)
        code = action->run(cli, admin, wanted);
    failure_admin_free(admin);
    return code;
}

int verb_failed(struct cli *cli)
{
    const struct action *action =
        cli->arguments_len > 0 ? find_action(cli->arguments[0]) : &ACTIONS[0];
    struct verb_failed_wanted wanted = {0};

    if (action->run == verb_failed_list)
        wanted.limit = LIST_LIMIT;
    struct bytes *ids = xcalloc(cli->arguments_len + 1, sizeof(*ids));
    for (size_t i = 1; i < cli->arguments_len; i++)
        ids[wanted.ids_len++] = bytes_of(cli->arguments[i]);
    wanted.ids = ids;
    int code = read_filters(cli, &wanted);
    if (code == CLI_DONE)
        code = check_which(cli, action, &wanted);
    if (code == CLI_DONE) {
        const struct settings *settings = cli_settings(cli);

        code = settings != NULL ? run(cli, action, settings, &wanted) : CLI_USAGE;
    }
    free(ids);
    return code;
}
