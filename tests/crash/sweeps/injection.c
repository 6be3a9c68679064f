/* Strikes at the n-th system call that changes anything below one folder.
 *
 * Preloaded into a process and armed after a fork. It stands in front of the calls of libc, so it
 * sees those of Python, of SQLite and of every other library alike. A call counts if what it is
 * about lies below the folder; what goes to other files and to pipes is left alone.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { NONE, BEFORE, AFTER, TORN, FAIL, FAIL_ON, SHORT, POWER };

static atomic_long steps;
static long strike_at = -1;
static enum kind kind = NONE;
static int failure = 0;
static char root[4096];
static size_t root_length = 0;
static int trace_to = -1;
static int volume = -1;

#define EXT4_IOC_SHUTDOWN 0x8004587dUL
#define NO_LOG_FLUSH 2

/* From now on count; `at` is the first step that is struck, counted from 1, or -1 for none. */
void injection_arm(const char *folder, int what, long at, int error, int trace, int volume_fd) {
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
    kind = what;
    strike_at = at;
    failure = error;
    trace_to = trace;
    volume = volume_fd;
    atomic_store(&steps, 0);
}

long injection_steps(void) { return atomic_load(&steps); }

static void die(void) {
    if (kind == POWER) {
        unsigned flags = NO_LOG_FLUSH;
        syscall(SYS_ioctl, volume, EXT4_IOC_SHUTDOWN, &flags);
    }
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

static int below(const char *path) {
    return root_length && path && !strncmp(path, root, root_length)
        && (path[root_length] == '/' || path[root_length] == 0);
}

static int concerns(int fd, char *path, size_t size) {
    char link[64];
    ssize_t length;
    if (!root_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, size - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static void note(const char *call, const char *path) {
    char line[4300];
    int length;
    if (trace_to < 0) return;
    length = snprintf(line, sizeof line, "%s %s\n", call, path + root_length);
    syscall(SYS_write, trace_to, line, (size_t)length);
}

/* Counts a step. 0: go on; 1: die after the call; 2: do half of it and die; 3: fail; 4: do half. */
static int step(const char *call, const char *path) {
    long now = atomic_fetch_add(&steps, 1) + 1;
    note(call, path);
    if (strike_at < 0 || now < strike_at || (now > strike_at && kind != FAIL_ON)) return 0;
    switch (kind) {
    case BEFORE: case POWER: die(); break;
    case AFTER: return 1;
    case TORN: return 2;
    case FAIL: case FAIL_ON: return 3;
    case SHORT: return 4;
    default: break;
    }
    return 0;
}

#define REAL(name) static typeof(name) *real; if (!real) real = (typeof(real))dlsym(RTLD_NEXT, #name)

/* A call that moves bytes: it can also be torn, or be told that only half of them went. */
#define MOVES(name, declared, fd, size, whole, half)                                              \
    ssize_t name declared {                                                                       \
        char path[4096];                                                                          \
        int verdict;                                                                              \
        ssize_t done;                                                                             \
        REAL(name);                                                                               \
        if (!concerns(fd, path, sizeof path)) return whole;                                       \
        verdict = step(#name, path);                                                              \
        if (verdict == 3) { errno = failure; return -1; }                                         \
        if (verdict == 2 || (verdict == 4 && (size) > 1)) done = half; else done = whole;         \
        if (verdict == 1 || verdict == 2) die();                                                  \
        return done;                                                                              \
    }

/* A call about a descriptor, or about a path, that happens as a whole or not at all. */
#define ACTS(result, name, declared, question, whole)                                             \
    result name declared {                                                                        \
        char path[4096];                                                                          \
        int verdict;                                                                              \
        result done;                                                                              \
        REAL(name);                                                                               \
        if (!(question)) return whole;                                                            \
        verdict = step(#name, path);                                                              \
        if (verdict == 2) die();                                                                  \
        if (verdict == 3) { errno = failure; return -1; }                                         \
        done = whole;                                                                             \
        if (verdict == 1) die();                                                                  \
        return done;                                                                              \
    }

#define ABOUT_FD concerns(fd, path, sizeof path)
#define ABOUT_NAME(name) (below(name) && strncpy(path, name, sizeof path - 1)[0])

MOVES(write, (int fd, const void *data, size_t size), fd, size,
      real(fd, data, size), real(fd, data, size / 2))
MOVES(pwrite, (int fd, const void *data, size_t size, off_t at), fd, size,
      real(fd, data, size, at), real(fd, data, size / 2, at))
MOVES(pwrite64, (int fd, const void *data, size_t size, off64_t at), fd, size,
      real(fd, data, size, at), real(fd, data, size / 2, at))
MOVES(sendfile, (int fd, int from, off_t *at, size_t size), fd, size,
      real(fd, from, at, size), real(fd, from, at, size / 2))
MOVES(sendfile64, (int fd, int from, off64_t *at, size_t size), fd, size,
      real(fd, from, at, size), real(fd, from, at, size / 2))
MOVES(copy_file_range, (int from, off64_t *a, int fd, off64_t *b, size_t size, unsigned flags), fd,
      size, real(from, a, fd, b, size, flags), real(from, a, fd, b, size / 2, flags))

ACTS(ssize_t, writev, (int fd, const struct iovec *data, int count), ABOUT_FD,
     real(fd, data, count))
ACTS(int, fsync, (int fd), ABOUT_FD, real(fd))
ACTS(int, fdatasync, (int fd), ABOUT_FD, real(fd))
ACTS(int, ftruncate, (int fd, off_t size), ABOUT_FD, real(fd, size))
ACTS(int, ftruncate64, (int fd, off64_t size), ABOUT_FD, real(fd, size))
ACTS(int, fallocate, (int fd, int mode, off_t at, off_t size), ABOUT_FD, real(fd, mode, at, size))
ACTS(int, fallocate64, (int fd, int mode, off64_t at, off64_t size), ABOUT_FD,
     real(fd, mode, at, size))
ACTS(int, unlink, (const char *name), ABOUT_NAME(name), real(name))
ACTS(int, rmdir, (const char *name), ABOUT_NAME(name), real(name))
ACTS(int, mkdir, (const char *name, mode_t mode), ABOUT_NAME(name), real(name, mode))
ACTS(int, rename, (const char *old, const char *name), ABOUT_NAME(name), real(old, name))

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t at) {
    char path[4096];
    int verdict = 0;
    void *done;
    REAL(mmap);
    if (fd >= 0 && flags & MAP_SHARED && protection & PROT_WRITE && ABOUT_FD) {
        verdict = step("mmap", path);
        if (verdict == 2) die();
        if (verdict == 3) { errno = failure; return MAP_FAILED; }
    }
    done = real(address, size, protection, flags, fd, at);
    if (verdict == 1) die();
    return done;
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t at) {
    return mmap(address, size, protection, flags, fd, at);
}

/* Opening counts where it may create. */
#define OPENS(name)                                                                               \
    int name(const char *file, int flags, ...) {                                                  \
        char path[4096];                                                                          \
        int verdict = 0, done, mode = 0;                                                          \
        va_list more;                                                                             \
        REAL(name);                                                                               \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                      \
            va_start(more, flags);                                                                \
            mode = va_arg(more, int);                                                             \
            va_end(more);                                                                         \
        }                                                                                         \
        if (flags & O_CREAT && ABOUT_NAME(file)) {                                                \
            path[sizeof path - 1] = 0;                                                            \
            verdict = step(#name, path);                                                          \
            if (verdict == 2) die();                                                              \
            if (verdict == 3) { errno = failure; return -1; }                                     \
        }                                                                                         \
        done = real(file, flags, mode);                                                           \
        if (verdict == 1) die();                                                                  \
        return done;                                                                              \
    }

OPENS(open)
OPENS(open64)
