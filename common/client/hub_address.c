#include "common/client/hub_address.h"

#include "common/base/alloc.h"
#include "common/base/buf.h"
#include "common/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Sooner than libcurl forgets what it was given (after 60 s), so that it knows while there is traffic. */
#define RENEW_MS 30000

void hub_address_init(struct hub_address *address, CURLU *url)
{
    char *host = NULL;

    *address = (struct hub_address){.asked_ms = -1};
    if (curl_url_get(url, CURLUPART_HOST, &host, CURLU_PUNYCODE) != CURLUE_OK ||
        curl_url_get(url, CURLUPART_PORT, &address->port, CURLU_DEFAULT_PORT) != CURLUE_OK ||
        host[0] == '[' || resolve_is_numeric(host)) {
        curl_free(host);
        return;
    }
    address->host = host;
    address->resolve = resolve_new(host);
}

void hub_address_free(struct hub_address *address)
{
    resolve_free(address->resolve);
    curl_free(address->host);
    curl_free(address->port);
    free(address->entry);
    *address = (struct hub_address){.asked_ms = -1};
}

/* "+host:port:address,[address]"; with the plus it is forgotten like what libcurl found itself. NULL if
 * there is no address that may stand there: libcurl takes none with an %interface. */
static char *make_entry(const struct hub_address *address, const struct resolve_answer *answer)
{
    struct buf list = {0};
    char *entry = NULL;

    for (size_t i = 0; i < answer->len; i++) {
        bool with_colon = strchr(answer->address[i], ':') != NULL;

        if (strchr(answer->address[i], '%') != NULL)
            continue;
        buf_append(&list, bytes_of(list.len > 0 ? "," : ""));
        buf_append(&list, bytes_of(with_colon ? "[" : ""));
        buf_append(&list, bytes_of(answer->address[i]));
        buf_append(&list, bytes_of(with_colon ? "]" : ""));
    }
    if (list.len > 0)
        entry = xasprintf("+%s:%s:%.*s", address->host, address->port, BYTES_ARG(buf_bytes(&list)));
    buf_free(&list);
    return entry;
}

static void take(struct hub_address *address)
{
    struct resolve_answer answer;

    if (!resolve_take(address->resolve, &answer))
        return;
    char *entry = make_entry(address, &answer);
    if (entry == NULL)
        return;
    free(address->entry);
    address->entry = entry;
    address->turn++;
}

static void ask(struct hub_address *address)
{
    take(address); /* an answer that came late is one, too */
    resolve_ask(address->resolve);
    address->asked_ms = clock_monotonic_ms();
}

void hub_address_give(struct hub_address *address, CURL *easy, struct hub_address_given *given)
{
    if (address->resolve == NULL)
        return;
    take(address);
    if (address->asked_ms < 0 || clock_monotonic_ms() - address->asked_ms >= RENEW_MS)
        ask(address);
    if (given->turn == address->turn)
        return;
    curl_slist_free_all(given->list);
    given->list = curl_slist_append(NULL, address->entry);
    given->turn = address->turn;
    curl_easy_setopt(easy, CURLOPT_RESOLVE, given->list);
}

void hub_address_failed(struct hub_address *address)
{
    if (address->resolve != NULL)
        ask(address);
}
