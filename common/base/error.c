#include "common/base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct error *err, enum error_code code, const char *format, ...)
{
    va_list arguments;

    if (err == NULL)
        return -(int)code;
    err->code = code;
    va_start(arguments, format);
    vsnprintf(err->text, sizeof(err->text), format, arguments);
    va_end(arguments);
    return -(int)code;
}

int error_system(struct error *err, const char *format, ...)
{
    int saved = errno;
    va_list arguments;

    if (err == NULL)
        return -(int)ERR_SYSTEM;
    err->code = ERR_SYSTEM;
    va_start(arguments, format);
    vsnprintf(err->text, sizeof(err->text), format, arguments);
    va_end(arguments);
    size_t len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
    errno = saved;
    return -(int)ERR_SYSTEM;
}

int error_wrap(struct error *err, const char *format, ...)
{
    char inner[sizeof(err->text)];
    va_list arguments;

    memcpy(inner, err->text, sizeof(inner));
    va_start(arguments, format);
    vsnprintf(err->text, sizeof(err->text), format, arguments);
    va_end(arguments);
    size_t len = strlen(err->text);
    snprintf(err->text + len, sizeof(err->text) - len, ": %.*s", (int)sizeof(inner) - 1, inner);
    return -(int)err->code;
}
