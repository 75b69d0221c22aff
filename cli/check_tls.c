#include "cli/check_tls.h"

#include "common/base/clock.h"
#include "common/client/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <string.h>

/* With TLS 1.3 a broker that misses our certificate says so only after the handshake. */
#define ALERT_WAIT_MS 1000

static bool fault(struct buf *why, const char *key, const char *file, const char *hint)
{
    buf_printf(why, "%s %s: %s%s", key, file, tls_reason(), hint);
    ERR_clear_error();
    return false;
}

static bool load_files(const struct settings_mqtt *mqtt, SSL_CTX *context, struct buf *why)
{
    if (!mqtt->ca_file[0])
        SSL_CTX_set_default_verify_paths(context);
    else if (SSL_CTX_load_verify_locations(context, mqtt->ca_file, NULL) != 1)
        return fault(why, "ca_file", mqtt->ca_file, "; it must hold certificates (PEM)");
    if (!mqtt->cert_file[0])
        return true;
    if (SSL_CTX_use_certificate_chain_file(context, mqtt->cert_file) != 1)
        return fault(why, "cert_file", mqtt->cert_file, "; it must hold our certificate (PEM)");
    SSL_CTX_set_default_passwd_cb(context, tls_give_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, mqtt->key_password);
    if (SSL_CTX_use_PrivateKey_file(context, mqtt->key_file, SSL_FILETYPE_PEM) != 1) {
        return fault(why, "key_file", mqtt->key_file,
                     "; it must hold the private key of cert_file (PEM), and key_password "
                     "(MQTT_KEY_PASSWORD) its password, if it has one");
    }
    return true;
}

static SSL_CTX *make_context(const struct settings_mqtt *mqtt, struct buf *why)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) {
        fault(why, "TLS", "", "");
    } else if (!load_files(mqtt, context, why)) {
        SSL_CTX_free(context);
        context = NULL;
    }
    return context;
}

bool check_tls_files(const struct settings_mqtt *mqtt, struct buf *why)
{
    SSL_CTX *context = make_context(mqtt, why);

    SSL_CTX_free(context);
    return context != NULL;
}

/* Waits for what a call of the library wants; false if that is nothing, or time is up. */
static bool wait_for(SSL *ssl, int result, int64_t deadline_ms)
{
    int wants = SSL_get_error(ssl, result);
    struct pollfd waiting = {.fd = SSL_get_fd(ssl),
                             .events = wants == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN};

    if (wants != SSL_ERROR_WANT_READ && wants != SSL_ERROR_WANT_WRITE)
        return false;
    return poll(&waiting, 1, clock_poll_timeout(deadline_ms, clock_monotonic_ms())) > 0;
}

static void say_handshake(const struct settings_mqtt *mqtt, struct buf *why)
{
    const char *text = tls_reason();
    bool ended = ERR_peek_error() == 0 || strstr(text, "unexpected eof");
    bool no_tls = strstr(text, "wrong version number") || strstr(text, "packet length too long");

    buf_printf(why, "TLS: %s", ended ? "the connection ends in the handshake" : text);
    if (ended || no_tls) {
        buf_append_text(why, "; is there no TLS on that port? See [mqtt] tls and port (MQTT_TLS, "
                             "MQTT_PORT)");
    } else if (strstr(text, "alert") && !mqtt->cert_file[0]) {
        buf_append_text(why, "; the broker wants a certificate of ours: give it in cert_file and "
                             "key_file");
    } else if (strstr(text, "alert")) {
        buf_append_text(why, "; does the broker take our certificate? See cert_file and key_file");
    }
    ERR_clear_error();
}

static bool judge_certificate(const struct settings_mqtt *mqtt, const char *host, SSL *ssl,
                              struct buf *why)
{
    long result = SSL_get_verify_result(ssl);
    X509 *certificate = SSL_get_peer_certificate(ssl);
    bool good = false;

    if (!certificate) {
        buf_append_text(why, "TLS: the broker has no certificate");
    } else if (result == X509_V_ERR_CERT_HAS_EXPIRED || result == X509_V_ERR_CERT_NOT_YET_VALID) {
        buf_printf(why, "TLS: %s; renew the broker's, or set this machine's clock",
                   X509_verify_cert_error_string(result));
    } else if (result != X509_V_OK) {
        buf_printf(why,
                   "TLS: the broker's certificate is not trusted (%s); [mqtt] ca_file must hold "
                   "the authority that signed it; it is %s",
                   X509_verify_cert_error_string(result),
                   mqtt->ca_file[0] ? mqtt->ca_file : "empty: the system's authorities");
    } else if (X509_check_host(certificate, host, 0, 0, NULL) != 1 &&
               X509_check_ip_asc(certificate, host, 0) != 1) {
        buf_printf(why, "TLS: the broker's certificate is not for %s, but for ", host);
        tls_append_names(why, certificate);
        buf_append_text(why, "; see [mqtt] host (MQTT_HOST)");
    } else {
        good = true;
    }
    X509_free(certificate);
    return good;
}

static bool shake_hands(const struct settings_mqtt *mqtt, const char *host, SSL *ssl,
                        int64_t deadline_ms, struct buf *why)
{
    char byte;
    int result;

    while ((result = SSL_connect(ssl)) != 1 && wait_for(ssl, result, deadline_ms)) {
    }
    if (result != 1) {
        say_handshake(mqtt, why);
        return false;
    }
    if (mqtt->tls_verify && !judge_certificate(mqtt, host, ssl, why))
        return false;
    deadline_ms = clock_monotonic_ms() + ALERT_WAIT_MS;
    while ((result = SSL_read(ssl, &byte, 1)) != 1 && wait_for(ssl, result, deadline_ms)) {
    }
    if (result != 1 && SSL_get_error(ssl, result) == SSL_ERROR_SSL) {
        say_handshake(mqtt, why);
        return false;
    }
    return true;
}

bool check_tls(const struct settings_mqtt *mqtt, const char *host, int fd, int64_t deadline_ms,
               struct buf *why)
{
    SSL_CTX *context = make_context(mqtt, why);
    SSL *ssl = context ? SSL_new(context) : NULL;
    bool good = false;

    if (ssl) {
        SSL_set_fd(ssl, fd);
        SSL_set_tlsext_host_name(ssl, host);
        good = shake_hands(mqtt, host, ssl, deadline_ms, why);
    }
    SSL_free(ssl);
    SSL_CTX_free(context);
    return good;
}
