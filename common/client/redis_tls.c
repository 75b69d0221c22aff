#include "common/client/redis_tls.h"

#include "common/client/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

/* Of the names in a certificate, for an error's text. */
#define NAMES_MAX 80

static int fail_file(struct error *err, const char *option, const char *file, const char *must)
{
    int result = error_set(err, ERR_REFUSED, "TLS: ssl[%s] %s: %s; it must hold %s", option, file,
                           tls_reason(), must);

    ERR_clear_error();
    return result;
}

static int load_authorities(const struct dsn_redis *dsn, SSL_CTX *context, struct error *err)
{
    const char *file = dsn->tls_ca_file, *path = dsn->tls_ca_path;

    if (file == NULL && path == NULL)
        SSL_CTX_set_default_verify_paths(context);
    else if (SSL_CTX_load_verify_locations(context, file, path) != 1)
        return fail_file(err, file != NULL ? "cafile" : "capath", file != NULL ? file : path,
                         "certificates (PEM)");
    return 0;
}

static int load_our_certificate(const struct dsn_redis *dsn, SSL_CTX *context, struct error *err)
{
    const char *certificate = dsn->tls_cert_file;
    const char *key = dsn->tls_key_file != NULL ? dsn->tls_key_file : certificate;

    if (certificate == NULL)
        return 0;
    if (SSL_CTX_use_certificate_chain_file(context, certificate) != 1)
        return fail_file(err, "local_cert", certificate, "our certificate (PEM)");
    SSL_CTX_set_default_passwd_cb(context, tls_give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, dsn->tls_passphrase);
    if (SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)
        return fail_file(err, key == certificate ? "local_cert" : "local_pk", key,
                         "the private key of ssl[local_cert], ssl[passphrase] its passphrase");
    return 0;
}

/* With allow_self_signed such a certificate is as good as a trusted one, as PHP has it. */
static int verify(int good, X509_STORE_CTX *store)
{
    const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    const struct dsn_redis *dsn = SSL_get_app_data(ssl);

    if (!good && dsn->tls_allow_self_signed &&
        X509_STORE_CTX_get_error(store) == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT) {
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    }
    return good;
}

static const char *name_of_peer(const struct dsn_redis *dsn, const char *host)
{
    return dsn->tls_peer_name != NULL ? dsn->tls_peer_name : host;
}

static bool is_address(const char *name)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(name);

    ASN1_OCTET_STRING_free(address);
    return address != NULL;
}

int redis_tls_new(struct ssl_st **ssl, const struct dsn_redis *dsn, const char *host, int fd,
                  struct error *err)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (context == NULL)
        return error_set(err, ERR_REFUSED, "TLS: %s", tls_reason());
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF
    /* A server that ends says no good-bye. No answer can be cut short so: RESP says how long each is. */
    SSL_CTX_set_options(context, SSL_OP_IGNORE_UNEXPECTED_EOF);
#endif
    int result = load_authorities(dsn, context, err);
    if (result == 0)
        result = load_our_certificate(dsn, context, err);
    *ssl = result == 0 ? SSL_new(context) : NULL;
    SSL_CTX_free(context); /* ssl has its own reference */
    if (result < 0)
        return result;
    if (*ssl == NULL || SSL_set_fd(*ssl, fd) != 1)
        return error_set(err, ERR_REFUSED, "TLS: %s", tls_reason());
    SSL_set_app_data(*ssl, (void *)(uintptr_t)dsn);
    SSL_set_verify(*ssl, dsn->tls_verify_peer ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, verify);
    if (dsn->tls_sni && !is_address(name_of_peer(dsn, host)))
        SSL_set_tlsext_host_name(*ssl, name_of_peer(dsn, host));
    SSL_set_connect_state(*ssl);
    ERR_clear_error();
    return 0;
}

int redis_tls_check_name(struct ssl_st *ssl, const struct dsn_redis *dsn, const char *host,
                         struct error *err)
{
    const char *name = name_of_peer(dsn, host);
    struct buf names = {0};
    int result = 0;

    if (!dsn->tls_verify_peer || !dsn->tls_verify_name)
        return 0;
    X509 *certificate = SSL_get_peer_certificate(ssl);
    if (certificate == NULL)
        return error_set(err, ERR_REFUSED, "TLS: the server has no certificate");
    if (X509_check_host(certificate, name, 0, 0, NULL) != 1 &&
        X509_check_ip_asc(certificate, name, 0) != 1) {
        tls_append_names(&names, certificate);
        result = error_set(err, ERR_REFUSED,
                           "TLS: the server's certificate is not for %s, but for %.*s; name the "
                           "server so, or give ssl[peer_name]",
                           name, NAMES_MAX, buf_text(&names));
        buf_free(&names);
    }
    X509_free(certificate);
    return result;
}

static int explain_certificate(const struct dsn_redis *dsn, long fault, struct error *err)
{
    const char *words = X509_verify_cert_error_string(fault);
    const char *authority = dsn->tls_ca_file != NULL ? dsn->tls_ca_file : dsn->tls_ca_path;

    if (fault == X509_V_ERR_CERT_HAS_EXPIRED || fault == X509_V_ERR_CERT_NOT_YET_VALID)
        return error_set(err, ERR_REFUSED,
                         "TLS: the server's %s; renew it, or set this machine's clock", words);
    return error_set(err, ERR_REFUSED,
                     "TLS: the server's certificate is not trusted (%s); ssl[cafile] must hold the "
                     "authority that signed it, and is %s",
                     words, authority != NULL ? authority : "not given: the system's authorities");
}

/* The server's alert is about our certificate. */
static bool is_about_ours(const char *text)
{
    return strstr(text, "alert") != NULL &&
           (strstr(text, "certificate") != NULL || strstr(text, "unknown ca") != NULL ||
            strstr(text, "handshake failure") != NULL || strstr(text, "access denied") != NULL);
}

static int explain_reason(const struct dsn_redis *dsn, struct error *err)
{
    const char *text = tls_reason();

    if (strstr(text, "wrong version number") != NULL ||
        strstr(text, "packet length too long") != NULL)
        return error_set(
            err, ERR_REFUSED,
            "TLS: there is none on that port; write redis://, or the port that has it");
    if (is_about_ours(text) && dsn->tls_cert_file == NULL)
        return error_set(err, ERR_REFUSED,
                         "TLS: the server wants a certificate of ours (%s); give it with "
                         "ssl[local_cert] and ssl[local_pk]",
                         text);
    if (is_about_ours(text))
        return error_set(err, ERR_REFUSED,
                         "TLS: the server does not take our certificate (%s); see ssl[local_cert], "
                         "which is %s",
                         text, dsn->tls_cert_file);
    return error_set(err, ERR_UNREACHABLE, "TLS: %s", text);
}

int redis_tls_explain(struct ssl_st *ssl, const struct dsn_redis *dsn, int saved_errno,
                      struct error *err)
{
    long fault = SSL_get_verify_result(ssl);
    bool shaken = SSL_is_init_finished(ssl);
    int result;

    if (!shaken && fault != X509_V_OK && dsn->tls_verify_peer)
        result = explain_certificate(dsn, fault, err);
    else if (ERR_peek_error() != 0)
        result = explain_reason(dsn, err);
    else if (saved_errno != 0)
        result = error_set(err, ERR_UNREACHABLE, "%s", strerror(saved_errno));
    else if (!shaken)
        result = error_set(err, ERR_UNREACHABLE,
                           "TLS: the server ends the connection in the handshake; is there TLS on "
                           "that port? redis:// has none");
    else
        result = error_set(err, ERR_UNREACHABLE, "the server closed the connection");
    ERR_clear_error();
    return result;
}
