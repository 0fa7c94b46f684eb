#define _GNU_SOURCE
#include "CLinux.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

_Static_assert(CLINUX_O_PATH == O_PATH, "O_PATH");
_Static_assert(CLINUX_O_NOATIME == O_NOATIME, "O_NOATIME");
_Static_assert(CLINUX_AT_EMPTY_PATH == AT_EMPTY_PATH, "AT_EMPTY_PATH");

// Times outside 1678 to 2262 do not fit and become the nearest that does.
static int64_t nanoseconds(struct statx_timestamp time) {
    int64_t result;
    if (__builtin_mul_overflow((int64_t)time.tv_sec, (int64_t)1000000000, &result) ||
        __builtin_add_overflow(result, (int64_t)time.tv_nsec, &result))
        return time.tv_sec < 0 ? INT64_MIN : INT64_MAX;
    return result;
}

int clinux_status_at(int directory, const char *name, int follow, struct clinux_status *out) {
    struct statx found;
    int flags = (follow ? 0 : AT_SYMLINK_NOFOLLOW) | (name[0] == 0 ? AT_EMPTY_PATH : 0);
    if (statx(directory, name, flags, STATX_BASIC_STATS, &found) != 0) return -1;
    out->mode = found.stx_mode;
    out->uid = found.stx_uid;
    out->gid = found.stx_gid;
    out->links = found.stx_nlink;
    out->inode = found.stx_ino;
    out->device = makedev(found.stx_dev_major, found.stx_dev_minor);
    out->rdev = makedev(found.stx_rdev_major, found.stx_rdev_minor);
    out->size = found.stx_size;
    out->mtime = nanoseconds(found.stx_mtime);
    out->ctime = nanoseconds(found.stx_ctime);
    return 0;
}

int clinux_open_beneath(int directory, const char *path, int flags) {
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int clinux_exit_code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -1; }
int clinux_term_signal(int status) { return WIFSIGNALED(status) ? WTERMSIG(status) : 0; }

int64_t clinux_fgetxattr(int fd, const char *name, void *value, uint64_t size) {
    return fgetxattr(fd, name, value, size);
}
int64_t clinux_flistxattr(int fd, char *list, uint64_t size) { return flistxattr(fd, list, size); }
int clinux_fsetxattr(int fd, const char *name, const void *value, uint64_t size) {
    return fsetxattr(fd, name, value, size, 0);
}
int64_t clinux_lgetxattr(const char *path, const char *name, void *value, uint64_t size) {
    return lgetxattr(path, name, value, size);
}
int64_t clinux_llistxattr(const char *path, char *list, uint64_t size) {
    return llistxattr(path, list, size);
}
int clinux_lsetxattr(const char *path, const char *name, const void *value, uint64_t size) {
    return lsetxattr(path, name, value, size, 0);
}

int clinux_rename_without_replacing(int directory, const char *from, const char *to) {
    return renameat2(directory, from, directory, to, RENAME_NOREPLACE);
}

int clinux_sync_file_system(int fd) { return syncfs(fd); }

int clinux_random(void *buffer, size_t size) {
    uint8_t *next = buffer;
    while (size > 0) {
        ssize_t got = getrandom(next, size, 0);
        if (got < 0) {
            if (errno == EINTR) continue;
            return -1;
        }
        next += got;
        size -= (size_t)got;
    }
    return 0;
}

int clinux_set_idle_priority(void) {
    int first = 0;
    struct sched_param none = {0};
    if (setpriority(PRIO_PROCESS, 0, 19) != 0) first = errno;
    if (sched_setscheduler(0, SCHED_IDLE, &none) != 0 && first == 0) first = errno;
    // IOPRIO_WHO_PROCESS = 1, this process = 0, class IDLE = 3 in the top three bits.
    if (syscall(SYS_ioprio_set, 1, 0, 3 << 13) != 0 && first == 0) first = errno;
    if (first == 0) return 0;
    errno = first;
    return -1;
}

int clinux_file_system_space(int fd, uint64_t *free_bytes, uint64_t *total_bytes) {
    struct statvfs found;
    if (fstatvfs(fd, &found) != 0) return -1;
    *free_bytes = (uint64_t)found.f_bavail * found.f_frsize;
    *total_bytes = (uint64_t)found.f_blocks * found.f_frsize;
    return 0;
}

void clinux_name_thread(const char *name) { prctl(PR_SET_NAME, name); }

int clinux_tcp_liveness(int fd, int idle, int interval, int count, unsigned user_timeout_ms) {
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof count) != 0) return -1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0) return -1;
    return setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
}

int clinux_tcp_silence(int fd, int *waits, uint32_t *milliseconds) {
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return -1;
    *waits = info.tcpi_unacked > 0 || info.tcpi_probes > 0;
    *milliseconds = info.tcpi_last_ack_recv;
    return 0;
}

int clinux_set_close_on_exec(int fd, int on) { return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0); }

static int set_status_flag(int fd, int flag, int on) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) return -1;
    return fcntl(fd, F_SETFL, on ? flags | flag : flags & ~flag);
}

int clinux_set_nonblocking(int fd, int on) { return set_status_flag(fd, O_NONBLOCK, on); }

int clinux_set_direct(int fd, int on) { return set_status_flag(fd, O_DIRECT, on); }

int clinux_terminal_columns(int fd) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0) return 0;
    return size.ws_col;
}

int clinux_terminal_lines(int fd) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0) return 0;
    return size.ws_row;
}

int clinux_start_writeback(int fd, int64_t offset, int64_t length) {
    return sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE);
}


int clinux_is_cached(int fd, int64_t offset) {
    char byte;
    struct iovec into = {&byte, 1};
    ssize_t got = preadv2(fd, &into, 1, offset, RWF_NOWAIT);
    if (got == 1) return 1;
    return got < 0 && errno == EAGAIN ? 0 : -1;
}

void clinux_reach_files_as(uint32_t uid) { setfsuid(uid); }

void clinux_hide_memory(void) {
    struct rlimit none = {0, 0};
    setrlimit(RLIMIT_CORE, &none);
    // A core that is piped to a program does not ask for the limit.
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

int clinux_limit_memory(uint64_t bytes) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_DATA, &limit) != 0) return -1;
    limit.rlim_cur = limit.rlim_max != RLIM_INFINITY && bytes > limit.rlim_max ? limit.rlim_max : bytes;
    return setrlimit(RLIMIT_DATA, &limit);
}

void clinux_return_freed_memory(void) { malloc_trim(0); }

int64_t clinux_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    return (int64_t)limit.rlim_cur;
}

void clinux_spawn_close_from(void *actions, int first) {
    posix_spawn_file_actions_addclosefrom_np(actions, first);
}

char **clinux_environment(void) { return environ; }

int __xpg_strerror_r(int code, char *buffer, size_t size);
int clinux_strerror(int code, char *buffer, size_t size) { return __xpg_strerror_r(code, buffer, size); }

int clinux_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }
