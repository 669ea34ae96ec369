/* Counts the fsync and fdatasync calls of a process, for bench/wear.py: loaded with LD_PRELOAD, it adds to the 64-bit
   number in the file that SETPOINT_BENCH_FSYNCS names, and then makes the call. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t here;
static uint64_t *count = &here;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SETPOINT_BENCH_FSYNCS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) count = map;
    close(fd);
}

int fsync(int fd) {
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    return (int)syscall(SYS_fdatasync, fd);
}
