/* Faults of the machine, put under an unchanged server by LD_PRELOAD: the drills write them into the file that
 * DRILL_FAULTS names, and they hold from then on. Only calls on the server's database are touched, and the wall clock.
 * The layout of `struct faults` is repeated in world.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

struct faults {
    volatile int64_t clock_set_by; /* seconds */
    volatile int32_t write_errno;  /* writes, and opening for writing, fail with it; 0: they do not */
    volatile int32_t sync_takes;   /* milliseconds more for each fsync */
    volatile int32_t kill_in;      /* the process is killed at this write from now; 0: never */
};

static struct faults *faults;

__attribute__((constructor)) static void find_faults(void) {
    static struct faults none;
    const char *path = getenv("DRILL_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    faults = mapped == MAP_FAILED ? &none : mapped;
}

static int is_database(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return strstr(path, "taskgrant.db") != NULL;
}

/* Whether a write to the database fails now; it may not return at all. */
static int fails(int fd) {
    if (faults == NULL || (faults->kill_in == 0 && faults->write_errno == 0) || !is_database(fd)) return 0;
    if (faults->kill_in > 0 && __sync_sub_and_fetch(&faults->kill_in, 1) == 0) raise(SIGKILL);
    errno = faults->write_errno;
    return faults->write_errno != 0;
}

#define REAL(name) static __typeof__(name) *real; if (real == NULL) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    REAL(pwrite64);
    return fails(fd) ? -1 : real(fd, bytes, length, at);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    return fails(fd) ? -1 : real(fd, length);
}

int fsync(int fd) {
    REAL(fsync);
    if (faults != NULL && faults->sync_takes != 0 && is_database(fd)) {
        struct timespec pause = {faults->sync_takes / 1000, faults->sync_takes % 1000 * 1000000L};
        nanosleep(&pause, NULL);
    }
    return fails(fd) ? -1 : real(fd);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    mode_t mode = 0;
    if (flags & (O_CREAT | O_TMPFILE)) {
        va_list rest;
        va_start(rest, flags);
        mode = va_arg(rest, mode_t);
        va_end(rest);
    }
    if (faults != NULL && faults->write_errno != 0 && (flags & O_ACCMODE) != O_RDONLY && strstr(path, "taskgrant.db")) {
        errno = faults->write_errno;
        return -1;
    }
    return real(path, flags, mode);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(clock_gettime);
    int result = real(clock, time);
    if (result == 0 && faults != NULL && clock == CLOCK_REALTIME) time->tv_sec += faults->clock_set_by;
    return result;
}
