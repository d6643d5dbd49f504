/* Stands between a process and the kernel and spoils chosen system calls on the files under one folder: the n-th one fails,
 * lands and reports a failure, writes short, or ends the process on the spot. Driven by torture/preload/fail.py. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

/* The names stand in torture/preload/fail.py in this order. */
enum kind { OPEN, READ, WRITE, SYNC, TRUNCATE, MAP, RENAME, MKDIR, UNLINK, FLOCK, FCNTL, SEEK, BIND, CONNECT, SEND };
enum action { COUNT, ERROR, LATE_ERROR, SHORT, KILL_BEFORE, KILL_AFTER, SILENT };

#define CALLS_MAX 65536
#define NAME_MAX_BYTES 40

struct call {
    int kind;
    int spoiled;
    char name[NAME_MAX_BYTES];
};

static char folder[PATH_MAX];
static size_t folder_bytes;
static unsigned kinds;
static unsigned kinds_later;
static long nth;
static long times_left;
static enum action action;
static int error_number;
static atomic_int armed;
static atomic_long seen;
static atomic_long hits;
static atomic_long synced;
static struct call calls[CALLS_MAX];
static char sockets[1024];
static atomic_flag lock = ATOMIC_FLAG_INIT;

void fail_arm(const char *where, unsigned which, unsigned later, long at, long times, int what, int number) {
    snprintf(folder, sizeof folder, "%s", where);
    folder_bytes = strlen(folder);
    kinds = which;
    kinds_later = later;
    nth = at;
    times_left = times;
    action = (enum action)what;
    error_number = number;
    atomic_store(&seen, 0);
    atomic_store(&hits, 0);
    atomic_store(&armed, 1);
}

void fail_disarm(void) { atomic_store(&armed, 0); }
long fail_seen(void) { return atomic_load(&seen); }
long fail_hits(void) { return atomic_load(&hits); }
long fail_synced(void) { return atomic_load(&synced); }

int fail_call(long at, char *name, int *spoiled) {
    if (at < 0 || at >= CALLS_MAX || at >= atomic_load(&seen)) return -1;
    memcpy(name, calls[at].name, NAME_MAX_BYTES);
    *spoiled = calls[at].spoiled;
    return calls[at].kind;
}

static int is_inside(const char *path) {
    return strncmp(path, folder, folder_bytes) == 0 && (path[folder_bytes] == '/' || path[folder_bytes] == 0);
}

/* What is to become of this call, noted. */
static enum action decide(enum kind kind, const char *path) {
    enum action what = COUNT;
    long at;
    if (!is_inside(path)) return COUNT;
    while (atomic_flag_test_and_set(&lock)) {}
    if (((kinds | kinds_later) >> kind & 1) == 0) goto end;
    at = atomic_load(&seen);
    if (kinds >> kind & 1) atomic_store(&seen, at + 1); else at = -1;
    if (at >= 0 && at < CALLS_MAX) {
        const char *last = strrchr(path, '/');
        calls[at].kind = (int)kind;
        calls[at].spoiled = 0;
        snprintf(calls[at].name, NAME_MAX_BYTES, "%s", path[folder_bytes] == 0 ? "." : last + 1);
    }
    if ((at >= 0 && at + 1 == nth) || (atomic_load(&hits) > 0 && kinds_later >> kind & 1)) {
        if (times_left > 0) {
            times_left--;
            atomic_fetch_add(&hits, 1);
            if (at >= 0 && at < CALLS_MAX) calls[at].spoiled = 1;
            what = action;
        }
    }
end:
    atomic_flag_clear(&lock);
    if (what == KILL_BEFORE) kill(getpid(), SIGKILL);
    return what;
}

static enum action decide_fd(enum kind kind, int fd) {
    char link[32], path[PATH_MAX];
    ssize_t length;
    int kept = errno;
    if (!atomic_load(&armed)) return COUNT;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    errno = kept;
    if (length <= 0) return COUNT;
    path[length] = 0;
    return decide(kind, path);
}

static enum action decide_path(enum kind kind, const char *path) {
    return atomic_load(&armed) ? decide(kind, path) : COUNT;
}

static enum action decide_address(enum kind kind, int fd, const struct sockaddr *address, socklen_t bytes) {
    char path[sizeof(struct sockaddr_un)];
    size_t path_bytes;
    if (!atomic_load(&armed) || address == NULL || address->sa_family != AF_UNIX) return COUNT;
    path_bytes = bytes - offsetof(struct sockaddr_un, sun_path);
    if (path_bytes >= sizeof path) path_bytes = sizeof path - 1;
    memcpy(path, ((const struct sockaddr_un *)address)->sun_path, path_bytes);
    path[path_bytes] = 0;
    if (fd >= 0 && fd < (int)sizeof sockets) sockets[fd] = (char)is_inside(path);
    return decide(kind, path);
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

#define REAL(type, name, ...)                                  \
    static type (*real)(__VA_ARGS__);                          \
    if (real == NULL) real = (type(*)(__VA_ARGS__))next(#name)

/* The call and what was decided of it: `how` is the call itself. */
#define CARRY_OUT(type, what, how, failure)                    \
    do {                                                       \
        type result;                                           \
        if (what == ERROR) { errno = error_number; return failure; } \
        result = how;                                          \
        if (what == KILL_AFTER) kill(getpid(), SIGKILL);       \
        if (what == LATE_ERROR) { errno = error_number; return failure; } \
        return result;                                         \
    } while (0)

static int wants_mode(int flags) { return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE; }

#define MODE_OF(flags)                                         \
    mode_t mode = 0;                                           \
    if (wants_mode(flags)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }

#define OPENS(name)                                            \
    int name(const char *path, int flags, ...) {               \
        enum action what = decide_path(OPEN, path);            \
        MODE_OF(flags)                                         \
        REAL(int, name, const char *, int, ...);               \
        CARRY_OUT(int, what, real(path, flags, mode), -1);     \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name)                                         \
    int name(int at, const char *path, int flags, ...) {       \
        enum action what = decide_path(OPEN, path);            \
        MODE_OF(flags)                                         \
        REAL(int, name, int, const char *, int, ...);          \
        CARRY_OUT(int, what, real(at, path, flags, mode), -1); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define PREADS(name)                                           \
    ssize_t name(int fd, void *into, size_t bytes, off_t at) { \
        enum action what = decide_fd(READ, fd);                \
        REAL(ssize_t, name, int, void *, size_t, off_t);       \
        if (what == SHORT) bytes /= 2;                         \
        CARRY_OUT(ssize_t, what, real(fd, into, bytes, at), -1); \
    }
PREADS(pread)
PREADS(pread64)

ssize_t read(int fd, void *into, size_t bytes) {
    enum action what = decide_fd(READ, fd);
    REAL(ssize_t, read, int, void *, size_t);
    if (what == SHORT) bytes /= 2;
    CARRY_OUT(ssize_t, what, real(fd, into, bytes), -1);
}

#define PWRITES(name)                                          \
    ssize_t name(int fd, const void *from, size_t bytes, off_t at) { \
        enum action what = decide_fd(WRITE, fd);               \
        REAL(ssize_t, name, int, const void *, size_t, off_t); \
        if (what == SHORT) bytes /= 2;                         \
        CARRY_OUT(ssize_t, what, real(fd, from, bytes, at), -1); \
    }
PWRITES(pwrite)
PWRITES(pwrite64)

ssize_t write(int fd, const void *from, size_t bytes) {
    enum action what = decide_fd(WRITE, fd);
    REAL(ssize_t, write, int, const void *, size_t);
    if (what == SHORT) bytes /= 2;
    CARRY_OUT(ssize_t, what, real(fd, from, bytes), -1);
}

/* The first half of what a vector holds, in bytes. */
static int halved(const struct iovec *vector, int count, struct iovec *half) {
    size_t bytes = 0;
    int used = 0;
    for (int i = 0; i < count; i++) bytes += vector[i].iov_len;
    for (bytes /= 2; bytes > 0; used++) {
        half[used] = vector[used];
        if (half[used].iov_len > bytes) half[used].iov_len = bytes;
        bytes -= half[used].iov_len;
    }
    return used;
}

ssize_t writev(int fd, const struct iovec *vector, int count) {
    enum action what = decide_fd(WRITE, fd);
    struct iovec half[IOV_MAX];
    REAL(ssize_t, writev, int, const struct iovec *, int);
    if (what == SHORT) { count = halved(vector, count, half); vector = half; }
    CARRY_OUT(ssize_t, what, real(fd, vector, count), -1);
}

#define PWRITEVS(name)                                         \
    ssize_t name(int fd, const struct iovec *vector, int count, off_t at) { \
        enum action what = decide_fd(WRITE, fd);               \
        struct iovec half[IOV_MAX];                            \
        REAL(ssize_t, name, int, const struct iovec *, int, off_t); \
        if (what == SHORT) { count = halved(vector, count, half); vector = half; } \
        CARRY_OUT(ssize_t, what, real(fd, vector, count, at), -1); \
    }
PWRITEVS(pwritev)
PWRITEVS(pwritev64)

#define SYNCS(name)                                            \
    int name(int fd) {                                         \
        enum action what = decide_fd(SYNC, fd);                \
        REAL(int, name, int);                                  \
        if (what == SILENT) return 0;                          \
        if (what == COUNT && atomic_load(&armed)) atomic_fetch_add(&synced, 1); \
        CARRY_OUT(int, what, real(fd), -1);                    \
    }
SYNCS(fsync)
SYNCS(fdatasync)

#define TRUNCATES(name)                                        \
    int name(int fd, off_t bytes) {                            \
        enum action what = decide_fd(TRUNCATE, fd);            \
        REAL(int, name, int, off_t);                           \
        CARRY_OUT(int, what, real(fd, bytes), -1);             \
    }
TRUNCATES(ftruncate)
TRUNCATES(ftruncate64)

#define MAPS(name)                                             \
    void *name(void *where, size_t bytes, int protection, int flags, int fd, off_t at) { \
        enum action what = fd < 0 ? COUNT : decide_fd(MAP, fd); \
        REAL(void *, name, void *, size_t, int, int, int, off_t); \
        CARRY_OUT(void *, what, real(where, bytes, protection, flags, fd, at), MAP_FAILED); \
    }
MAPS(mmap)
MAPS(mmap64)

int rename(const char *from, const char *to) {
    enum action what = decide_path(RENAME, to);
    REAL(int, rename, const char *, const char *);
    CARRY_OUT(int, what, real(from, to), -1);
}

int mkdir(const char *path, mode_t mode) {
    enum action what = decide_path(MKDIR, path);
    REAL(int, mkdir, const char *, mode_t);
    CARRY_OUT(int, what, real(path, mode), -1);
}

int unlink(const char *path) {
    enum action what = decide_path(UNLINK, path);
    REAL(int, unlink, const char *);
    CARRY_OUT(int, what, real(path), -1);
}

int flock(int fd, int how) {
    enum action what = decide_fd(FLOCK, fd);
    REAL(int, flock, int, int);
    CARRY_OUT(int, what, real(fd, how), -1);
}

static int is_locking(int command) {
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK;
}

#define FCNTLS(name)                                           \
    int name(int fd, int command, ...) {                       \
        enum action what = is_locking(command) ? decide_fd(FCNTL, fd) : COUNT; \
        void *argument;                                        \
        va_list more;                                          \
        REAL(int, name, int, int, ...);                        \
        va_start(more, command);                               \
        argument = va_arg(more, void *);                       \
        va_end(more);                                          \
        CARRY_OUT(int, what, real(fd, command, argument), -1); \
    }
FCNTLS(fcntl)
FCNTLS(fcntl64)

#define SEEKS(name)                                            \
    off_t name(int fd, off_t at, int from) {                   \
        enum action what = decide_fd(SEEK, fd);                \
        REAL(off_t, name, int, off_t, int);                    \
        CARRY_OUT(off_t, what, real(fd, at, from), -1);        \
    }
SEEKS(lseek)
SEEKS(lseek64)

int bind(int fd, const struct sockaddr *address, socklen_t bytes) {
    enum action what = decide_address(BIND, fd, address, bytes);
    REAL(int, bind, int, const struct sockaddr *, socklen_t);
    CARRY_OUT(int, what, real(fd, address, bytes), -1);
}

int connect(int fd, const struct sockaddr *address, socklen_t bytes) {
    enum action what = decide_address(CONNECT, fd, address, bytes);
    REAL(int, connect, int, const struct sockaddr *, socklen_t);
    CARRY_OUT(int, what, real(fd, address, bytes), -1);
}

ssize_t send(int fd, const void *from, size_t bytes, int flags) {
    int ours = atomic_load(&armed) && fd >= 0 && fd < (int)sizeof sockets && sockets[fd];
    enum action what = ours ? decide(SEND, folder) : COUNT;
    REAL(ssize_t, send, int, const void *, size_t, int);
    CARRY_OUT(ssize_t, what, real(fd, from, bytes, flags), -1);
}
