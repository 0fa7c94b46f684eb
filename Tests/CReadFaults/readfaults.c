#define _GNU_SOURCE
#include "CReadFaults.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_int armed;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static char wanted[512];
static int wanted_fault, left_alone, left, done;

void readfault_arm(const char *path, int fault, int skip, int count) {
    pthread_mutex_lock(&guard);
    snprintf(wanted, sizeof wanted, "%s", path);
    wanted_fault = fault;
    left_alone = skip;
    left = count;
    done = 0;
    pthread_mutex_unlock(&guard);
    atomic_store(&armed, 1);
}

int readfault_disarm(void) {
    atomic_store(&armed, 0);
    pthread_mutex_lock(&guard);
    int result = done;
    pthread_mutex_unlock(&guard);
    return result;
}

// The fault that is due for this descriptor, or 0.
static int due(int fd) {
    if (!atomic_load(&armed)) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    int result = 0;
    pthread_mutex_lock(&guard);
    if (strstr(path, wanted)) {
        if (left_alone > 0) {
            left_alone--;
        } else if (left > 0) {
            left--;
            done++;
            result = wanted_fault;
        }
    }
    pthread_mutex_unlock(&guard);
    return result;
}

static ssize_t faulty(int fd, void *buffer, size_t count, off_t offset, int positioned) {
    int fault = due(fd);
    if (fault == readfault_error) {
        errno = EIO;
        return -1;
    }
    if (fault == readfault_end) return 0;
    if (fault == readfault_short && count > 1) count = (count + 1) / 2;
    ssize_t got = positioned ? syscall(SYS_pread64, fd, buffer, count, offset)
                             : syscall(SYS_read, fd, buffer, count);
    if (fault == readfault_wrong && got > 0) ((unsigned char *)buffer)[got / 2] ^= 0x10;
    return got;
}

ssize_t read(int fd, void *buffer, size_t count) { return faulty(fd, buffer, count, 0, 0); }
ssize_t pread(int fd, void *buffer, size_t count, off_t offset) { return faulty(fd, buffer, count, offset, 1); }
ssize_t pread64(int fd, void *buffer, size_t count, off64_t offset) { return faulty(fd, buffer, count, offset, 1); }
