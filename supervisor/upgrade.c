#include "supervisor/upgrade.h"

#include "common/base/alloc.h"
#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROGRAM    "mqtt-bridge-supervisor"
#define VARIABLE   "MQTT_BRIDGE_UPGRADE"
#define OUTPUT_MAX 16384

/* Opens memory of a fixed size: a program that writes beyond it gets an error. */
static int open_output(void)
{
    int fd = memfd_create("mqtt-bridge-upgrade", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd >= 0 && (ftruncate(fd, OUTPUT_MAX) < 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Starts a program in its own process group, with default signals. Standard output, and standard
 * error if with_error, go to output. Returns 0 or errno. */
static int spawn(pid_t *pid, const char *program, char *const *words, int output, bool with_error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    if (with_error)
        posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                              POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int failed = posix_spawn(pid, program, &actions, &attributes, words, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return failed;
}

int upgrade_begin(struct upgrade *upgrade, const char *bin_dir, char *const *arguments,
                  int64_t now_ms, struct error *err)
{
    size_t len = 0;
    char option[] = "--" UPGRADE_OPTION;
    char version[] = MQTT_BRIDGE_VERSION;

    upgrade_close(upgrade);
    upgrade->program = xasprintf("%s/" PROGRAM, bin_dir);
    upgrade->output_fd = open_output();
    if (upgrade->output_fd < 0)
        return error_system(err, "memory for the new program's check");
    while (arguments[len] != NULL)
        len++;
    char **words = xcalloc(len + 3, sizeof(*words));
    memcpy(words, arguments, len * sizeof(*words));
    words[len] = option;
    words[len + 1] = version;
    errno = spawn(&upgrade->pid, upgrade->program, words, upgrade->output_fd, true);
    free(words);
    if (errno != 0) {
        error_system(err, "%s", upgrade->program);
        upgrade->pid = 0;
        close(upgrade->output_fd);
        return -ERR_SYSTEM;
    }
    upgrade->state = UPGRADE_CHECKING;
    upgrade->deadline_ms = now_ms + UPGRADE_CHECK_MS;
    return 0;
}

static void read_output(struct upgrade *upgrade, struct buf *out)
{
    ssize_t got = pread(upgrade->output_fd, buf_reserve(out, OUTPUT_MAX), OUTPUT_MAX, 0);

    out->len = got > 0 ? strnlen(out->data, (size_t)got) : 0;
    while (out->len > 0 && out->data[out->len - 1] == '\n')
        out->len--;
    close(upgrade->output_fd);
}

/* Reads the version from a last line such as "mqtt-bridge-supervisor 1.2". */
static bool read_version(struct bytes output, char out[UPGRADE_VERSION_SIZE])
{
    const char *newline = memrchr(output.data, '\n', output.len);
    size_t start = newline != NULL ? (size_t)(newline - output.data) + 1 : 0;
    struct bytes line = bytes_slice(output, start, output.len - start);
    struct bytes name;
    struct bytes version;

    bytes_split(line, ' ', &name, &version);
    bytes_to_printable(version, out, UPGRADE_VERSION_SIZE);
    return bytes_equal_text(name, PROGRAM) && version.len > 0;
}

void upgrade_handle_exit(struct upgrade *upgrade, const siginfo_t *info)
{
    struct buf output = {0};
    bool exited = info->si_code == CLD_EXITED;

    kill(-upgrade->pid, SIGKILL);
    waitpid(upgrade->pid, NULL, 0); /* a zombie: returns at once */
    upgrade->pid = 0;
    read_output(upgrade, &output);
    if (exited && info->si_status == 0 && output.len > 0 &&
        read_version(buf_bytes(&output), upgrade->version)) {
        upgrade->state = UPGRADE_PASSED;
    } else {
        upgrade->state = UPGRADE_REFUSED;
        buf_printf(&upgrade->refusal, "%s: its check ended with %s %d", upgrade->program,
                   exited ? "exit code" : "signal", info->si_status);
        if (output.len > 0)
            buf_printf(&upgrade->refusal, "\n%.*s", (int)output.len, output.data);
    }
    buf_free(&output);
}

void upgrade_check_deadline(struct upgrade *upgrade, int64_t now_ms)
{
    if (upgrade->pid == 0 || upgrade->deadline_ms > now_ms)
        return;
    kill(-upgrade->pid, SIGKILL); /* upgrade_handle_exit does the rest */
    upgrade->deadline_ms = now_ms + UPGRADE_CHECK_MS;
}

int64_t upgrade_deadline(const struct upgrade *upgrade)
{
    return upgrade->pid != 0 ? upgrade->deadline_ms : -1;
}

void upgrade_close(struct upgrade *upgrade)
{
    if (upgrade->pid != 0) {
        kill(-upgrade->pid, SIGKILL);
        close(upgrade->output_fd);
    }
    free(upgrade->program);
    buf_free(&upgrade->refusal);
    *upgrade = (struct upgrade){.state = UPGRADE_NONE};
}

void upgrade_execute(const char *program, char *const *arguments,
                     const struct upgrade_handed *handed)
{
    char *text =
        xasprintf("%d %d %d %lld %lld %s", handed->client_fd, handed->listen_fd, handed->lock_fd,
                  (long long)handed->workers, (long long)handed->configured, handed->former);

    if (setenv(VARIABLE, text, 1) == 0)
        execv(program, arguments);
    free(text);
}

/* Takes an inherited descriptor and makes it close-on-exec; -1 if it is not of that type. */
static int inherited(int fd, mode_t type)
{
    struct stat info;
    bool good = fd > STDERR_FILENO && fstat(fd, &info) == 0 && (info.st_mode & S_IFMT) == type &&
                fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;

    return good ? fd : -1;
}

void upgrade_inherit(struct upgrade_handed *handed)
{
    const struct upgrade_handed none = {.client_fd = -1, .listen_fd = -1, .lock_fd = -1};
    const char *text = getenv(VARIABLE);
    long long workers = 0;
    long long configured = 0;

    *handed = none;
    if (text == NULL)
        return;
    int known = sscanf(text, "%d %d %d %lld %lld %63s", &handed->client_fd, &handed->listen_fd,
                       &handed->lock_fd, &workers, &configured, handed->former);
    unsetenv(VARIABLE);
    if (known != 6) {
        *handed = none;
        return;
    }
    handed->client_fd = inherited(handed->client_fd, S_IFSOCK);
    handed->listen_fd = inherited(handed->listen_fd, S_IFSOCK);
    handed->lock_fd = inherited(handed->lock_fd, S_IFREG);
    handed->workers = workers;
    handed->configured = configured;
}

/* Reads the first line of `PROGRAM --version`, behind its first space. */
static int ask_version(const char *path, char out[UPGRADE_VERSION_SIZE], struct error *err)
{
    char *program = xstrdup(path);
    char option[] = "--version";
    char *words[] = {program, option, NULL};
    char line[256];
    int ends[2];
    pid_t pid;
    int status = -1;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        free(program);
        return error_system(err, "pipe");
    }
    int failed = spawn(&pid, path, words, ends[1], false);
    free(program);
    close(ends[1]);
    ssize_t len = failed == 0 ? read(ends[0], line, sizeof(line)) : 0;
    close(ends[0]);
    if (failed == 0)
        waitpid(pid, &status, 0);
    struct bytes text = {line, len > 0 ? (size_t)len : 0};
    struct bytes rest;
    bytes_split(text, '\n', &text, &rest);
    bytes_split(text, ' ', &rest, &text);
    bytes_to_printable(text, out, UPGRADE_VERSION_SIZE);
    errno = failed;
    if (failed != 0)
        return error_system(err, "%s", path);
    return status == 0 ? 0 : error_set(err, ERR_USAGE, "%s can't be run", path);
}

int upgrade_programs(const char *folder, struct error *err)
{
    int result = 0;

    for (size_t i = 0; i < PROCESS_PROGRAMS_LEN && result == 0; i++) {
        char version[UPGRADE_VERSION_SIZE];
        char *path = xasprintf("%s/%s", folder, PROCESS_PROGRAMS[i]);

        result = ask_version(path, version, err);
        if (result == 0 && strcmp(version, MQTT_BRIDGE_VERSION) != 0)
            result = error_set(err, ERR_USAGE, "%s is of version %s, not " MQTT_BRIDGE_VERSION,
                               path, version);
        free(path);
    }
    return result;
}
