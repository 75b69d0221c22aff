/* What the tests of the spool share: a directory of its own for each test, and short ways to append, read
 * and look at files. */
#ifndef TESTS_UNIT_SPOOL_CASE_H
#define TESTS_UNIT_SPOOL_CASE_H

#include "common/base/alloc.h"
#include "common/base/sys.h"
#include "consumer/spool/spool_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define KB 1024
#define MB (1024 * KB)

struct spool_case {
    char root[64];
    char dir[96];
    struct spool *spool;
    struct spool_options options;
};

static void spool_case_clear(const char *dir)
{
    DIR *listing = opendir(dir);
    const struct dirent *entry;

    if (listing == NULL)
        return;
    while ((entry = readdir(listing)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
}

static inline void spool_case_path(const struct spool_case *c, const char *name, char path[160])
{
    snprintf(path, 160, "%s/%s", c->dir, name);
}

static int spool_case_begin(void **state)
{
    struct spool_case *c = xcalloc(1, sizeof(*c));

    strcpy(c->root, "/tmp/spool-test-XXXXXX");
    if (mkdtemp(c->root) == NULL)
        return -1;
    snprintf(c->dir, sizeof(c->dir), "%s/spool", c->root);
    c->options = (struct spool_options){
        .dir = c->dir,
        .size = 4 * MB,
        .retain = 1 * MB,
        .sync = SPOOL_SYNC_NONE,
        .destination = "redis://127.0.0.1:6379/messages",
        .receives = true,
    };
    *state = c;
    return 0;
}

static int spool_case_end(void **state)
{
    struct spool_case *c = *state;

    sys_heal();
    spool_close(c->spool);
    spool_case_clear(c->dir);
    rmdir(c->dir);
    spool_case_clear(c->root); /* the file `current` */
    rmdir(c->root);
    free(c);
    return 0;
}

static inline void spool_case_open(struct spool_case *c)
{
    struct error err;

    if (spool_open(&c->spool, &c->options, &err) < 0)
        fail_msg("%s", err.text);
}

static inline void spool_case_close(struct spool_case *c)
{
    spool_close(c->spool);
    c->spool = NULL;
}

/* As if the process had been killed: nothing of what spool_close says or writes. */
static inline void spool_case_reopen_killed(struct spool_case *c)
{
    c->spool->opened = false;
    spool_case_close(c);
    spool_case_open(c);
}

static inline void spool_case_reopen(struct spool_case *c)
{
    spool_case_close(c);
    spool_case_open(c);
}

/* The files of the spool in `path`, as if another kernel had run when they were written. */
static inline void spool_case_make_rebooted(const char *path)
{
    int dir = open(path, O_RDONLY | O_DIRECTORY);
    struct recent *recent = recent_new();
    struct recent_start start;
    const struct dirent *entry;
    struct segment *segment;
    struct error err;
    uint64_t number;
    DIR *listing = opendir(path);

    while ((entry = readdir(listing)) != NULL) {
        if (!segment_name_parse(entry->d_name, "segment", &number) ||
            segment_open(&segment, dir, number, &err) < 0)
            continue;
        memset(segment->header.boot_id, 7, 16);
        assert_int_equal(segment_rewrite_header(dir, &segment->header, &err), 0);
        free(segment);
    }
    closedir(listing);
    if (recent_load(recent, dir, &start)) {
        memset(start.boot_id, 7, 16);
        assert_int_equal(recent_save(recent, dir, &start, false), 0);
    }
    recent_free(recent);
    close(dir);
}

static inline void spool_case_reboot(struct spool_case *c)
{
    spool_case_close(c);
    spool_case_make_rebooted(c->dir);
    spool_case_open(c);
}

/* Message number n has the payload "n" and padding to `len`. */
static inline int spool_case_try(struct spool_case *c, int n, size_t len, uint64_t *sequence,
                                 struct error *err)
{
    char digits[16];
    int digits_len = snprintf(digits, sizeof(digits), "%d", n);
    char *payload = xcalloc(1, len + sizeof(digits));

    memset(payload, 'x', len + sizeof(digits));
    memcpy(payload, digits, (size_t)digits_len);
    struct record message = {
        .received_us = 1000000 + n,
        .qos = 1,
        .packet_id = (uint16_t)n,
        .topic = BYTES("sensors/room1/temp"),
        .payload = {payload, (size_t)digits_len > len ? (size_t)digits_len : len},
    };
    int result = spool_append(c->spool, &message, err);
    *sequence = message.sequence;
    free(payload);
    return result;
}

static inline uint64_t spool_case_append(struct spool_case *c, int n, size_t len)
{
    struct error err;
    uint64_t sequence;

    if (spool_case_try(c, n, len, &sequence, &err) < 0)
        fail_msg("%s", err.text);
    return sequence;
}

/* Appends first..last. */
static inline void spool_case_fill(struct spool_case *c, int first, int last, size_t len)
{
    for (int n = first; n <= last; n++)
        spool_case_append(c, n, len);
}

/* The number of the next message, 0 if there is none, negative at damage. */
static inline int spool_case_next(struct spool_case *c, struct record *message)
{
    struct error err;
    char digits[16] = "";
    int result = spool_next(c->spool, message, &err);

    if (result <= 0)
        return result;
    size_t len = message->payload.len < 15 ? message->payload.len : 15;
    if (len > 0) /* an oversized message has none */
        memcpy(digits, message->payload.data, len);
    return atoi(digits);
}

/* The next messages must be first..last. Commits none; returns the last one's sequence. */
static inline uint64_t spool_case_expect(struct spool_case *c, int first, int last)
{
    struct record message = {0};

    for (int n = first; n <= last; n++)
        assert_int_equal(spool_case_next(c, &message), n);
    return message.sequence;
}

/* All that was given. */
static inline void spool_case_commit(struct spool_case *c)
{
    struct spool_position position = spool_position(c->spool);

    spool_commit(c->spool, &position);
}

static inline void spool_case_expect_none(struct spool_case *c)
{
    struct record message;

    assert_int_equal(spool_case_next(c, &message), 0);
}

static inline struct spool_state spool_case_state(const struct spool_case *c)
{
    struct spool_state state;

    spool_state(c->spool, &state);
    return state;
}

static inline struct mark_result spool_case_rewind(struct spool_case *c, uint64_t run,
                                                   uint64_t sequence)
{
    char mark[40];

    spool_mark_text(run, sequence, mark);
    return spool_apply_mark(c->spool, bytes_of(mark));
}

static inline size_t spool_case_files(const struct spool_case *c, const char *suffix)
{
    DIR *listing = opendir(c->dir);
    const struct dirent *entry;
    size_t count = 0;

    while ((entry = readdir(listing)) != NULL)
        count += bytes_ends_with(bytes_of(entry->d_name), bytes_of(suffix));
    closedir(listing);
    return count;
}

static inline int spool_case_file(const struct spool_case *c, uint64_t number, int flags)
{
    char path[160];

    snprintf(path, sizeof(path), "%s/%012llu.segment", c->dir, (unsigned long long)number);
    int fd = open(path, flags);
    assert_true(fd >= 0);
    return fd;
}

/* Overwrites bytes of a segment, as a bad disk would. */
static inline void spool_case_damage(const struct spool_case *c, uint64_t number, uint64_t offset,
                                     size_t len)
{
    char garbage[8192];
    int fd = spool_case_file(c, number, O_WRONLY);

    memset(garbage, 0xA5, sizeof(garbage));
    assert_true(len <= sizeof(garbage));
    assert_int_equal(pwrite(fd, garbage, len, (off_t)offset), (ssize_t)len);
    close(fd);
}

#endif
