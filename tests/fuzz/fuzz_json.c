/* The strict JSON scanner against another parser, and the codecs against themselves.
 *
 * The other parser is jansson, loaded if the machine has it (apt-get install libjansson4); without it
 * only the invariants of our own are checked. */
#include "common/wire/base64.h"
#include "common/wire/json.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* jansson's json_error_t and the parts of its interface that are needed (jansson 2.11 and later). */
struct jansson_error {
    int line;
    int column;
    int position;
    char source[80];
    char text[160]; /* the last byte is the error's code */
};
#define JANSSON_FLAGS            (0x4 | 0x8 | 0x10) /* DECODE_ANY, DECODE_INT_AS_REAL, ALLOW_NUL */
#define JANSSON_NULL_BYTE_IN_KEY 13
#define JANSSON_OVERFLOW         15

static void *(*jansson_load)(const char *, size_t, size_t, struct jansson_error *);
static void (*jansson_delete)(void *);

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    void *library = dlopen("libjansson.so.4", RTLD_NOW);

    (void)argc;
    (void)argv;
    if (library != NULL) {
        *(void **)&jansson_load = dlsym(library, "json_loadb");
        *(void **)&jansson_delete = dlsym(library, "json_delete");
    }
    if (jansson_load == NULL || jansson_delete == NULL) {
        jansson_load = NULL;
        fprintf(stderr, "fuzz_json: no libjansson.so.4: checked against itself only\n");
    }
    return 0;
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* Brackets enough to reach the limit of depth? */
static bool may_be_deep(struct bytes text)
{
    size_t opened = 0;

    for (size_t i = 0; i < text.len; i++)
        opened += text.data[i] == '[' || text.data[i] == '{';
    return opened > JSON_DEPTH_MAX;
}

static void compare(struct bytes text, bool valid)
{
    struct jansson_error error;

    if (memchr(text.data, '\0', text.len) != NULL) {
        require(!valid); /* jansson passes over a NUL behind a number */
        return;
    }
    if (jansson_load == NULL || may_be_deep(text))
        return;
    memset(&error, 0, sizeof(error));
    void *value = jansson_load(text.data, text.len, JANSSON_FLAGS, &error);
    if (value != NULL) {
        jansson_delete(value);
        require(valid);
    } else if (valid) {
        /* What is no fault of the text: numbers beyond a double, NUL in a key. */
        int code = (unsigned char)error.text[sizeof(error.text) - 1];
        require(code == JANSSON_OVERFLOW || code == JANSSON_NULL_BYTE_IN_KEY);
    }
}

/* The next member is the same, with its string unescaped. */
static void require_text(struct json_object *object, int more, struct bytes key, struct bytes value)
{
    struct bytes text_key, text, unquoted;
    bool is_text;

    require(json_object_next_text(object, &text_key, &text, &is_text) == more);
    if (more <= 0)
        return;
    require(bytes_equal(text_key, key));
    require(is_text == bytes_starts_with(value, BYTES("\"")));
    if (is_text)
        require(json_unquote(&unquoted, value, object->arena) == 0 && bytes_equal(unquoted, text));
    else
        require(bytes_equal(text, value));
}

static void iterate(struct bytes text, bool valid, struct arena *arena)
{
    struct json_object object, again;
    struct json_array array;
    struct bytes key = BYTES_NONE;
    struct bytes value = BYTES_NONE;
    int more = -1;

    if (json_object_begin(&object, text, arena) == 0) {
        again = object;
        while ((more = json_object_next(&object, &key, &value)) > 0) {
            require_text(&again, more, key, value);
            require(json_is_valid(value));
            require(bytes_is_utf8(key));
        }
        require_text(&again, more, key, value);
    }
    require(more < 0 || valid || may_be_deep(text));
    more = -1;
    if (json_array_begin(&array, text) == 0)
        while ((more = json_array_next(&array, &value)) > 0)
            require(json_is_valid(value));
    require(more < 0 || valid || may_be_deep(text));
}

/* Any text, quoted either way, is a JSON string that unquotes to the text again. */
static void quote(struct bytes text, struct arena *arena)
{
    struct buf quoted = {0};
    struct buf mended = {0};
    struct bytes back;

    bool utf8 = bytes_is_utf8(text);
    require((json_quote_php(&quoted, text) == 0) == utf8);
    json_make_utf8(&mended, text);
    require(bytes_is_utf8(buf_bytes(&mended)));
    require(bytes_equal(buf_bytes(&mended), text) == utf8);
    if (utf8) {
        require(json_is_valid(buf_bytes(&quoted)));
        require(json_unquote(&back, buf_bytes(&quoted), arena) == 0 && bytes_equal(back, text));
        buf_clear(&quoted);
        json_quote(&quoted, text);
        require(json_is_valid(buf_bytes(&quoted)));
        require(json_unquote(&back, buf_bytes(&quoted), arena) == 0 && bytes_equal(back, text));
    }
    if (json_unquote(&back, text, arena) == 0)
        require(bytes_is_utf8(back));

    buf_clear(&quoted);
    base64_encode(&quoted, text);
    require(base64_decode(&back, buf_bytes(&quoted), arena) == 0 && bytes_equal(back, text));
    if (base64_decode(&back, text, arena) == 0)
        require(back.len <= text.len);
    buf_free(&quoted);
    buf_free(&mended);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = {(const char *)data, size};
    struct arena arena = {0};
    bool valid = json_is_valid(text);

    compare(text, valid);
    iterate(text, valid, &arena);
    quote(text, &arena);
    arena_free(&arena);
    return 0;
}
