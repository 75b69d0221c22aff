#include "common/client/tls.h"

#include "common/base/file.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define FILE_MAX (1 << 20)

const char *tls_reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text =
        ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);

    return code != 0 && text != NULL ? text : "no reason is known";
}

int tls_give_passphrase(char *out, int size, int writing, void *passphrase)
{
    size_t len = passphrase != NULL ? strlen(passphrase) : 0;

    (void)writing;
    if (len > (size_t)size)
        return -1;
    if (len > 0)
        memcpy(out, passphrase, len);
    return (int)len;
}

void tls_append_names(struct buf *out, X509 *certificate)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    BIO *text = BIO_new(BIO_s_mem());
    char *data;

    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        BIO_puts(text, i > 0 ? ", " : "");
        GENERAL_NAME_print(text, sk_GENERAL_NAME_value(names, i));
    }
    if (names == NULL)
        X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_ONELINE);
    long len = BIO_get_mem_data(text, &data);
    buf_append(out, (struct bytes){data, len > 0 ? (size_t)len : 0});
    BIO_free(text);
    GENERAL_NAMES_free(names);
}

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

double tls_file_expiry(const char *path, bool authorities)
{
    struct buf content = {0};
    struct error ignored; /* the program that needs the file reports */
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
