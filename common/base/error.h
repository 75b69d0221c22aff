/* How a function fails: it returns a negative `enum error_code` and fills a `struct error`. The
 * text is one that a person can act on ("redis://redis:6379: WRONGPASS invalid username-password
 * pair").
 *
 *     if (settings_load(&settings, path, &err) < 0)
 *         return error_wrap(&err, "start");          ...or log err.text, in one place
 *
 * The text names the subject and, if there is one, the remedy. It never holds a secret. */
#ifndef COMMON_BASE_ERROR_H
#define COMMON_BASE_ERROR_H

#define MUST_CHECK __attribute__((warn_unused_result))

enum error_code {
    ERR_NONE = 0,
    ERR_SYSTEM,      /* a system call failed: the text ends in strerror's */
    ERR_USAGE,       /* a command line or setting is wrong */
    ERR_FORMAT,      /* bytes from outside are malformed */
    ERR_LOCKED,      /* another process has the lock */
    ERR_UNREACHABLE, /* a server does not answer: waiting may help */
    ERR_REFUSED,     /* a server refused: waiting does not help by itself */
    ERR_NOT_FOUND,
    ERR_TOO_LARGE,
    ERR_FULL,   /* no room: waiting may help */
    ERR_FENCED, /* another writer has changed the state: read it again */
};

struct error {
    enum error_code code;
    char text[256];
};

/* Fills err (NULL is allowed) and returns -code. Too long a text is cut. */
int error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* error_set with ERR_SYSTEM and ": <strerror(errno)>" behind the text. */
int error_system(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "<prefix>: " before err's text; returns -err->code. */
int error_wrap(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
