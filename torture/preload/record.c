/*
 * Writes down, in one order, what a process does to the files of one folder: every write with its data, every fsync
 * with its beginning and its end, every change of a name, and the marks that the process itself puts between them.
 *
 * It begins when the process calls varve_record_begin(folder, log, kill_at): the folder is absolute, and only what lies in it
 * is recorded; records are appended to the log; if kill_at is not 0 the process ends at once, as by kill -9, with status 96, when
 * it has written so many records. Another process may go on with the same folder and log then.
 *
 * A record is a header and `length` bytes:
 *
 *     u32 kind | u32 thread | u64 inode | u64 offset | u64 length | bytes
 *
 * Order. A write into the page cache is made and recorded under one lock, so the order of the records is the order in
 * which the page cache changed. An fsync and a write through an O_DSYNC descriptor take their time on the disk: their
 * beginning and their end are records of their own, and what was written before the beginning is durable at the end.
 * The lock is not held in between, so threads run beside each other as they would.
 *
 * Not seen, since LMDB and Varve do not do it: shared writable maps (MDB_WRITEMAP), copy_file_range, io_uring.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    CREATED = 1,    /* a file got a name; bytes: the path */
    FOLDER = 2,     /* a folder was made; bytes: the path */
    RENAMED = 3,    /* bytes: old path, NUL, new path */
    LINKED = 4,     /* as RENAMED, and the old name stays */
    REMOVED = 5,    /* a name went; bytes: the path */
    WRITTEN = 6,    /* into the page cache, at offset */
    SIZED = 7,      /* offset: the file's new length */
    SYNC_BEGUN = 8, /* fsync, fdatasync; offset: a number that its end repeats */
    SYNC_ENDED = 9,
    THROUGH = 10,   /* the write just recorded began through O_DSYNC: thread tells which */
    THROUGH_ENDED = 11,
    MARK = 12,      /* bytes: what the process said */
    MET = 13,       /* a file or folder that was there before was opened; bytes: the path */
};

#define FDS 4096
#define PATHS 4096

static struct { int known, through, append; uint64_t inode; } fds[FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;
static char folder[PATHS];
static size_t folder_bytes;
static uint64_t syncs, records, kill_at;
static int dying;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_posix_fallocate)(int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_msync)(void *, size_t, int);
static int (*real_mkdir)(const char *, mode_t);
static int (*real_rename)(const char *, const char *);
static int (*real_link)(const char *, const char *);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_rmdir)(const char *);

static void *next_of(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        fprintf(stderr, "record.c: no %s in this C library\n", name);
        _exit(97);
    }
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    real_open = next_of("open");
    real_openat = next_of("openat");
    real_close = next_of("close");
    real_write = next_of("write");
    real_pwrite = next_of("pwrite");
    real_writev = next_of("writev");
    real_pwritev = next_of("pwritev");
    real_ftruncate = next_of("ftruncate");
    real_fallocate = next_of("fallocate");
    real_posix_fallocate = next_of("posix_fallocate");
    real_fsync = next_of("fsync");
    real_fdatasync = next_of("fdatasync");
    real_msync = next_of("msync");
    real_mkdir = next_of("mkdir");
    real_rename = next_of("rename");
    real_link = next_of("link");
    real_linkat = next_of("linkat");
    real_unlink = next_of("unlink");
    real_unlinkat = next_of("unlinkat");
    real_rmdir = next_of("rmdir");
}

/* 0, or -1 where the log cannot be written. */
int varve_record_begin(const char *where, const char *log, uint64_t last)
{
    if (strlen(where) >= PATHS - 1)
        return -1;
    strcpy(folder, where);
    folder_bytes = strlen(folder);
    kill_at = last;
    syncs = (uint64_t)getpid() << 32; /* numbers of several processes in one log */
    int fd = real_open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900); /* out of the way of programs that close what they find */
    real_close(fd);
    return log_fd < 0 ? -1 : 0;
}

static int inside(const char *path)
{
    return log_fd >= 0 && path != NULL && strncmp(path, folder, folder_bytes) == 0 &&
           (path[folder_bytes] == '/' || path[folder_bytes] == 0);
}

/* The caller holds the lock. */
static void put(uint32_t kind, uint64_t inode, uint64_t offset, const struct iovec *parts, int count, uint64_t length)
{
    struct { uint32_t kind, thread; uint64_t inode, offset, length; } head = {
        kind, (uint32_t)syscall(SYS_gettid), inode, offset, length};
    struct iovec all[1026];
    all[0].iov_base = &head;
    all[0].iov_len = sizeof head;
    uint64_t left = length;
    int used = 1;
    for (int at = 0; at < count && left; at++) {
        all[used] = parts[at];
        if (all[used].iov_len > left) /* a short write */
            all[used].iov_len = left;
        left -= all[used++].iov_len;
    }
    if (real_writev(log_fd, all, used) != (ssize_t)(sizeof head + length)) {
        perror("record.c: the log has a hole");
        _exit(97);
    }
    if (++records == kill_at) {
        if (kind != THROUGH) /* that record comes before what it tells */
            _exit(96);
        dying = 1;
    }
}

static void put_bytes(uint32_t kind, uint64_t inode, uint64_t offset, const void *bytes, uint64_t length)
{
    struct iovec part = {(void *)bytes, length};
    put(kind, inode, offset, &part, 1, length);
}

static uint64_t inode_at(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 ? status.st_ino : 0;
}

/* What the process itself has to say, in order with its writes. */
void varve_record_mark(const char *bytes, uint64_t length)
{
    if (log_fd < 0)
        return;
    pthread_mutex_lock(&lock);
    put_bytes(MARK, 0, 0, bytes, length);
    pthread_mutex_unlock(&lock);
}

/* -- names ------------------------------------------------------------------------------------------------------- */

static int opened(int fd, const char *path, int flags, int was_there)
{
    if (fd < 0 || fd >= FDS)
        return fd;
    struct stat status;
    if (fstat(fd, &status))
        return fd;
    fds[fd].known = 1;
    fds[fd].through = (flags & O_DSYNC) != 0;
    fds[fd].append = (flags & O_APPEND) != 0;
    fds[fd].inode = status.st_ino;
    put_bytes(was_there ? MET : CREATED, status.st_ino, (uint64_t)status.st_size, path, strlen(path));
    if (was_there && flags & O_TRUNC)
        put_bytes(SIZED, status.st_ino, 0, "", 0);
    return fd;
}

static int open_any(int at, const char *path, int flags, mode_t mode)
{
    if (!inside(path))
        return at == AT_FDCWD ? real_open(path, flags, mode) : real_openat(at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int was_there = inode_at(path) != 0;
    int fd = real_open(path, flags, mode), error = errno;
    opened(fd, path, flags, was_there);
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

#define TAKE_MODE \
    mode_t mode = 0; \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...)
{
    TAKE_MODE
    return open_any(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    TAKE_MODE
    return open_any(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    TAKE_MODE
    return open_any(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    TAKE_MODE
    return open_any(at, path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS && fds[fd].known) {
        pthread_mutex_lock(&lock);
        fds[fd].known = 0;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}

int mkdir(const char *path, mode_t mode)
{
    if (!inside(path))
        return real_mkdir(path, mode);
    pthread_mutex_lock(&lock);
    int result = real_mkdir(path, mode), error = errno;
    if (result == 0)
        put_bytes(FOLDER, inode_at(path), 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static void put_pair(uint32_t kind, const char *from, const char *to)
{
    struct iovec parts[2] = {{(void *)from, strlen(from) + 1}, {(void *)to, strlen(to)}};
    put(kind, inode_at(to), 0, parts, 2, parts[0].iov_len + parts[1].iov_len);
}

int rename(const char *from, const char *to)
{
    if (!inside(from) && !inside(to))
        return real_rename(from, to);
    pthread_mutex_lock(&lock);
    int result = real_rename(from, to), error = errno;
    if (result == 0)
        put_pair(RENAMED, from, to);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int linked(int result, const char *from, const char *to)
{
    int error = errno;
    if (result == 0)
        put_pair(LINKED, from, to);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int link(const char *from, const char *to)
{
    if (!inside(to))
        return real_link(from, to);
    pthread_mutex_lock(&lock);
    return linked(real_link(from, to), from, to);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    if (!inside(to))
        return real_linkat(from_at, from, to_at, to, flags);
    pthread_mutex_lock(&lock);
    return linked(real_linkat(from_at, from, to_at, to, flags), from, to);
}

static int removed(const char *path, int how, int at)
{
    if (!inside(path))
        return how == 2 ? real_unlinkat(at, path, 0) : how ? real_rmdir(path) : real_unlink(path);
    pthread_mutex_lock(&lock);
    uint64_t inode = inode_at(path);
    int result = how == 1 ? real_rmdir(path) : real_unlink(path), error = errno;
    if (result == 0)
        put_bytes(REMOVED, inode, 0, path, strlen(path));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path)
{
    return removed(path, 0, AT_FDCWD);
}

int rmdir(const char *path)
{
    return removed(path, 1, AT_FDCWD);
}

int unlinkat(int at, const char *path, int flags)
{
    if (inside(path) && flags & AT_REMOVEDIR)
        return removed(path, 1, at);
    return inside(path) ? removed(path, 2, at) : real_unlinkat(at, path, flags);
}

/* -- bytes ------------------------------------------------------------------------------------------------------- */

static int watched(int fd)
{
    return log_fd >= 0 && fd >= 0 && fd < FDS && fds[fd].known;
}

/* offset -1: where the descriptor stands. */
static ssize_t write_any(int fd, const struct iovec *parts, int count, off_t offset)
{
    uint64_t whole = 0;
    for (int at = 0; at < count; at++)
        whole += parts[at].iov_len;
    pthread_mutex_lock(&lock);
    uint64_t inode = fds[fd].inode;
    int through = fds[fd].through;
    off_t where = offset;
    if (where < 0) {
        struct stat status;
        where = fds[fd].append && fstat(fd, &status) == 0 ? status.st_size : lseek(fd, 0, SEEK_CUR);
    }
    if (through) { /* it is in the cache at some instant from here on, and on disk when it returns */
        put(THROUGH, inode, (uint64_t)where, parts, count, whole);
        pthread_mutex_unlock(&lock);
    }
    ssize_t result = offset < 0 ? real_writev(fd, parts, count) : real_pwritev(fd, parts, count, offset);
    int error = errno;
    if (dying) /* it is in the page cache, and nobody has said that it is on disk */
        _exit(96);
    if (through && result != (ssize_t)whole) {
        fprintf(stderr, "record.c: a write through the cache failed\n");
        _exit(97);
    }
    if (through) {
        pthread_mutex_lock(&lock);
        put_bytes(THROUGH_ENDED, inode, (uint64_t)where, "", 0);
    } else if (result > 0) {
        put(WRITTEN, inode, (uint64_t)where, parts, count, (uint64_t)result);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    struct iovec part = {(void *)bytes, length};
    return watched(fd) ? write_any(fd, &part, 1, -1) : real_write(fd, bytes, length);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset)
{
    struct iovec part = {(void *)bytes, length};
    return watched(fd) ? write_any(fd, &part, 1, offset) : real_pwrite(fd, bytes, length, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset)
{
    return pwrite(fd, bytes, length, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return watched(fd) ? write_any(fd, parts, count, -1) : real_writev(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return watched(fd) ? write_any(fd, parts, count, offset) : real_pwritev(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev(fd, parts, count, offset);
}

static int sized(int fd, int result, off_t length)
{
    int error = errno;
    if (result == 0)
        put_bytes(SIZED, fds[fd].inode, (uint64_t)length, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t length)
{
    if (!watched(fd))
        return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    return sized(fd, real_ftruncate(fd, length), length);
}

int ftruncate64(int fd, off_t length)
{
    return ftruncate(fd, length);
}

static off_t longer(int fd, off_t end)
{
    struct stat status;
    return fstat(fd, &status) == 0 && status.st_size > end ? status.st_size : end;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (!watched(fd))
        return real_fallocate(fd, mode, offset, length);
    if (mode) { /* holes and the like: nothing here does it, and a record that leaves it out would lie */
        fprintf(stderr, "record.c: fallocate with mode %d is not recorded\n", mode);
        _exit(97);
    }
    pthread_mutex_lock(&lock);
    return sized(fd, real_fallocate(fd, mode, offset, length), longer(fd, offset + length));
}

int fallocate64(int fd, int mode, off_t offset, off_t length)
{
    return fallocate(fd, mode, offset, length);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    if (!watched(fd))
        return real_posix_fallocate(fd, offset, length);
    pthread_mutex_lock(&lock);
    return sized(fd, real_posix_fallocate(fd, offset, length), longer(fd, offset + length));
}

int posix_fallocate64(int fd, off_t offset, off_t length)
{
    return posix_fallocate(fd, offset, length);
}

/* -- durability -------------------------------------------------------------------------------------------------- */

static int sync_any(int fd, int (*real)(int))
{
    if (!watched(fd))
        return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t number = ++syncs, inode = fds[fd].inode;
    put_bytes(SYNC_BEGUN, inode, number, "", 0);
    pthread_mutex_unlock(&lock);
    int result = real(fd), error = errno;
    pthread_mutex_lock(&lock);
    if (result == 0)
        put_bytes(SYNC_ENDED, inode, number, "", 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fsync(int fd)
{
    return sync_any(fd, real_fsync);
}

int fdatasync(int fd)
{
    return sync_any(fd, real_fdatasync);
}

int msync(void *address, size_t length, int flags)
{
    if (log_fd >= 0) /* only maps that are written through need it, and those are not seen */
        varve_record_mark("{\"msync\":1}", 11);
    return real_msync(address, length, flags);
}
