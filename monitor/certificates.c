#include "monitor/certificates.h"

#include "common/base/file.h"
#include "common/settings/settings_table.h"
#include "common/wire/dsn.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

#define FILE_MAX (1 << 20)

static double end_of(const X509 *certificate)
{
    struct tm end = {0};

    return ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1 ? (double)timegm(&end) : -1;
}

static double read_expiry(BIO *pem, bool authorities)
{
    double expiry = -1;
    X509 *certificate;

    while ((certificate = PEM_read_bio_X509(pem, NULL, NULL, NULL)) != NULL) {
        double end = end_of(certificate);

        expiry = end > expiry ? end : expiry;
        X509_free(certificate);
        if (!authorities)
            break;
    }
    ERR_clear_error();
    return expiry;
}

double certificates_expiry(const char *path, bool authorities)
{
    struct buf content = {0};
    struct error ignored; /* who needs the file says it */
    double expiry = -1;

    if (file_read(path, FILE_MAX, &content, &ignored) == 0 && content.len > 0) {
        BIO *pem = BIO_new_mem_buf(content.data, (int)content.len);

        if (pem != NULL)
            expiry = read_expiry(pem, authorities);
        BIO_free(pem);
    }
    buf_free(&content);
    return expiry;
}

struct search {
    certificates_found *found;
    void *context;
    const struct setting_view *view;
};

/* key: as the setting or the DSN's option has it. */
static void tell(const struct search *search, const char *key, const char *path, bool authorities)
{
    double expiry = path != NULL && path[0] != '\0' ? certificates_expiry(path, authorities) : -1;
    struct buf name = {0};

    if (expiry < 0)
        return;
    setting_view_title(search->view, &name);
    buf_printf(&name, " %s", key);
    search->found(search->context, buf_text(&name), expiry);
    buf_free(&name);
}

static void search_redis(const struct search *search, const char *text)
{
    struct dsn_redis dsn;
    struct error ignored;

    if (dsn_redis_parse(&dsn, text, &ignored) < 0)
        return;
    if (dsn.tls) {
        tell(search, "ssl[cafile]", dsn.tls_ca_file, true);
        tell(search, "ssl[local_cert]", dsn.tls_cert_file, false);
    }
    dsn_redis_free(&dsn);
}

static void search_row(const struct search *search, const struct setting *row)
{
    bool is_dsn = strcmp(row->key, "dsn") == 0;
    bool authorities = strcmp(row->key, "ca_file") == 0;

    if (!is_dsn && !authorities && strcmp(row->key, "cert_file") != 0)
        return;
    const char *text = *setting_text(row, search->view->base);
    if (!is_dsn)
        tell(search, row->key, text, authorities);
    else if (text != NULL && dsn_is_redis(text))
        search_redis(search, text);
}

void certificates_each(const struct settings *settings, certificates_found *found, void *context)
{
    for (size_t i = 0; i < settings_views_len(settings); i++) {
        const struct setting_view view = settings_view(settings, i);
        const struct search search = {found, context, &view};

        for (size_t k = 0; k < SETTINGS_TABLE_LEN; k++)
            if (SETTINGS_TABLE[k].section == view.section)
                search_row(&search, &SETTINGS_TABLE[k]);
    }
}
