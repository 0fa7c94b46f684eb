// The calls of Linux that Swift's Glibc module does not import: GNU-only functions, macros and variadic
// functions. Only plain integers and pointers appear here, and no system header is included, because a
// second view of the system headers clashes with Glibc's own.
#pragma once
#include <stddef.h>
#include <stdint.h>

enum {
    CLINUX_O_PATH = 010000000,
    CLINUX_O_NOATIME = 01000000,
    CLINUX_AT_EMPTY_PATH = 0x1000,
};

/// What statx(2) says of an entry; times are nanoseconds since 1970-01-01T00:00:00Z.
struct clinux_status {
    uint32_t mode;   // st_mode: type and permission bits
    uint32_t uid;
    uint32_t gid;
    uint32_t links;
    uint64_t inode;
    uint64_t device;   // makedev(major, minor) of the file system
    uint64_t rdev;     // makedev(major, minor) of a device node
    uint64_t size;     // bytes
    int64_t mtime;
    int64_t ctime;
};

/// statx(2) without following a final symbolic link unless `follow`; an empty name means `directory` itself.
/// Returns 0, or -1 with errno.
int clinux_status_at(int directory, const char *name, int follow, struct clinux_status *out);

/// Opens `path`, relative and of several components, below `directory` and nowhere else: no component may be a
/// symbolic link or lead out (openat2(2)). Returns the descriptor, close-on-exec, or -1 with errno; ENOSYS before
/// Linux 5.6.
int clinux_open_beneath(int directory, const char *path, int flags);

/// Exit code of a waitpid status, or -1 when a signal ended the child.
int clinux_exit_code(int status);
/// Signal that ended the child, or 0.
int clinux_term_signal(int status);

/// Extended attributes of an open file (fgetxattr(2), flistxattr(2), fsetxattr(2)) and of a path that is not
/// followed (lgetxattr(2), llistxattr(2), lsetxattr(2)).
int64_t clinux_fgetxattr(int fd, const char *name, void *value, uint64_t size);
int64_t clinux_flistxattr(int fd, char *list, uint64_t size);
int clinux_fsetxattr(int fd, const char *name, const void *value, uint64_t size);
int64_t clinux_lgetxattr(const char *path, const char *name, void *value, uint64_t size);
int64_t clinux_llistxattr(const char *path, char *list, uint64_t size);
int clinux_lsetxattr(const char *path, const char *name, const void *value, uint64_t size);

/// renameat2(2) inside one directory with RENAME_NOREPLACE. Returns 0 or -1 with errno.
int clinux_rename_without_replacing(int directory, const char *from, const char *to);

/// syncfs(2): all of the file system that holds `fd`. Returns 0 or -1 with errno.
int clinux_sync_file_system(int fd);

/// Fills `buffer` from getrandom(2). Returns 0, or -1 with errno.
int clinux_random(void *buffer, size_t size);

/// Lowest CPU priority (SCHED_IDLE and nice 19) and the idle class of I/O for the calling process.
/// Returns 0, or -1 with the errno of the first call that failed; the others are tried all the same.
int clinux_set_idle_priority(void);

/// Free bytes for unprivileged users and the total, of the file system that holds `fd`.
int clinux_file_system_space(int fd, uint64_t *free_bytes, uint64_t *total_bytes);

/// Names the calling thread (at most 15 bytes are kept).
void clinux_name_thread(const char *name);

/// Tunes a connected TCP socket: keep-alive after `idle` seconds every `interval` seconds, and the user
/// time-out after which unacknowledged data ends the connection (milliseconds). Returns 0 or -1 with errno.
int clinux_tcp_liveness(int fd, int idle, int interval, int count, unsigned user_timeout_ms);

/// Whether a TCP socket waits for an answer from the other machine (data or a probe of a closed window that is not
/// acknowledged), and the milliseconds since the last one came (TCP_INFO). Returns 0 or -1 with errno.
int clinux_tcp_silence(int fd, int *waits, uint32_t *milliseconds);

/// pipe2(2) with O_CLOEXEC: the read end, then the write end. Returns 0 or -1 with errno.
int clinux_pipe(int ends[2]);

/// fcntl(2) and ioctl(2) are variadic.
int clinux_set_close_on_exec(int fd, int on);
int clinux_set_nonblocking(int fd, int on);
/// O_DIRECT, whose value depends on the processor. Returns 0, or -1 with errno where the file system has none.
int clinux_set_direct(int fd, int on);
/// Columns of the terminal `fd`, or 0 when it is none.
int clinux_terminal_columns(int fd);
/// Lines of it, or 0.
int clinux_terminal_lines(int fd);

/// Starts writing dirty pages of a range without waiting (sync_file_range(2)).
int clinux_start_writeback(int fd, int64_t offset, int64_t length);

/// Whether the byte at `offset` is in the page cache, so that reading it costs no I/O (preadv2(2) with RWF_NOWAIT).
/// 1 yes, 0 no, -1 the file system can't tell.
int clinux_is_cached(int fd, int64_t offset);

/// Lets the calling thread, and no other, reach files with the rights of user `uid` (setfsuid(2)).
void clinux_reach_files_as(uint32_t uid);

/// Keeps this process's memory out of core dumps and away from other processes of its user (PR_SET_DUMPABLE,
/// RLIMIT_CORE).
void clinux_hide_memory(void);

/// Sets the soft limit of private writable memory (RLIMIT_DATA), in bytes, at most the hard one; children get it too.
/// Returns 0, or -1 with errno.
int clinux_limit_memory(uint64_t bytes);

/// malloc_trim(3): what was freed goes back to the machine.
void clinux_return_freed_memory(void);

/// Lifts the soft limit of open descriptors to the hard one. Returns the limit, or -1 with errno.
int64_t clinux_raise_descriptor_limit(void);

/// Adds to `actions` (a posix_spawn_file_actions_t) that the child closes every descriptor from `first` on.
void clinux_spawn_close_from(void *actions, int first);

/// The environment of this process (environ(7)).
char **clinux_environment(void);

/// strerror_r(3), the POSIX one. Returns 0 or an errno.
int clinux_strerror(int code, char *buffer, size_t size);

