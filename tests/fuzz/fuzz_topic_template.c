/* Template, filter, topic, a line each. Whatever the template is, an expansion ends. With `:uri` everywhere it holds no
 * byte of the topic that must be encoded. The trie finds the filter exactly if it matches. */
#include "common/wire/topic.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void expand(struct bytes text, struct bytes topic, struct bytes filter)
{
    struct topic_template *plain, *uri;
    struct error err = {0};
    struct buf out = {0};

    if (topic_template_new(&plain, text, false, &err) < 0) {
        require(err.code == ERR_FORMAT && err.text[0] != '\0');
        require(topic_template_new(&uri, text, true, &err) < 0);
        return;
    }
    require(topic_template_new(&uri, text, true, &err) == 0);
    require(topic_template_wildcards(plain) == topic_template_wildcards(uri));
    topic_template_expand(plain, topic, filter, &out);
    buf_clear(&out);
    topic_template_expand(uri, topic, filter, &out);
    if (memchr(text.data, '%', text.len) == NULL && memchr(topic.data, '%', topic.len) == NULL)
        for (size_t i = 0; i < out.len; i++)
            require(out.data[i] != '%' || bytes_hex_digit(out.data[i + 1]) >= 0);
    buf_free(&out);
    topic_template_free(plain);
    topic_template_free(uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text, filter, topic, rest = {(const char *)data, size};
    struct error err;

    bytes_split(rest, '\n', &text, &rest);
    bytes_split(rest, '\n', &filter, &topic);
    if (size > 4096 || text.len == 0 || topic_filter_check(filter, &err) < 0 ||
        bytes_starts_with(filter, BYTES("$share/")) || topic_name_check(topic, &err) < 0)
        return 0;
    struct topic_trie *trie = topic_trie_new();
    topic_trie_add(trie, filter, 7);
    bool matches = topic_filter_matches(filter, topic);
    require(topic_trie_find(trie, topic) == (matches ? 7 : TOPIC_TRIE_NONE));
    topic_trie_free(trie);
    if (matches)
        expand(text, topic, filter);
    return 0;
}
