#include "common/client/hub_probe.h"

#include "common/base/alloc.h"
#include "common/client/jwt.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int hub_probe_judge(long status, const char *url, struct error *err)
{
    switch (status) {
    case 400:
        return 0;
    case 401:
    case 403:
        return error_set(
            err, ERR_REFUSED,
            "%s: the hub answers %ld: it does not take the token; is MERCURE_JWT_SECRET "
            "(or MERCURE_JWT) its publisher key?",
            url, status);
    case 404:
    case 405:
        return error_set(err, ERR_REFUSED, "%s: answers %ld: no hub there; is MERCURE_URL right?",
                         url, status);
    }
    if (status == 408 || status == 429 || status >= 500)
        return error_set(err, ERR_UNREACHABLE, "%s: answers %ld", url, status);
    return error_set(err, ERR_REFUSED, "%s: answers %ld, as no hub does; is MERCURE_URL right?",
                     url, status);
}

static size_t drop_body(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

static struct curl_slist *authorization(const struct settings_mercure *settings, struct error *err)
{
    struct jwt *jwt = NULL;
    struct curl_slist *headers = NULL;

    if (jwt_new(&jwt, settings, err) < 0)
        return NULL;
    const char *token = jwt_token(jwt, time(NULL), err);
    if (token != NULL) {
        char *line = xasprintf("Authorization: Bearer %s", token);
        headers = curl_slist_append(NULL, line);
        free(line);
    }
    jwt_free(jwt);
    return headers;
}

static void prepare(CURL *curl, const struct settings_mercure *settings, int64_t timeout_ms,
                    const struct curl_slist *headers)
{
    curl_easy_setopt(curl, CURLOPT_URL, settings->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop_body);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    /* A look-up that was given up is not waited for. */
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1L);
    if (settings->ca_file[0] != '\0')
        curl_easy_setopt(curl, CURLOPT_CAINFO, settings->ca_file);
}

int hub_reachable(const struct settings_mercure *settings, int64_t timeout_ms, struct error *err)
{
    struct error why = {0};
    char detail[CURL_ERROR_SIZE] = "";
    long status = 0;
    int result;

    struct curl_slist *headers = authorization(settings, &why);
    if (headers == NULL)
        return error_set(err, why.code, "%s", why.text);
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        abort();
    prepare(curl, settings, timeout_ms, headers);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail);
    CURLcode code = curl_easy_perform(curl);
    if (code == CURLE_OK) {
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        result = hub_probe_judge(status, settings->url, err);
    } else {
        result = error_set(err, ERR_UNREACHABLE, "%s: %s", settings->url,
                           detail[0] != '\0' ? detail : curl_easy_strerror(code));
    }
    curl_easy_cleanup(curl);
    curl_slist_free_all(headers);
    return result;
}
