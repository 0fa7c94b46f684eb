// Numbers the steps by which Holdfast's programs change what lasts, and the messages they exchange, and does at one
// of them what a test orders: nothing, kill, stop, or fail. Loaded with LD_PRELOAD, so that the programs under test
// are the ones that people run. It stays passive in every other program that inherits the environment.
//
//   HOLDFAST_FAULT_CONTROL   a file with `struct control`, shared by all processes and with the test
//   HOLDFAST_FAULT_LOG       a line for each step: number, process id, kind, bytes, result, path
//   HOLDFAST_FAULT_FOLDERS   folders, `:` between: only files below them count
//
// The log is written by one write(2) before the step, with the result 0; a step that fails by itself gets a second
// line with the same number and its errno.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

// Order of the names in FaultLayer.swift.
enum kind {
    CREATE, WRITE, TRUNCATE, SYNC, RENAME, LINK, UNLINK, MKDIR, COMMIT, SEND, RECEIVE, OPEN, KINDS
};
static const char *const names[KINDS] = {"create", "write", "truncate", "sync", "rename", "link",
                                         "unlink", "mkdir", "commit", "send", "receive", "open"};

enum action { NOTHING, KILL, STOP, FAIL, KILL_VICTIM };
// Flags of an order: after the step instead of before it; also at every later step; a write puts down its first half.
enum { AFTER = 1, ALL_LATER = 2, SHORT = 4 };
enum role { SESSION = 1, SERVE = 2, AGENT = 4, COMMAND = 8 };

struct control {
    uint32_t action;
    uint32_t error;          // errno of FAIL; a commit's connection is cut off instead
    uint32_t flags;
    uint32_t roles;          // processes whose steps count
    uint32_t kinds;          // bits of the kinds that count
    int32_t victim;          // a process that is killed as well, first; 0 for none
    int64_t at;              // the step, from 1 on
    _Atomic int64_t jump;    // nanoseconds by which the monotonic clock jumps when a pack is begun
    _Atomic int64_t steps;   // so far
    _Atomic int64_t offset;  // of the monotonic clock
    _Atomic int32_t fired;   // the process at whose step the order was carried out first
    _Atomic int32_t fires;   // how often
};

static struct control *control;
static int log_file = -1;
static uint32_t role;
static char folders[4][PATH_MAX];
static int folder_count;

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }
#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)next(#name)

__attribute__((constructor)) static void start(void) {
    const char *control_path = getenv("HOLDFAST_FAULT_CONTROL"), *log_path = getenv("HOLDFAST_FAULT_LOG");
    const char *list = getenv("HOLDFAST_FAULT_FOLDERS");
    char program[PATH_MAX], line[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (!control_path || !log_path || !list || length <= 0) return;
    program[length] = 0;
    const char *base = strrchr(program, '/');
    base = base ? base + 1 : program;
    int arguments = syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t got = arguments < 0 ? 0 : read(arguments, line, sizeof line - 1);
    if (arguments >= 0) close(arguments);
    line[got > 0 ? got : 0] = 0;
    if (!strcmp(base, "holdfast-agent")) {
        role = AGENT;
    } else if (!strcmp(base, "holdfast-coordinator")) {
        role = COMMAND;
        for (char *word = line; word < line + got; word += strlen(word) + 1) {
            if (!strcmp(word, "session")) role = SESSION;
            if (!strcmp(word, "serve")) role = SERVE;
        }
    } else {
        return;
    }
    int file = syscall(SYS_openat, AT_FDCWD, control_path, O_RDWR | O_CLOEXEC);
    if (file < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (map == MAP_FAILED) return;
    for (const char *from = list; *from && folder_count < 4;) {
        const char *end = strchrnul(from, ':');
        snprintf(folders[folder_count++], PATH_MAX, "%.*s", (int)(end - from), from);
        from = *end ? end + 1 : end;
    }
    // Out of the way of the numbers that the programs hand to each other.
    int low = syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    log_file = low < 0 ? -1 : fcntl(low, F_DUPFD_CLOEXEC, 150);
    if (log_file < 0) log_file = low; else close(low);
    control = map;
}

static int counts(enum kind kind) {
    return control && (control->roles & role) && (control->kinds & (1u << kind));
}

static int inside(const char *path) {
    for (int index = 0; index < folder_count; index++) {
        size_t length = strlen(folders[index]);
        if (!strncmp(path, folders[index], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

// The path of an open file, if that is one that counts.
static int path_of(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int path_at(int directory, const char *name, char *path) {
    if (name[0] == '/' || directory == AT_FDCWD) {
        snprintf(path, PATH_MAX, "%s", name);
        return inside(path);
    }
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length <= 0 || length + strlen(name) + 2 > PATH_MAX) return 0;
    snprintf(path + length, PATH_MAX - length, "/%s", name);
    return inside(path);
}

static void note(int64_t number, enum kind kind, int64_t bytes, int error, const char *path) {
    char line[PATH_MAX + 100];
    int length = snprintf(line, sizeof line, "%lld %d %s %lld %d %s\n", (long long)number, (int)getpid(),
                          names[kind], (long long)bytes, error, path);
    if (log_file >= 0) syscall(SYS_write, log_file, line, length < (int)sizeof line ? length : (int)sizeof line - 1);
}

static void strike(void) {
    if (control->action == KILL) {
        if (control->victim > 0) syscall(SYS_kill, control->victim, SIGKILL);
        syscall(SYS_kill, getpid(), SIGKILL);
        for (;;) pause();
    }
    if (control->action == KILL_VICTIM) {
        // Whoever speaks to it has a moment to see its end.
        struct timespec moment = {0, 100000000};
        syscall(SYS_kill, control->victim, SIGKILL);
        nanosleep(&moment, NULL);
    }
    if (control->action == STOP) syscall(SYS_kill, getpid(), SIGSTOP);
}

struct step {
    int64_t number;  // 0: does not count
    int hit;         // the order is for this step
    enum kind kind;
};

static struct step begin(enum kind kind, int64_t bytes, const char *path) {
    struct step step = {0, 0, kind};
    int saved = errno;
    step.number = atomic_fetch_add(&control->steps, 1) + 1;
    if (kind == CREATE && strstr(path, "/data/pack-")) {
        atomic_fetch_add(&control->offset, atomic_exchange(&control->jump, 0));
    }
    step.hit = control->action != NOTHING
        && (step.number == control->at || ((control->flags & ALL_LATER) && step.number > control->at));
    note(step.number, kind, bytes, 0, path);
    if (step.hit) {
        int32_t nobody = 0;
        atomic_compare_exchange_strong(&control->fired, &nobody, getpid());
        atomic_fetch_add(&control->fires, 1);
        if (!(control->flags & AFTER)) strike();
    }
    errno = saved;
    return step;
}

static int fails(struct step step) { return step.hit && control->action == FAIL; }

static void end(struct step step, int64_t result, const char *path) {
    int saved = errno;
    if (step.number && result < 0) note(step.number, step.kind, 0, saved, path);
    if (step.hit && (control->flags & AFTER)) strike();
    errno = saved;
}

// A step on a path. `call` is evaluated once, unless the order is to fail.
#define STEP(kind, bytes, path, call) \
    do { \
        struct step step = begin(kind, bytes, path); \
        if (fails(step)) { \
            errno = control->error; \
            end(step, -1, path); \
            return -1; \
        } \
        __typeof__(call) result = (call); \
        end(step, result, path); \
        return result; \
    } while (0)

// MARK: Writing

static size_t short_of(size_t count) { return count > 1 ? count / 2 : count; }

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    if (!counts(WRITE) || !path_of(fd, path)) return syscall(SYS_write, fd, bytes, count);
    struct step step = begin(WRITE, count, path);
    if (fails(step)) {
        if ((control->flags & SHORT) && step.number == control->at && count > 1)
            return syscall(SYS_write, fd, bytes, short_of(count));
        errno = control->error;
        end(step, -1, path);
        return -1;
    }
    ssize_t result = syscall(SYS_write, fd, bytes, count);
    end(step, result, path);
    return result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    char path[PATH_MAX];
    REAL(pwrite64);
    if (!counts(WRITE) || !path_of(fd, path)) return real(fd, bytes, count, offset);
    struct step step = begin(WRITE, count, path);
    if (fails(step)) {
        if ((control->flags & SHORT) && step.number == control->at && count > 1)
            return real(fd, bytes, short_of(count), offset);
        errno = control->error;
        end(step, -1, path);
        return -1;
    }
    ssize_t result = real(fd, bytes, count, offset);
    end(step, result, path);
    return result;
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    REAL(writev);
    if (!counts(WRITE) || !path_of(fd, path)) return real(fd, parts, count);
    STEP(WRITE, -1, path, real(fd, parts, count));
}

int ftruncate64(int fd, off64_t size) {
    char path[PATH_MAX];
    REAL(ftruncate64);
    if (!counts(TRUNCATE) || !path_of(fd, path)) return real(fd, size);
    STEP(TRUNCATE, size, path, real(fd, size));
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

#define SYNCING(name) \
    int name(int fd) { \
        char path[PATH_MAX]; \
        REAL(name); \
        if (!counts(SYNC) || !path_of(fd, path)) return real(fd); \
        STEP(SYNC, 0, path, real(fd)); \
    }
SYNCING(fsync)
SYNCING(fdatasync)
SYNCING(syncfs)

// MARK: Names

static int opened(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    enum kind kind = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? CREATE : OPEN;
    if (!counts(kind) || !path_at(directory, name, path)) return syscall(SYS_openat, directory, name, flags, mode);
    STEP(kind, 0, path, (int)syscall(SYS_openat, directory, name, flags, mode));
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }
int open(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int renameat2(int from_directory, const char *from, int to_directory, const char *to, unsigned flags) {
    char path[PATH_MAX];
    if (!counts(RENAME) || !path_at(to_directory, to, path))
        return syscall(SYS_renameat2, from_directory, from, to_directory, to, flags);
    STEP(RENAME, 0, path, (int)syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
}
int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    return renameat2(from_directory, from, to_directory, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    char path[PATH_MAX];
    if (!counts(LINK) || !path_at(to_directory, to, path))
        return syscall(SYS_linkat, from_directory, from, to_directory, to, flags);
    STEP(LINK, 0, path, (int)syscall(SYS_linkat, from_directory, from, to_directory, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    if (!counts(UNLINK) || !path_at(directory, name, path)) return syscall(SYS_unlinkat, directory, name, flags);
    STEP(UNLINK, 0, path, (int)syscall(SYS_unlinkat, directory, name, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (!counts(MKDIR) || !path_at(directory, name, path)) return syscall(SYS_mkdirat, directory, name, mode);
    STEP(MKDIR, 0, path, (int)syscall(SYS_mkdirat, directory, name, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

// MARK: The clock

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    int64_t offset = control && (control->roles & role) && clock == CLOCK_MONOTONIC ? atomic_load(&control->offset) : 0;
    if (offset && !result) {
        int64_t now = time->tv_sec * 1000000000LL + time->tv_nsec + offset;
        time->tv_sec = now / 1000000000LL;
        time->tv_nsec = now % 1000000000LL;
    }
    return result;
}

// MARK: The catalogue. A step is whatever makes a change last: COMMIT, and a change outside a transaction.

static _Thread_local struct {
    void *connection;
    struct step step;
    char sql[60];
} committing;

static int changes(void *connection, const char *sql) {
    static int (*status)(void *);
    if (!status) status = (int (*)(void *))next("PQtransactionStatus");
    while (*sql == ' ' || *sql == '\n') sql++;
    if (!strncmp(sql, "COMMIT", 6)) return 1;
    // 0 is PQTRANS_IDLE.
    return (!status || status(connection) == 0)
        && (!strncmp(sql, "INSERT", 6) || !strncmp(sql, "UPDATE", 6) || !strncmp(sql, "DELETE", 6));
}

static void cut(void *connection) {
    static int (*descriptor)(void *);
    if (!descriptor) descriptor = (int (*)(void *))next("PQsocket");
    if (descriptor) shutdown(descriptor(connection), SHUT_RDWR);
}

static void before_query(void *connection, const char *sql) {
    committing.connection = NULL;
    if (!counts(COMMIT) || !changes(connection, sql)) return;
    int length = 0;
    while (length < (int)sizeof committing.sql - 1 && sql[length] && sql[length] != '\n') length++;
    snprintf(committing.sql, sizeof committing.sql, "%.*s", length, sql);
    committing.step = begin(COMMIT, 0, committing.sql);
    committing.connection = connection;
    if (fails(committing.step) && !(control->flags & AFTER)) cut(connection);
}

static void after_query(void *connection) {
    if (committing.connection != connection || !fails(committing.step) || !(control->flags & AFTER)) return;
    // The server does what it was asked; its answer is lost.
    static int (*flush)(void *);
    if (!flush) flush = (int (*)(void *))next("PQflush");
    while (flush && flush(connection) > 0) {}
    struct timespec moment = {0, 100000000};
    nanosleep(&moment, NULL);
    cut(connection);
}

int PQsendQuery(void *connection, const char *sql) {
    static int (*real)(void *, const char *);
    if (!real) real = (int (*)(void *, const char *))next("PQsendQuery");
    before_query(connection, sql);
    int result = real(connection, sql);
    after_query(connection);
    return result;
}

int PQsendQueryParams(void *connection, const char *sql, int count, const unsigned *types, const char *const *values,
                      const int *lengths, const int *formats, int format) {
    static int (*real)(void *, const char *, int, const unsigned *, const char *const *, const int *, const int *, int);
    if (!real) *(void **)&real = next("PQsendQueryParams");
    before_query(connection, sql);
    int result = real(connection, sql, count, types, values, lengths, formats, format);
    after_query(connection);
    return result;
}

void *PQgetResult(void *connection) {
    static void *(*real)(void *);
    if (!real) real = (void *(*)(void *))next("PQgetResult");
    void *result = real(connection);
    if (result && committing.connection == connection) {
        committing.connection = NULL;
        end(committing.step, 0, committing.sql);
    }
    return result;
}

// MARK: Messages

int ssh_channel_write(void *channel, const void *bytes, uint32_t count) {
    static int (*real)(void *, const void *, uint32_t);
    if (!real) real = (int (*)(void *, const void *, uint32_t))next("ssh_channel_write");
    if (!counts(SEND)) return real(channel, bytes, count);
    STEP(SEND, count, "-", real(channel, bytes, count));
}

// Only a read that brought something is a step, between libssh's having it and the program's.
int ssh_channel_read_timeout(void *channel, void *bytes, uint32_t count, int is_error_stream, int milliseconds) {
    static int (*real)(void *, void *, uint32_t, int, int);
    if (!real) real = (int (*)(void *, void *, uint32_t, int, int))next("ssh_channel_read_timeout");
    int result = real(channel, bytes, count, is_error_stream, milliseconds);
    if (result > 0 && !is_error_stream && counts(RECEIVE)) end(begin(RECEIVE, result, "-"), 0, "-");
    return result;
}
