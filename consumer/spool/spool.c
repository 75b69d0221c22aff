#include "consumer/spool/spool.h"

#include "common/base/alloc.h"
#include "common/base/file.h"
#include "common/base/sys.h"
#include "common/client/oversized_file.h"
#include "consumer/spool/spool_internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/param.h>
#include <unistd.h>

#define KILO ((uint64_t)1024)
#define MEGA (1024 * KILO)

#define SIZE_MIN         (1 * MEGA)
#define SEGMENT_SIZE_MIN (128 * KILO) /* room for the longest topic */
#define SEGMENT_SIZE_MAX (16 * MEGA)  /* unless the largest message needs more */

/* After a reboot, or with an unreadable end, Redis may know sequences that this disk has lost.
 * Given again, they would make new messages count as repeats. So this number of sequences is
 * skipped: more than any kernel keeps unwritten. */
#define REBOOT_SKIP UINT64_C(1000000000)
/* The most by which sequences begin above the previous spool's, if that was closed without
 * saving its last ones. */
#define PREVIOUS_STEP_MOST (UINT64_C(1) << 31)

#define HASH_LEN 17 /* "~" and 16 digits */

/* Appends the text encoded as one folder's name. */
static void append_encoded(struct buf *path, const char *text)
{
    size_t above = path->len;

    for (const char *at = text; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if ((c < 0x80 && isalnum(c)) || c == '_' || c == '-' || (c == '.' && at != text))
            buf_append_char(path, *at);
        else
            buf_printf(path, "%%%02X", c);
    }
    if (path->len - above > NAME_MAX) {
        path->len = above + NAME_MAX - HASH_LEN;
        buf_printf(path, "~%016" PRIx64, bytes_hash(bytes_of(text)));
    }
}

char *spool_path(const struct settings *settings, const char *client_id, const char *destination)
{
    struct buf path = {0};

    buf_printf(&path, "%s/spool/", settings->supervisor.state_dir);
    append_encoded(&path, client_id);
    if (destination != NULL) {
        buf_append_char(&path, '/');
        append_encoded(&path, destination);
    }
    return buf_take_text(&path);
}

/* Returns the folder above dir. *name is the last part of dir. */
static char *folder_above(const char *dir, const char **name)
{
    const char *slash = strrchr(dir, '/');

    *name = slash + 1;
    return xstrndup(dir, (size_t)(slash - dir));
}

char *spool_path_previous(const char *dir)
{
    const char *name;
    char *above = folder_above(dir, &name), *file = xasprintf("%s/" SPOOL_CURRENT, above);
    struct buf current = {0};
    char *previous = NULL;

    if (file_read(file, NAME_MAX, &current, NULL) == 0 && current.len > 0 &&
        !bytes_equal_text(buf_bytes(&current), name))
        previous = xasprintf("%s/%s", above, buf_text(&current));
    buf_free(&current);
    free(file);
    free(above);
    return previous;
}

int spool_path_set_current(const char *dir)
{
    const char *name;
    char *above = folder_above(dir, &name), *file = xasprintf("%s/" SPOOL_CURRENT, above);
    int result = file_replace(AT_FDCWD, file, bytes_of(name), 0600, true);

    free(file);
    free(above);
    return result;
}

/* True for a file of a spool. Other files, such as a backup or lost+found, may be beside the
 * spools. */
static bool is_file_of_spool(int dir, const char *name)
{
    struct segment *segment = NULL;
    struct error err = {0};
    uint64_t number;

    if (strcmp(name, SEGMENT_SPARE) == 0)
        return true;
    if (!segment_name_parse(name, SEGMENT_SUFFIX, &number))
        return false;
    int result = segment_open(&segment, dir, number, &err);
    free(segment);
    return result == 0 || result == -ERR_REFUSED; /* -ERR_REFUSED: a segment of another version */
}

bool spool_path_holds_spool(const char *dir)
{
    DIR *listing = opendir(dir);
    const struct dirent *file;
    bool found = false;

    while (listing != NULL && !found && (file = readdir(listing)) != NULL)
        found = is_file_of_spool(dirfd(listing), file->d_name);
    if (listing != NULL)
        closedir(listing);
    return found;
}

static void set_sizes(struct spool *spool, const struct spool_options *options)
{
    spool->size = MAX((uint64_t)options->size, SIZE_MIN);
    uint64_t least = MIN(MAX(spool->size / 16, SEGMENT_SIZE_MIN), SEGMENT_SIZE_MAX);
    uint64_t needed = record_size_of(0, (size_t)options->largest_message);
    needed += SEGMENT_HEADER_SIZE + 4095;
    spool->segment_size = MIN(MAX(needed, least), spool->size / 8) & ~UINT64_C(4095);
    spool->retain = MIN((uint64_t)options->retain, retention_most(spool->size));
}

void spool_die(const struct spool *spool, const char *what)
{
    log_critical(
        LOG_WITH(log_text("spool", spool->path)),
        "%s: %s. What the disk holds is unknown: ending, to recover the spool at the next start",
        what, strerror(errno));
    _exit(1);
}

static int open_directory(struct spool *spool, struct error *err)
{
    if (file_make_folders(spool->path) < 0)
        return error_system(err, "making %s ([supervisor] state_dir)", spool->path);
    spool->dir = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->dir < 0)
        return error_system(err, "opening %s", spool->path);
    if (flock(spool->dir, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return error_system(err, "locking %s", spool->path);
    return error_set(err, ERR_LOCKED,
                     "spool %s is in use by another process (a consumer with the same client id?)",
                     spool->path);
}

/* Reads the boot id; zeros if the kernel gives none. */
static void read_boot_id(unsigned char id[16])
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, id, 16) != 16)
        memset(id, 0, 16);
    file_close(&fd);
}

static bool is_this_boot(const struct spool *spool, const unsigned char id[16])
{
    static const unsigned char unknown[16];

    return memcmp(spool->boot_id, id, 16) == 0 && memcmp(id, unknown, 16) != 0;
}

/* True if the last sequences of this spool may be missing on the disk. */
static bool may_lack_sequences(const struct spool *spool)
{
    const struct segment *last = spool->reader.last;

    if (last == NULL && !spool->recent_is_whole)
        return false; /* the spool's id is new */
    if (spool->tail_lost)
        return true;
    /* The check also applies without records: a header may reach the disk before the records
     * behind it. */
    return !is_this_boot(spool, spool->recent_boot_id) &&
           (last == NULL || !is_this_boot(spool, last->header.boot_id));
}

static void set_id(struct spool *spool, const unsigned char id[16])
{
    memmove(spool->id, id, sizeof(spool->id));
    for (size_t i = 0; i < sizeof(spool->id); i++)
        snprintf(spool->id_text + 2 * i, 3, "%02x", spool->id[i]);
    reader_write_mark_id(spool);
}

/* Saves `recent` for the next start, in this boot or another. Without a segment that start takes
 * the spool id of the file. */
static void remember_start(struct spool *spool)
{
    retention_remember(spool, spool->reader.first != NULL ? spool->writer.next_number : 0);
}

/* Begins a run after recovery. Returns true if sequences were skipped. */
static bool begin_run(struct spool *spool)
{
    struct spool_writer *writer = &spool->writer;
    const struct segment *last = spool->reader.last;
    bool skips = may_lack_sequences(spool);

    set_id(spool, spool->id);
    spool->run = sys_random_u64();
    spool->shared.last_sequence = writer->last_stored;
    if (skips)
        writer->next_sequence += REBOOT_SKIP;
    if (last == NULL)
        return skips;
    /* `recent` may have reached the disk without a record that it covers. The message of such a
     * record must be stored when it is sent again. */
    if (skips)
        recent_release_above(spool->recent, writer->last_stored);
    /* Segments that earlier processes did not sync are synced with this run's. */
    spool->reader.synced_number = spool->reader.first->header.number;
    /* An orphan spool keeps its destination. */
    snprintf(spool->destination, sizeof(spool->destination), "%s", last->header.destination);
    return skips;
}

/* Skips the sequence of an oversized file whose record was not written: the message comes again,
 * with another sequence. */
static void skip_oversized(void *context, const char *name, const struct oversized_message *message)
{
    struct spool *spool = context;

    (void)name;
    if (spool->writer.next_sequence <= message->record.sequence)
        spool->writer.next_sequence = message->record.sequence + 1;
}

/* Continues above the sequences of `previous`, whose `recent` is newer. Identities are
 * comparable only under one spool id. So a spool without a segment takes that id too, and gets a
 * mark of its own. */
static void continue_from(struct spool *spool, const struct spool *previous)
{
    struct spool_shared *shared = &spool->shared;
    uint64_t floor = previous->writer.next_sequence + 1 + sys_random_u64() % PREVIOUS_STEP_MOST;
    uint64_t last = atomic_load(&previous->shared.last_sequence);
    bool same = memcmp(spool->id, previous->id, sizeof(spool->id)) == 0;

    if (same && spool->writer.next_sequence > previous->writer.next_sequence)
        return; /* taken over at an earlier start */
    if (!same && spool->reader.first == NULL) {
        atomic_store(&shared->branch, floor);
        set_id(spool, previous->id);
        same = true;
    }
    if (!same || previous->recent_is_whole)
        recent_forget(spool->recent);
    if (!same)
        return;
    recent_release_all(spool->recent);
    recent_merge(spool->recent, previous->recent);
    atomic_store(&shared->last_sequence, last);
    spool->writer.next_sequence = floor;
}

/* Takes over from a previous spool whose sequences and `recent` are unknown. */
static void continue_without_sequences(struct spool *spool)
{
    recent_forget(spool->recent);
    spool->writer.next_sequence += 2 * PREVIOUS_STEP_MOST;
}

static int take_over_from(struct spool *spool, const char *dir, const struct spool_options *options,
                          struct error *err)
{
    struct spool_options previous_options = *options;
    struct spool *previous = NULL;

    previous_options.dir = dir;
    previous_options.receives = false;
    int result = spool_open(&previous, &previous_options, err);
    if (result == -ERR_LOCKED)
        return result;
    if (result < 0)
        log_warning(LOG_WITH(log_text("spool", dir)),
                    "The spool that received before can't be opened: %s. What the broker sends "
                    "again of it counts as new",
                    err->text);
    if (result == 0 && (previous->reader.first != NULL || previous->recent_is_whole))
        continue_from(spool, previous);
    else
        continue_without_sequences(spool);
    remember_start(spool);
    spool_close(previous);
    return 0;
}

/* Takes over the messages that may come again: the broker's session continues when the
 * destination changes. */
static int take_previous_over(struct spool *spool, const struct spool_options *options,
                              struct error *err)
{
    char *dir = spool_path_previous(options->dir);
    bool is_there = dir != NULL && access(dir, F_OK) == 0;
    int result = is_there ? take_over_from(spool, dir, options, err) : 0;

    free(dir);
    if (result == 0)
        retention_set_current(spool);
    return result;
}

static void find_position(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    struct cursor start = {0};
    struct mark mark;

    if (reader->first != NULL)
        start = reader_cursor_at(reader->first);
    if (retention_read_hint(spool, &mark))
        reader_locate(spool, &mark, &start);
    reader_move(spool, &start);
    reader_skip_finished_segments(spool, &reader->read);
    reader_skip_finished_segments(spool, &reader->committed);
    reader->hinted_bytes = reader_cursor_bytes(&reader->committed);
}

static void drain_event(const struct spool *spool)
{
    uint64_t count;
    ssize_t got = read(spool->event_fd, &count, sizeof(count));

    (void)got; /* an empty eventfd is fine too */
}

static int open_steps(struct spool *spool, const struct spool_options *options, struct error *err)
{
    if (strlen(options->destination) > SEGMENT_TEXT_MAX)
        return error_set(err, ERR_USAGE, "the destination is longer than %d bytes",
                         SEGMENT_TEXT_MAX);
    snprintf(spool->destination, sizeof(spool->destination), "%s", options->destination);
    int result = open_directory(spool, err);
    if (result < 0)
        return result;
    spool->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (spool->event_fd < 0)
        return error_system(err, "eventfd");
    result = recovery_run(spool, err);
    if (result < 0)
        return result;
    bool skipped = begin_run(spool);
    result = oversized_file_list(spool->dir, skip_oversized, spool, err);
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    /* Saved, so that the next start neither skips again nor begins lower. */
    if (skipped || spool->tail_lost)
        remember_start(spool);
    result = spool->receives ? take_previous_over(spool, options, err) : 0;
    if (result < 0)
        return error_wrap(err, "spool %s", spool->path);
    find_position(spool);
    retention_spare(spool);
    if (sys_fsync(spool->dir) < 0)
        return error_system(err, "fsync of %s", spool->path);
    drain_event(spool);
    spool->opened = true;
    return 0;
}

int spool_open(struct spool **out, const struct spool_options *options, struct error *err)
{
    struct spool *spool = aligned_alloc(64, (sizeof(struct spool) + 63) & ~(size_t)63);

    if (spool == NULL)
        abort();
    memset(spool, 0, sizeof(*spool));
    spool->path = xstrdup(options->dir);
    spool->sync = options->sync;
    spool->progress = options->progress;
    spool->context = options->context;
    spool->receives = options->receives;
    set_sizes(spool, options);
    spool->dir = -1;
    spool->event_fd = -1;
    spool->writer.fd = -1;
    spool->reader.fd = -1;
    spool->reader.hint_fd = -1;
    spool->recent = recent_new();
    pthread_mutex_init(&spool->appending, NULL);
    spool->shared.spare = SPARE_NONE;
    read_boot_id(spool->boot_id);

    int result = open_steps(spool, options, err);
    if (result < 0) {
        spool_close(spool);
        spool = NULL;
    }
    *out = spool;
    return result;
}

void spool_close(struct spool *spool)
{
    if (spool == NULL)
        return;
    if (spool->opened) {
        retention_hint(spool);
        if (atomic_load(&spool->shared.tail) != 0) /* the spool has a segment */
            retention_remember(spool, spool->writer.next_number);
        spool_sync(spool);
    }
    writer_close(spool);
    reader_close(spool);
    file_close(&spool->reader.hint_fd);
    int spare = spool->shared.spare;
    file_close(&spare);
    file_close(&spool->event_fd);
    file_close(&spool->dir);
    recent_free(spool->recent);
    pthread_mutex_destroy(&spool->appending);
    free(spool->path);
    free(spool);
}

int spool_event_fd(const struct spool *spool)
{
    return spool->event_fd;
}

bool spool_arm_wakeup(struct spool *spool)
{
    struct spool_reader *reader = &spool->reader;
    uint64_t position = 0;

    retention_spare(spool);
    retention_hint(spool);
    reader_skip_finished_segments(spool, &reader->read);
    if (reader->read.segment != NULL)
        position = tail_pack(reader->read.segment->header.number, reader->read.offset);
    /* The order is flag, then tail. The writer does the reverse: see publish. */
    atomic_store(&spool->shared.sleeping, true);
    if (atomic_load(&spool->shared.tail) == position)
        return true;
    atomic_store(&spool->shared.sleeping, false);
    return false;
}

void spool_disarm_wakeup(struct spool *spool)
{
    atomic_store(&spool->shared.sleeping, false);
    drain_event(spool);
    retention_spare(spool);
}

const char *spool_id(const struct spool *spool)
{
    return spool->id_text;
}

const char *spool_mark_id(const struct spool *spool)
{
    return spool->reader.mark_id;
}

const char *spool_destination(const struct spool *spool)
{
    return spool->destination;
}

int64_t spool_largest_message(const struct spool *spool)
{
    return (int64_t)(spool->segment_size - SEGMENT_HEADER_SIZE - record_size_of(0, 0) -
                     RECORD_ALIGNMENT);
}

void spool_state(const struct spool *spool, struct spool_state *state)
{
    const struct spool_reader *reader = &spool->reader;
    uint64_t records = atomic_load(&spool->shared.records);
    uint64_t committed = reader_cursor_records(&reader->committed);

    *state = (struct spool_state){
        .used_bytes = atomic_load(&spool->shared.disk),
        .unsent_records = records > committed ? records - committed : 0,
        .limit_bytes = spool->size,
        .damaged_records = reader->damaged,
        .last_sequence = atomic_load(&spool->shared.last_sequence),
        .committed_sequence =
            reader->committed.segment != NULL ? reader->committed.sequence - 1 : 0,
    };
}
