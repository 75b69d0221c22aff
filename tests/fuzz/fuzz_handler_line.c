/* Any bytes as a handler's line, and as a message to it: no crash. What is taken has what it must have and lies in the line
 * or the arena; what is refused says why. A message is one line of valid JSON. */
#include "common/base/words.h"
#include "common/wire/handler_line.h"
#include "common/wire/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static size_t sum(struct bytes text)
{
    size_t total = 0;

    for (size_t i = 0; i < text.len; i++)
        total += (unsigned char)text.data[i];
    return total;
}

static void read_all(const struct handler_line *line)
{
    size_t total = sum(line->id) + sum(line->error);

    for (size_t i = 0; i < line->updates_len; i++) {
        const struct handler_update *update = &line->updates[i];

        for (size_t j = 0; j < update->topics_len; j++)
            total += sum(update->topics[j]);
        total += sum(update->data) + sum(update->type) + sum(update->retry) + sum(update->id);
    }
    require(total < SIZE_MAX);
}

/* Brackets enough to be nested deeper than other JSON may be? */
static bool may_be_deep(struct bytes text)
{
    size_t opened = 0;

    for (size_t i = 0; i < text.len; i++)
        opened += text.data[i] == '[' || text.data[i] == '{';
    return opened > JSON_DEPTH_MAX;
}

static void check_answer(struct bytes text)
{
    struct handler_line line;
    struct arena arena = {0};
    struct error err = {0};
    char *copy = malloc(text.len + 1);

    require(copy != NULL);
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    if (handler_line_read(&line, copy, text.len, &arena, &err) < 0) {
        require(err.code == ERR_FORMAT && err.text[0] != '\0');
    } else {
        require(json_is_valid((struct bytes){copy, text.len}) || may_be_deep(text));
        read_all(&line);
    }
    handler_line_free(&line);
    free(copy);
    arena_free(&arena);
}

static void check_message(struct bytes payload, bool as_text)
{
    const struct handler_message message = {.id = BYTES("1"),
                                            .topic = payload,
                                            .payload = payload,
                                            .as_text = as_text,
                                            .headers =
                                                json_is_valid(payload) ? payload : BYTES("[]")};
    struct arena arena = {0};
    struct buf out = {0};

    handler_line_write(&out, &message, &arena);
    require(memchr(out.data, '\n', out.len) == out.data + out.len - 1);
    require(json_is_valid(buf_bytes(&out)));
    buf_free(&out);
    arena_free(&arena);
}

static void check_words(struct bytes text)
{
    struct error err = {0};
    char **words;

    if (words_split(&words, text, &err) < 0)
        require(words == NULL && err.text[0] != '\0');
    else
        require(words[0] != NULL);
    words_free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = {(const char *)data, size};

    check_answer(text);
    check_message(text, false);
    check_message(text, true);
    check_words(text);
    return 0;
}
