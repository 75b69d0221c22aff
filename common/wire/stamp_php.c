#include "common/wire/stamp.h"

#include "common/base/alloc.h"
#include "common/wire/envelope.h"
#include "common/wire/php.h"

#include <stdlib.h>
#include <string.h>

/* The list of one stamp class in the envelope: `<key>a:<count>:{<stamps>}`. */
struct found {
    bool there;
    size_t pair_at;         /* offset of the key */
    size_t list_end;        /* offset of the list's closing brace */
    uint64_t values_before; /* number of values in front of the list */
    uint64_t values_behind; /* number of values up to the list's end */
    size_t count;
    size_t count_at;
    size_t count_len;
    int64_t next_key;
    size_t surplus;          /* number of stamps to remove, behind the first */
    size_t surplus_at;       /* offset of the removed stamps */
    size_t surplus_end;      /* offset behind the removed stamps */
    uint64_t surplus_before; /* number of values in front of the removed stamps */
    uint64_t surplus_behind; /* number of values up to the end of the removed stamps */
    bool same_error;         /* the last ErrorDetailsStamp tells of this same failure */
};

struct walk {
    struct php_reader reader;
    struct php_references references;
    const struct stamp_failure *failure;
    bool keeps_all; /* removes no surplus stamps, since another value refers to one */
    bool has_stamps;
    struct php_value stamps; /* head of the map of stamp classes */
    size_t stamps_end;       /* offset of the map's closing brace */
    uint64_t stamps_values;  /* number of values up to the map's end */
    struct found found[STAMP_CLASSES];
};

/* Replaces `remove` bytes at `at` of the old text by `insert`. References to values above
 * `behind` change by added - removed. */
struct edit {
    size_t at;
    size_t remove;
    struct bytes insert;
    uint64_t behind;
    uint64_t added;
    uint64_t removed;
};

struct edits {
    struct edit *list;
    size_t len;
    struct arena arena; /* holds the inserted texts */
};

/* Writes one stamp as a pair of its class's list. */
static void write_stamp(struct buf *out, enum stamp_class which, int64_t key,
                        const struct stamp_failure *failure)
{
    php_write_int(out, key);
    stamp_write_failure(out, ENVELOPE_PHP, which, failure);
}

/* Reads a stamp of any class. *same is true for an error with the failure's class, code and
 * message. */
static int read_error(struct php_reader *reader, const struct stamp_failure *failure, bool *same)
{
    struct php_value object;
    struct php_value key;
    struct php_value value;
    int matching = 0;

    *same = false;
    if (php_read(reader, &object) < 0)
        return -ERR_FORMAT;
    if (object.type != PHP_OBJECT)
        return php_skip_rest(reader, &object);
    for (size_t i = 0; i < object.count; i++) {
        if (php_read_key(reader, &key) < 0 || php_read(reader, &value) < 0 ||
            php_skip_rest(reader, &value) < 0)
            return -ERR_FORMAT;
        struct bytes name = php_property_name(key.text);
        if (bytes_equal_text(name, "exceptionClass"))
            matching +=
                value.type == PHP_STRING && bytes_equal(value.text, failure->exception_class);
        else if (bytes_equal_text(name, "exceptionMessage"))
            matching +=
                value.type == PHP_STRING && bytes_equal(value.text, failure->exception_message);
        else if (bytes_equal_text(name, "exceptionCode"))
            matching += value.type == PHP_INT && value.number == failure->exception_code;
    }
    *same = matching == 3;
    return php_read_end(reader);
}

/* Reads the list of one stamp class. */
static int read_list(struct walk *walk, enum stamp_class which, size_t pair_at)
{
    struct php_reader *reader = &walk->reader;
    struct found *found = &walk->found[which];
    struct php_value list;
    struct php_value key;

    *found = (struct found){.there = true, .pair_at = pair_at, .values_before = reader->values};
    if (php_read(reader, &list) < 0 || list.type != PHP_ARRAY)
        return -ERR_FORMAT;
    found->count = list.count;
    found->count_at = list.count_at;
    found->count_len = list.count_len;
    if (!walk->keeps_all)
        found->surplus = stamp_surplus(which, walk->failure, list.count);
    for (size_t i = 0; i < list.count; i++) {
        if (i == 1) {
            found->surplus_at = reader->at;
            found->surplus_before = reader->values;
        }
        if (i == found->surplus + 1) {
            found->surplus_end = reader->at;
            found->surplus_behind = reader->values;
        }
        if (php_read_key(reader, &key) < 0 ||
            read_error(reader, walk->failure, &found->same_error) < 0)
            return -ERR_FORMAT;
        if (key.type == PHP_INT && key.number >= found->next_key) {
            if (key.number == INT64_MAX)
                return -ERR_FORMAT;
            found->next_key = key.number + 1;
        }
    }
    found->list_end = reader->at;
    found->values_behind = reader->values;
    return php_read_end(reader);
}

static int read_stamps(struct walk *walk)
{
    struct php_reader *reader = &walk->reader;
    struct php_value key;
    int failed;

    memset(walk->found, 0, sizeof(walk->found));
    walk->has_stamps = true;
    if (php_read(reader, &walk->stamps) < 0 || walk->stamps.type != PHP_ARRAY)
        return -ERR_FORMAT;
    for (size_t i = 0; i < walk->stamps.count; i++) {
        size_t pair_at = reader->at;

        if (php_read_key(reader, &key) < 0)
            return -ERR_FORMAT;
        enum stamp_class which = stamp_class_of(key.text);
        if (which < STAMP_CLASSES)
            failed = read_list(walk, which, pair_at);
        else
            failed = php_skip(reader);
        if (failed < 0)
            return -ERR_FORMAT;
    }
    walk->stamps_end = reader->at;
    walk->stamps_values = reader->values;
    return php_read_end(reader);
}

/* Reads the whole envelope, and collects where the stamps and all references are. */
static int read_envelope(struct walk *walk)
{
    struct php_reader *reader = &walk->reader;
    struct php_value key;
    size_t pairs;
    int failed;

    if (envelope_php_begin(reader, &pairs) < 0)
        return -ERR_FORMAT;
    for (size_t i = 0; i < pairs; i++) {
        if (php_read_key(reader, &key) < 0)
            return -ERR_FORMAT;
        if (bytes_equal_text(php_property_name(key.text), "stamps"))
            failed = read_stamps(walk);
        else
            failed = php_skip(reader);
        if (failed < 0)
            return -ERR_FORMAT;
    }
    if (php_read_end(reader) < 0 || !php_at_end(reader) || !walk->has_stamps)
        return -ERR_FORMAT;
    return 0;
}

/* Counts the values in pairs that write_stamp made, one behind the other. */
static uint64_t count_values(struct bytes pairs)
{
    struct php_reader reader = {.text = pairs};
    struct php_value key;

    while (!php_at_end(&reader))
        if (php_read_key(&reader, &key) < 0 || php_skip(&reader) < 0)
            abort();
    return reader.values;
}

static struct edit *add_edit(struct edits *edits, size_t at, size_t remove, struct bytes insert)
{
    struct edit *edit = &edits->list[edits->len++];

    *edit = (struct edit){
        .at = at,
        .remove = remove,
        .insert = arena_copy(&edits->arena, insert),
    };
    return edit;
}

static void edit_number(struct edits *edits, size_t at, size_t len, uint64_t number)
{
    struct buf digits = {0};

    buf_append_u64(&digits, number);
    add_edit(edits, at, len, buf_bytes(&digits));
    buf_free(&digits);
}

/* Inserts pairs at `at`, in front of which `behind` values lie. */
static void edit_insert(struct edits *edits, size_t at, uint64_t behind, struct bytes pairs)
{
    struct edit *edit = add_edit(edits, at, 0, pairs);

    edit->behind = behind;
    edit->added = count_values(pairs);
}

static void edit_surplus(struct edits *edits, const struct found *found)
{
    struct edit *edit =
        add_edit(edits, found->surplus_at, found->surplus_end - found->surplus_at, BYTES_NONE);

    edit->behind = found->surplus_before;
    edit->removed = found->surplus_behind - found->surplus_before;
}

/* Removes the key and the whole list of a class. */
static void edit_remove(struct edits *edits, const struct found *found)
{
    struct edit *edit =
        add_edit(edits, found->pair_at, found->list_end + 1 - found->pair_at, BYTES_NONE);

    edit->behind = found->values_before;
    edit->removed = found->values_behind - found->values_before;
}

/* Appends one stamp to the class's list. */
static void edit_append(struct edits *edits, const struct found *found, struct bytes pair)
{
    edit_number(edits, found->count_at, found->count_len, found->count + 1 - found->surplus);
    if (found->surplus > 0)
        edit_surplus(edits, found);
    edit_insert(edits, found->list_end, found->values_behind, pair);
}

static void edit_lists(struct edits *edits, struct walk *walk)
{
    const struct stamp_failure *failure = walk->failure;
    size_t classes = walk->stamps.count;
    struct buf new_lists = {0};
    struct buf pair = {0};

    for (enum stamp_class which = 0; which < STAMP_CLASSES; which++) {
        const struct found *found = &walk->found[which];
        bool goes = stamp_goes(which, failure) || which == STAMP_MESSAGE_ID;
        bool due = stamp_is_due(which, failure);
        bool appended = found->there && !goes;

        if ((!due && !stamp_goes(which, failure)) ||
            (appended && found->count > 0 && found->same_error))
            continue;
        if (found->there && goes) {
            edit_remove(edits, found);
            classes--;
        }
        if (!due)
            continue;
        buf_clear(&pair);
        write_stamp(&pair, which, appended ? found->next_key : 0, failure);
        if (appended) {
            edit_append(edits, found, buf_bytes(&pair));
            continue;
        }
        php_write_string(&new_lists, STAMPS[which].class);
        buf_append(&new_lists, BYTES("a:1:{"));
        buf_append(&new_lists, buf_bytes(&pair));
        buf_append_char(&new_lists, '}');
        classes++;
    }
    edit_number(edits, walk->stamps.count_at, walk->stamps.count_len, classes);
    edit_insert(edits, walk->stamps_end, walk->stamps_values, buf_bytes(&new_lists));
    buf_free(&new_lists);
    buf_free(&pair);
}

/* Gives every reference the number that its value has in the new text. */
static int edit_references(struct edits *edits, const struct walk *walk)
{
    size_t lists_len = edits->len;

    for (size_t i = 0; i < walk->references.len; i++) {
        const struct php_reference *reference = &walk->references.list[i];
        uint64_t number = reference->number;
        bool gone = false;

        for (size_t j = 0; j < lists_len; j++) {
            const struct edit *edit = &edits->list[j];

            if (edit->removed > 0 && reference->at >= edit->at &&
                reference->at < edit->at + edit->remove)
                gone = true; /* the reference is in removed text */
            if (reference->number <= edit->behind)
                continue;
            if (!gone && reference->number <= edit->behind + edit->removed)
                return -ERR_FORMAT; /* the referenced value is removed */
            number += edit->added - edit->removed;
        }
        if (!gone && number != reference->number)
            edit_number(edits, reference->at, reference->len, number);
    }
    return 0;
}

static int by_position(const void *a, const void *b)
{
    const struct edit *left = a;
    const struct edit *right = b;

    return (left->at > right->at) - (left->at < right->at);
}

static void apply(struct buf *out, struct bytes text, struct edits *edits)
{
    size_t at = 0;

    qsort(edits->list, edits->len, sizeof(*edits->list), by_position);
    for (size_t i = 0; i < edits->len; i++) {
        const struct edit *edit = &edits->list[i];

        buf_append(out, bytes_slice(text, at, edit->at - at));
        buf_append(out, edit->insert);
        at = edit->at + edit->remove;
    }
    buf_append(out, bytes_slice(text, at, text.len));
}

static int stamp_text(struct buf *out, struct bytes text, const struct stamp_failure *failure,
                      bool keeps_all, struct error *err)
{
    struct walk walk = {.reader.text = text, .failure = failure, .keeps_all = keeps_all};
    struct edits edits = {0};
    int failed;

    walk.reader.references = &walk.references;
    failed = read_envelope(&walk);
    if (failed < 0) {
        error_set(err, ERR_FORMAT, "the envelope's stamps are not well-formed");
    } else if (walk.reader.custom && (walk.references.len > 0 || walk.reader.custom_references)) {
        failed = error_set(err, ERR_FORMAT, "the envelope has references that can't be followed");
    } else {
        edits.list = xcalloc(3 * STAMP_CLASSES + 2 + walk.references.len, sizeof(*edits.list));
        edit_lists(&edits, &walk);
        failed = edit_references(&edits, &walk);
        if (failed < 0)
            error_set(err, ERR_FORMAT, "the envelope refers to a stamp that must go");
        else
            apply(out, text, &edits);
    }
    php_references_free(&walk.references);
    arena_free(&edits.arena);
    free(edits.list);
    return failed;
}

int stamp_php_text(struct buf *out, struct bytes text, const struct stamp_failure *failure,
                   struct error *err)
{
    if (stamp_text(out, text, failure, false, NULL) == 0)
        return 0;
    /* A reference may name a surplus stamp. */
    return stamp_text(out, text, failure, true, err);
}
