#include "consumer/place.h"

#include "common/base/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

char *place_of_spool(const struct settings *settings, const char *client_id)
{
    struct buf path = {0};

    buf_printf(&path, "%s/spool/", settings->supervisor.state_dir);
    for (const char *at = client_id; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if ((c < 0x80 && isalnum(c)) || c == '_' || c == '-' || (c == '.' && at != client_id))
            buf_append_char(&path, *at);
        else
            buf_printf(&path, "%%%02X", c);
    }
    char *text = xstrdup(buf_text(&path));
    buf_free(&path);
    return text;
}

int place_make(const struct settings *settings, struct error *err)
{
    char *path = xasprintf("%s/spool", settings->supervisor.state_dir);
    int result = 0;

    for (char *at = strchr(path + 1, '/'); result == 0; at = strchr(at + 1, '/')) {
        if (at != NULL)
            *at = '\0';
        if (mkdir(path, 0750) < 0 && errno != EEXIST)
            result = error_system(err, "%s ([supervisor] state_dir)", path);
        if (at == NULL)
            break;
        *at = '/';
    }
    free(path);
    return result;
}
