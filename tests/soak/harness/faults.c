// Fails, shortens or kills at the n-th file operation below one folder. Preloaded into a process and armed by `arm`.
//
// It stands between libc and everybody who calls it: Python, NumPy, Rust's safetensors, C++ streams.
// Memory maps and C's own FILE buffers do not pass here; the fsync and rename that follow them do.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CHANGES = 1, READS = 2 };          // which operations count
enum { FAIL = 1, KEEP_FAILING, SHORTEN, KILL, JUMP };  // what happens at the n-th; JUMP: the clock goes wrong instead
enum { MOST = 65536 };

static char root[PATH_MAX], last[PATH_MAX + 64];
static size_t root_length;
static int kinds, action, error_number;
static long at, seen;
static char below[MOST];  // descriptors of files below the folder

void arm(const char *folder, int which, long position, int what, int number) {
  snprintf(root, sizeof root, "%s", folder);
  root_length = strlen(root);
  kinds = which, at = position, action = what, error_number = number;
  seen = 0;
}
long counted(void) { return seen; }
const char *last_operation(void) { return last; }

static int inside(const char *path) {
  return root_length && path && strncmp(path, root, root_length) == 0;
}

// 0: go on; -1: fail with errno; 1: shorten.
static int meets(int kind, int frees_space, const char *name, const char *path) {
  if (!(kinds & kind)) return 0;
  long now = __atomic_add_fetch(&seen, 1, __ATOMIC_SEQ_CST);
  if (at <= 0 || action == JUMP || now < at || (now > at && action != KEEP_FAILING)) return 0;
  if (now == at) {
    snprintf(last, sizeof last, "%s %s", name, path ? path : "");
    char text[PATH_MAX + 96];
    int length = snprintf(text, sizeof text, "[fault at operation %ld: %s]\n", now, last);
    ssize_t (*put)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    if (put(2, text, (size_t)length) < 0) abort();
    if (action == KILL) kill(getpid(), SIGKILL), pause();
    if (action == SHORTEN) return 1;
  }
  if (frees_space && action == KEEP_FAILING) return 0;
  errno = error_number;
  return -1;
}

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = dlsym(RTLD_NEXT, #name)

static int of_descriptor(int file) { return file >= 0 && file < MOST && below[file]; }
static int opened(int file, const char *path) {
  if (file >= 0 && file < MOST) below[file] = (char)inside(path);
  return file;
}
static int opening(const char *name, const char *path, int flags) {
  if (!inside(path)) return 0;
  int changes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT);
  return meets(changes ? CHANGES : READS, 0, name, path) < 0 ? -1 : 0;
}

#define OPEN(name) \
  int name(const char *path, int flags, ...) { \
    REAL(int, name, const char *, int, ...); \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    return opening(#name, path, flags) ? -1 : opened(real(path, flags, mode), path); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  int name(int folder, const char *path, int flags, ...) { \
    REAL(int, name, int, const char *, int, ...); \
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); \
    return opening(#name, path, flags) ? -1 : opened(real(folder, path, flags, mode), path); \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
  REAL(int, close, int);
  if (file >= 0 && file < MOST) below[file] = 0;
  return real(file);
}
int dup(int file) {
  REAL(int, dup, int);
  int copy = real(file);
  if (copy >= 0 && copy < MOST) below[copy] = (char)of_descriptor(file);
  return copy;
}

#define TRANSFER(kind, name, type) \
  ssize_t name(int file, type data, size_t size) { \
    REAL(ssize_t, name, int, type, size_t); \
    int met = of_descriptor(file) ? meets(kind, 0, #name, 0) : 0; \
    return met < 0 ? -1 : real(file, data, met && size > 1 ? size / 2 : size); \
  }
TRANSFER(CHANGES, write, const void *)
TRANSFER(READS, read, void *)

#define TRANSFER_AT(kind, name, type) \
  ssize_t name(int file, type data, size_t size, off_t place) { \
    REAL(ssize_t, name, int, type, size_t, off_t); \
    int met = of_descriptor(file) ? meets(kind, 0, #name, 0) : 0; \
    return met < 0 ? -1 : real(file, data, met && size > 1 ? size / 2 : size, place); \
  }
TRANSFER_AT(CHANGES, pwrite64, const void *)
TRANSFER_AT(READS, pread64, void *)

ssize_t writev(int file, const struct iovec *parts, int count) {
  REAL(ssize_t, writev, int, const struct iovec *, int);
  int met = of_descriptor(file) ? meets(CHANGES, 0, "writev", 0) : 0;
  return met < 0 ? -1 : real(file, parts, met && count > 1 ? 1 : count);
}

#define OF_DESCRIPTOR(name) \
  int name(int file) { \
    REAL(int, name, int); \
    return of_descriptor(file) && meets(CHANGES, 0, #name, 0) < 0 ? -1 : real(file); \
  }
OF_DESCRIPTOR(fsync)
OF_DESCRIPTOR(fdatasync)

#define OF_PATH(name, frees) \
  int name(const char *path) { \
    REAL(int, name, const char *); \
    return inside(path) && meets(CHANGES, frees, #name, path) < 0 ? -1 : real(path); \
  }
OF_PATH(unlink, 1)
OF_PATH(rmdir, 1)

int mkdir(const char *path, mode_t mode) {
  REAL(int, mkdir, const char *, mode_t);
  return inside(path) && meets(CHANGES, 0, "mkdir", path) < 0 ? -1 : real(path, mode);
}
int rename(const char *from, const char *to) {
  REAL(int, rename, const char *, const char *);
  return inside(to) && meets(CHANGES, 0, "rename", to) < 0 ? -1 : real(from, to);
}
int link(const char *from, const char *to) {
  REAL(int, link, const char *, const char *);
  return inside(to) && meets(CHANGES, 0, "link", to) < 0 ? -1 : real(from, to);
}
// Every second look at the clock is a day late or a day early, in turn.
int clock_gettime(clockid_t clock, struct timespec *now) {
  REAL(int, clock_gettime, clockid_t, struct timespec *);
  static long looks;
  int code = real(clock, now);
  if (action == JUMP && clock == CLOCK_REALTIME && ++looks % 2) now->tv_sec += looks % 4 == 1 ? 86400 : -86400;
  return code;
}
// shutil.rmtree works on descriptors of folders: the path is a bare name, the folder's descriptor tells.
int unlinkat(int folder, const char *path, int flags) {
  REAL(int, unlinkat, int, const char *, int);
  int counts = inside(path) || of_descriptor(folder);
  return counts && meets(CHANGES, 1, "unlinkat", path) < 0 ? -1 : real(folder, path, flags);
}
