// Tandem — Apache-2.0

#define _GNU_SOURCE

#include "CTandemSystem.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

_Static_assert(tandem_seal_seal == F_SEAL_SEAL && tandem_seal_shrink == F_SEAL_SHRINK, "seal numbers");
_Static_assert(tandem_seal_grow == F_SEAL_GROW && tandem_seal_write == F_SEAL_WRITE, "seal numbers");
_Static_assert(tandem_seal_future_write == F_SEAL_FUTURE_WRITE, "seal numbers");

int32_t tandem_signal_descriptor(const int32_t *signals, int32_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < count; i++) {
        if (sigaddset(&set, signals[i]) != 0) return -EINVAL;
    }
    int error = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (error != 0) return -error;
    int descriptor = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return descriptor < 0 ? -errno : descriptor;
}

int32_t tandem_signal_read(int32_t descriptor) {
    struct signalfd_siginfo info;
    ssize_t count;
    do {
        count = read(descriptor, &info, sizeof info);
    } while (count < 0 && errno == EINTR);
    if (count == (ssize_t)sizeof info) return (int32_t)info.ssi_signo;
    return count < 0 && errno != EAGAIN ? -errno : 0;
}

int32_t tandem_poll(struct pollfd *entries, uint32_t count, int64_t timeout_nanoseconds) {
    struct timespec timeout;
    if (timeout_nanoseconds >= 0) {
        timeout.tv_sec = timeout_nanoseconds / 1000000000;
        timeout.tv_nsec = timeout_nanoseconds % 1000000000;
    }
    int result = ppoll(entries, count, timeout_nanoseconds >= 0 ? &timeout : NULL, NULL);
    return result < 0 ? -errno : result;
}

int32_t tandem_futex_wait(const uint32_t *word, uint32_t expected, int64_t timeout_nanoseconds, bool shared) {
    struct timespec timeout;
    if (timeout_nanoseconds >= 0) {
        timeout.tv_sec = timeout_nanoseconds / 1000000000;
        timeout.tv_nsec = timeout_nanoseconds % 1000000000;
    }
    int operation = shared ? FUTEX_WAIT : FUTEX_WAIT_PRIVATE;
    long result = syscall(SYS_futex, word, operation, expected, timeout_nanoseconds >= 0 ? &timeout : NULL, NULL, 0);
    return result < 0 ? -errno : 0;
}

int32_t tandem_futex_wake(const uint32_t *word, int32_t count, bool shared) {
    long result = syscall(SYS_futex, word, shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    return result < 0 ? -errno : (int32_t)result;
}

int32_t tandem_thread_id(void) {
    return (int32_t)syscall(SYS_gettid);
}

int32_t tandem_affinity_get(int32_t tid, int32_t *cpus, int32_t capacity) {
    // The kernel refuses a set smaller than its own, so grow until it fits.
    for (int size = 1024; size <= 1 << 20; size *= 2) {
        cpu_set_t *set = CPU_ALLOC(size);
        if (set == NULL) return -ENOMEM;
        size_t bytes = CPU_ALLOC_SIZE(size);
        CPU_ZERO_S(bytes, set);
        if (sched_getaffinity(tid, bytes, set) == 0) {
            int32_t count = 0;
            for (int cpu = 0; cpu < size; cpu++) {
                if (!CPU_ISSET_S(cpu, bytes, set)) continue;
                if (count < capacity) cpus[count] = cpu;
                count++;
            }
            CPU_FREE(set);
            return count;
        }
        int error = errno;
        CPU_FREE(set);
        if (error != EINVAL) return -error;
    }
    return -EINVAL;
}

int32_t tandem_affinity_set(int32_t tid, const int32_t *cpus, int32_t count) {
    int highest = 0;
    for (int i = 0; i < count; i++) {
        if (cpus[i] < 0 || cpus[i] >= 1 << 20) return -EINVAL;
        if (cpus[i] > highest) highest = cpus[i];
    }
    cpu_set_t *set = CPU_ALLOC(highest + 1);
    if (set == NULL) return -ENOMEM;
    size_t bytes = CPU_ALLOC_SIZE(highest + 1);
    CPU_ZERO_S(bytes, set);
    for (int i = 0; i < count; i++) CPU_SET_S(cpus[i], bytes, set);
    int result = sched_setaffinity(tid, bytes, set) != 0 ? -errno : 0;
    CPU_FREE(set);
    return result;
}

int32_t tandem_thread_set_nice(int32_t tid, int32_t nice) {
    return setpriority(PRIO_PROCESS, (id_t)tid, nice) != 0 ? -errno : 0;
}

int32_t tandem_thread_get_nice(int32_t tid, int32_t *nice) {
    // -1 is a nice value too: only errno tells.
    errno = 0;
    int value = getpriority(PRIO_PROCESS, (id_t)tid);
    if (errno != 0) return -errno;
    *nice = value;
    return 0;
}

int32_t tandem_memfd_create(const char *name) {
    int descriptor = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return descriptor < 0 ? -errno : descriptor;
}

int32_t tandem_memfd_add_seals(int32_t descriptor, int32_t seals) {
    return fcntl(descriptor, F_ADD_SEALS, seals) != 0 ? -errno : 0;
}

int32_t tandem_memfd_get_seals(int32_t descriptor) {
    int seals = fcntl(descriptor, F_GET_SEALS);
    return seals < 0 ? -errno : seals;
}

char *const *tandem_environment(void) {
    return environ;
}

bool tandem_signal_is_ignored(int32_t number) {
    struct sigaction action;
    return sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

// MARK: - Libraries opened at run time

const char *tandem_library_file(const void *address) {
    Dl_info information;
    return dladdr(address, &information) != 0 ? information.dli_fname : NULL;
}

int32_t tandem_send_message(int32_t socket, const void *bytes, uint64_t count, int32_t descriptor) {
    struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (descriptor >= 0) {
        memset(&control, 0, sizeof control);
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) return -errno;
    return (uint64_t)sent == count ? 0 : -EMSGSIZE;
}

int64_t tandem_receive_message(int32_t socket, void *bytes, uint64_t capacity, int32_t *descriptor) {
    *descriptor = -1;
    struct iovec part = {.iov_base = bytes, .iov_len = capacity};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control;
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t count;
    do {
        count = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (count < 0 && errno == EINTR);
    if (count < 0) return -errno;
    int found = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        size_t received = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < received; i++) {
            int taken;
            memcpy(&taken, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
            if (found++ == 0) {
                *descriptor = taken;
            } else {
                close(taken);
            }
        }
    }
    if (found > 1 || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        if (*descriptor >= 0) close(*descriptor);
        *descriptor = -1;
        return -EMSGSIZE;
    }
    return count;
}
