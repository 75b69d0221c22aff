#include "common/client/redis_resp.h"

#include <stdlib.h>
#include <string.h>

void redis_format(struct buf *resp, const char *format, va_list arguments)
{
    char *command = NULL;
    int len = redisvFormatCommand(&command, format, arguments);

    if (len < 0)
        abort(); /* out of memory, or a bad format */
    buf_append(resp, (struct bytes){command, (size_t)len});
    redisFreeCommand(command);
}

void redis_write_count(struct buf *resp, size_t count)
{
    buf_append_char(resp, '*');
    buf_append_u64(resp, count);
    buf_append(resp, BYTES("\r\n"));
}

void redis_write_argument(struct buf *resp, struct bytes argument)
{
    buf_append_char(resp, '$');
    buf_append_u64(resp, argument.len);
    buf_append(resp, BYTES("\r\n"));
    buf_append(resp, argument);
    buf_append(resp, BYTES("\r\n"));
}

void redis_write_number(struct buf *resp, int64_t number)
{
    struct buf digits = {0};

    buf_append_u64(&digits, (uint64_t)number);
    redis_write_argument(resp, buf_bytes(&digits));
    buf_free(&digits);
}

/* Returns the error of a command within a script, which Redis before 7 wraps. An example is "ERR
 * Error running script (call to f_…): @user_script:10: @user_script: 10: -OOM …". The result
 * begins with "OOM". Any other text is unchanged. */
static struct bytes inner_error(struct bytes text)
{
    static const struct bytes where = BYTES("@user_script:");
    const char *found;

    if (!bytes_starts_with(text, BYTES("ERR Error running script")))
        return text;
    while ((found = memmem(text.data, text.len, where.data, where.len)) != NULL)
        text = bytes_slice(text, (size_t)(found - text.data) + where.len, text.len);
    while (text.len > 0 && strchr("0123456789 :-", text.data[0]) != NULL)
        text = bytes_slice(text, 1, text.len);
    return text;
}

static bool begins_with_one(struct bytes text, const char *const *words, size_t count)
{
    struct bytes error = inner_error(text);

    for (size_t i = 0; i < count; i++)
        if (bytes_starts_with(error, bytes_of(words[i])))
            return true;
    return false;
}

enum error_code redis_classify(struct bytes text)
{
    static const char *const PASSING[] = {"LOADING",    "READONLY",
                                          "MASTERDOWN", "OOM",
                                          "BUSY ",      "TRYAGAIN",
                                          "MISCONF",    "NOREPLICAS",
                                          "UNBLOCKED",  "CLUSTERDOWN",
                                          "NOSCRIPT",   "MOVED ",
                                          "ASK ",       "ERR max number of clients reached"};

    return begins_with_one(text, PASSING, LENGTH_OF(PASSING)) ? ERR_UNREACHABLE : ERR_REFUSED;
}

bool redis_is_elsewhere(struct bytes text)
{
    static const char *const ELSEWHERE[] = {"READONLY", "MASTERDOWN", "UNBLOCKED force unblock",
                                            "MOVED "};

    return begins_with_one(text, ELSEWHERE, LENGTH_OF(ELSEWHERE));
}

const redisReply *redis_member(const redisReply *list, const char *name)
{
    for (size_t i = 0; i + 1 < list->elements; i += 2)
        if (bytes_equal_text(redis_text(list->element[i]), name))
            return list->element[i + 1];
    return NULL;
}

struct bytes redis_member_text(const redisReply *list, const char *name)
{
    const redisReply *member = redis_member(list, name);

    return member != NULL ? redis_text(member) : BYTES_NONE;
}

int64_t redis_member_number(const redisReply *list, const char *name)
{
    const redisReply *member = redis_member(list, name);

    return member != NULL && member->type == REDIS_REPLY_INTEGER ? member->integer : -1;
}

const redisReply *redis_find_group(const redisReply *groups, const char *name)
{
    for (size_t i = 0; i < groups->elements; i++)
        if (bytes_equal_text(redis_member_text(groups->element[i], "name"), name))
            return groups->element[i];
    return NULL;
}
