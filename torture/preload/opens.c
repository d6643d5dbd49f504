/* Who opens LMDB's lock file while LMDB has it open?
 *
 * POSIX drops every fcntl lock that a process holds on a file as soon as the process closes any descriptor of it. So whoever
 * opens lock.mdb beside LMDB, and closes it, takes LMDB's locks away. This library stands before libc's ways to open a
 * file. It knows a lock file by device and inode, whatever it is called, from the moment when LMDB's own code opened it until
 * LMDB closed that descriptor, in the process that did so.
 *
 * VARVE_OPENS: a folder. "seen" there is three counters of 64 bits: files opened, lock files opened by LMDB, processes.
 * "found" gets a line for each file that should not have been opened.
 *
 * Nothing here takes a lock: a process may fork or share its memory with a child (vfork) at any time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HELD_MAX = 1024, FREE = 0, FILLING = 1, HELD = 2 };

static struct held {
    _Atomic int state;
    int fd;
    pid_t pid;
    dev_t device;
    ino_t inode;
} held[HELD_MAX];

static _Atomic uint64_t *seen;

static void *next(const char *name) {
    return dlsym(RTLD_NEXT, name);
}

static int plain_open(const char *path, int flags, mode_t mode) {
    static int (*open_)(const char *, int, ...);
    if (!open_) open_ = (int (*)(const char *, int, ...))next("open64");
    return open_(path, flags, mode);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("VARVE_OPENS");
    char path[4096];
    if (!folder) return;
    snprintf(path, sizeof path, "%s/seen", folder);
    int fd = plain_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return;
    if (!ftruncate(fd, 4096)) {
        void *mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) seen = mapped;
    }
    ((int (*)(int))next("close"))(fd);
    if (seen) atomic_fetch_add(&seen[2], 1);
}

static void tell(const char *what, const char *path, const char *whose) {
    const char *folder = getenv("VARVE_OPENS");
    char name[4096], line[8192];
    if (!folder) return;
    snprintf(name, sizeof name, "%s/found", folder);
    int fd = plain_open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return;
    int length = snprintf(line, sizeof line, "%d: %s %s (from %s)\n", (int)getpid(), what, path, whose ? whose : "?");
    if (write(fd, line, (size_t)length) != length) abort();
    ((int (*)(int))next("close"))(fd);
}

/* What was opened, and from whose code. */
static void opened(int fd, const char *path, void *caller) {
    int error = errno;
    struct stat status;
    Dl_info from = {0};
    if (!seen || fd < 0) return;
    atomic_fetch_add(&seen[0], 1);
    if (fstat(fd, &status) || !S_ISREG(status.st_mode)) goto end;
    dladdr(caller, &from);
    pid_t me = getpid();
    int is_held = 0;
    for (int i = 0; i < HELD_MAX; i++)
        if (atomic_load(&held[i].state) == HELD && held[i].pid == me && held[i].device == status.st_dev &&
            held[i].inode == status.st_ino)
            is_held = 1;
    if (is_held) {
        tell("opened while LMDB has it open:", path, from.dli_fname);
        goto end;
    }
    const char *name = strrchr(path, '/');
    if (strcmp(name ? name + 1 : path, "lock.mdb") || !from.dli_fname || !strstr(from.dli_fname, "/lmdb/")) goto end;
    atomic_fetch_add(&seen[1], 1);
    for (int i = 0; i < HELD_MAX; i++) {
        int expected = FREE;
        if (atomic_load(&held[i].state) == HELD && held[i].pid != me) { /* of the process that forked this one */
            expected = HELD;
        }
        if (atomic_compare_exchange_strong(&held[i].state, &expected, FILLING)) {
            held[i].fd = fd;
            held[i].pid = me;
            held[i].device = status.st_dev;
            held[i].inode = status.st_ino;
            atomic_store(&held[i].state, HELD);
            goto end;
        }
    }
end:
    errno = error;
}

int close(int fd) {
    static int (*close_)(int);
    if (!close_) close_ = (int (*)(int))next("close");
    pid_t me = 0;
    for (int i = 0; i < HELD_MAX; i++)
        if (atomic_load(&held[i].state) == HELD && held[i].fd == fd) {
            if (!me) me = getpid();
            if (held[i].pid == me) atomic_store(&held[i].state, FREE);
        }
    return close_(fd);
}

#define MODE(flags, last)                                                                                              \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, last);                                                                                          \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...) {                                                                       \
        static int (*real)(const char *, int, ...);                                                                    \
        if (!real) real = (int (*)(const char *, int, ...))next(#name);                                                \
        MODE(flags, flags)                                                                                             \
        int fd = real(path, flags, mode);                                                                              \
        opened(fd, path, __builtin_return_address(0));                                                                 \
        return fd;                                                                                                     \
    }

#define OPENAT(name)                                                                                                   \
    int name(int folder, const char *path, int flags, ...) {                                                           \
        static int (*real)(int, const char *, int, ...);                                                               \
        if (!real) real = (int (*)(int, const char *, int, ...))next(#name);                                           \
        MODE(flags, flags)                                                                                             \
        int fd = real(folder, path, flags, mode);                                                                      \
        opened(fd, path, __builtin_return_address(0));                                                                 \
        return fd;                                                                                                     \
    }

#define FOPEN(name)                                                                                                    \
    FILE *name(const char *path, const char *how) {                                                                    \
        static FILE *(*real)(const char *, const char *);                                                              \
        if (!real) real = (FILE * (*)(const char *, const char *)) next(#name);                                        \
        FILE *file = real(path, how);                                                                                  \
        if (file) opened(fileno(file), path, __builtin_return_address(0));                                             \
        return file;                                                                                                   \
    }

#define CREAT(name)                                                                                                    \
    int name(const char *path, mode_t mode) {                                                                          \
        static int (*real)(const char *, mode_t);                                                                      \
        if (!real) real = (int (*)(const char *, mode_t))next(#name);                                                  \
        int fd = real(path, mode);                                                                                     \
        opened(fd, path, __builtin_return_address(0));                                                                 \
        return fd;                                                                                                     \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)
CREAT(creat)
CREAT(creat64)
