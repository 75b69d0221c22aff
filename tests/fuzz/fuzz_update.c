/* Id, topic, payload out of one input (first byte: how long each is). The document is valid JSON
 * without a line break. The form has only the bytes that a form has, and decodes to what went
 * in. */
#include "common/wire/json.h"
#include "common/wire/update.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static int hex(char c)
{
    return c <= '9' ? c - '0' : c - 'A' + 10;
}

static void require_decodes(struct bytes encoded, struct bytes text, char space)
{
    size_t at = 0;

    for (size_t i = 0; i < encoded.len; i++, at++) {
        char c = encoded.data[i];

        require(at < text.len);
        if (c == '%') {
            require(encoded.len - i > 2);
            c = (char)(hex(encoded.data[i + 1]) * 16 + hex(encoded.data[i + 2]));
            i += 2;
        } else if (c == space) {
            c = ' ';
        } else {
            require(c > ' ' && c < 0x7F && strchr("&=?#\"<>%", c) == NULL);
        }
        require(c == text.data[at]);
    }
    require(at == text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct bytes all = {(const char *)data + 2, size - 2};
    struct bytes id = bytes_slice(all, 0, data[0]);
    struct bytes topic = bytes_slice(all, id.len, data[1]);
    struct bytes payload = bytes_slice(all, id.len + topic.len, all.len);
    struct buf document = {0}, encoded = {0};
    struct arena arena = {0};

    update_document(&document, id, topic, payload, 1);
    require(json_is_valid(buf_bytes(&document)));
    require(memchr(document.data, '\n', document.len) == NULL);
    require(memchr(document.data, '\r', document.len) == NULL);
    require(json_object_get(buf_bytes(&document), "receivedAt", &arena).len > 0);
    update_urlencode(&encoded, payload);
    require_decodes(buf_bytes(&encoded), payload, '+');
    buf_clear(&encoded);
    update_encode_topic(&encoded, topic);
    require_decodes(buf_bytes(&encoded), topic, '\0');
    buf_clear(&encoded);
    const struct bytes alternates[] = {payload, id};
    const struct update update = {.topic = topic,
                                  .data = buf_bytes(&document),
                                  .id = id,
                                  .alternates = alternates,
                                  .alternates_len = data[0] % 3};
    struct buf form = {0};
    struct error err = {0};
    update_form(&form, &update);
    if (update_check(&update, &err) < 0)
        require(err.code == ERR_REFUSED && err.text[0] != '\0');
    buf_free(&form);
    buf_free(&document);
    buf_free(&encoded);
    arena_free(&arena);
    return 0;
}
