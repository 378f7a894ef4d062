// Tandem — Apache-2.0

#define _GNU_SOURCE

#include "CTandemSystem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

// Children that were started here and not reaped yet. The lock is held while one is made and while one is reaped, so that
// a number here always means that child.
static pthread_mutex_t started_lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t *started;
static size_t started_count, started_capacity;

static void remember(pid_t pid) {
    if (started_count == started_capacity) {
        size_t capacity = started_capacity == 0 ? 16 : started_capacity * 2;
        pid_t *larger = realloc(started, capacity * sizeof *larger);
        if (larger == NULL) return;
        started = larger;
        started_capacity = capacity;
    }
    started[started_count++] = pid;
}

static bool is_started(pid_t pid) {
    for (size_t i = 0; i < started_count; i++) {
        if (started[i] == pid) return true;
    }
    return false;
}

static void forget(pid_t pid) {
    for (size_t i = 0; i < started_count; i++) {
        if (started[i] != pid) continue;
        started[i] = started[--started_count];
        return;
    }
}

// What the child writes to its error pipe when it cannot become the program.
typedef struct failure {
    int32_t stage;
    int32_t error;
} failure;

// All that the child needs, computed before the fork: after it only async-signal-safe calls are allowed.
typedef struct child_plan {
    const tandem_spawn_options *options;
    pid_t parent;
    int error_pipe;
    int highest_target;
    int nice_value;
    cpu_set_t *cpus;
    size_t cpus_size;
    // Room for one moved descriptor for each mapping.
    int *moved;
} child_plan;

static _Noreturn void fail(int error_pipe, tandem_spawn_stage stage) {
    failure report = {.stage = stage, .error = errno};
    // A pipe takes eight bytes at once or not at all; if it does not, the parent sees the child end instead.
    ssize_t written = write(error_pipe, &report, sizeof report);
    (void)written;
    _exit(127);
}

static void close_others_on_exec(void) {
    if (syscall(SYS_close_range, 3U, UINT_MAX, CLOSE_RANGE_CLOEXEC) == 0) return;
    // Kernels before 5.11.
    struct rlimit limit;
    int end = 65536;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < (rlim_t)end) end = (int)limit.rlim_cur;
    for (int descriptor = 3; descriptor < end; descriptor++) {
        int flags = fcntl(descriptor, F_GETFD);
        if (flags >= 0) fcntl(descriptor, F_SETFD, flags | FD_CLOEXEC);
    }
}

static _Noreturn void run_child(const child_plan *plan) {
    const tandem_spawn_options *options = plan->options;
    int error_pipe = plan->error_pipe;

    struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        // Fails for SIGKILL, SIGSTOP and the ones glibc keeps: nothing to reset there.
        sigaction(number, &standard, NULL);
    }

    if (options->new_process_group && setpgid(0, 0) != 0) fail(error_pipe, tandem_spawn_stage_process_group);

    if (options->parent_death_signal != 0) {
        if (prctl(PR_SET_PDEATHSIG, options->parent_death_signal) != 0) {
            fail(error_pipe, tandem_spawn_stage_parent_death_signal);
        }
        // The parent may have died before the call above: then no signal will come.
        if (getppid() != plan->parent) _exit(127);
    }

    if (plan->cpus != NULL && sched_setaffinity(0, plan->cpus_size, plan->cpus) != 0) {
        fail(error_pipe, tandem_spawn_stage_affinity);
    }
    if (options->nice_increment != 0 && setpriority(PRIO_PROCESS, 0, plan->nice_value) != 0) {
        fail(error_pipe, tandem_spawn_stage_nice);
    }
    if (options->working_directory != NULL && chdir(options->working_directory) != 0) {
        fail(error_pipe, tandem_spawn_stage_working_directory);
    }

    // First above all targets, so that no `dup2` overwrites what a later one needs.
    int above = plan->highest_target + 1;
    error_pipe = fcntl(error_pipe, F_DUPFD_CLOEXEC, above);
    if (error_pipe < 0) fail(plan->error_pipe, tandem_spawn_stage_descriptors);
    for (int i = 0; i < options->descriptor_count; i++) {
        plan->moved[i] = fcntl(options->descriptors[i].parent, F_DUPFD_CLOEXEC, above);
        if (plan->moved[i] < 0) fail(error_pipe, tandem_spawn_stage_descriptors);
    }
    close_others_on_exec();
    for (int i = 0; i < options->descriptor_count; i++) {
        if (dup2(plan->moved[i], options->descriptors[i].child) < 0) {
            fail(error_pipe, tandem_spawn_stage_descriptors);
        }
    }

    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    execve(options->path, options->arguments, options->environment);
    fail(error_pipe, tandem_spawn_stage_execute);
}

static tandem_spawn_result failed(tandem_spawn_stage stage, int error) {
    return (tandem_spawn_result){.pid = 0, .pidfd = -1, .error = error, .stage = stage};
}

// Reaps a child that is about to end.
static void reap_failed(pid_t pid) {
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

static tandem_spawn_result start(child_plan *plan, int error_pipe_read) {
    // No signal handler of this process may run in the child, which still has its handlers and its memory.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    int fork_error = errno;
    if (pid == 0) run_child(plan);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    // The read below ends only when no write end is left in this process.
    close(plan->error_pipe);
    plan->error_pipe = -1;
    if (pid < 0) return failed(tandem_spawn_stage_fork, fork_error);

    failure report;
    ssize_t count;
    do {
        count = read(error_pipe_read, &report, sizeof report);
    } while (count < 0 && errno == EINTR);
    if (count == (ssize_t)sizeof report) {
        reap_failed(pid);
        return failed((tandem_spawn_stage)report.stage, report.error);
    }

    int pidfd = tandem_pidfd_open(pid);
    if (pidfd < 0) {
        kill(pid, SIGKILL);
        reap_failed(pid);
        return failed(tandem_spawn_stage_pidfd, -pidfd);
    }
    return (tandem_spawn_result){.pid = pid, .pidfd = pidfd, .error = 0, .stage = tandem_spawn_stage_none};
}

tandem_spawn_result tandem_spawn(const tandem_spawn_options *options) {
    if (options->path == NULL || options->arguments == NULL || options->environment == NULL ||
        options->descriptor_count < 0 || options->cpu_count < 0) {
        return failed(tandem_spawn_stage_prepare, EINVAL);
    }
    child_plan plan = {.options = options, .parent = getpid(), .error_pipe = -1, .highest_target = 2};
    for (int i = 0; i < options->descriptor_count; i++) {
        int target = options->descriptors[i].child;
        if (target < 0) return failed(tandem_spawn_stage_prepare, EBADF);
        if (target > plan.highest_target) plan.highest_target = target;
    }
    if (options->nice_increment != 0) {
        int nice = getpriority(PRIO_PROCESS, 0) + options->nice_increment;
        plan.nice_value = nice < -20 ? -20 : nice > 19 ? 19 : nice;
    }
    if (options->cpu_count > 0) {
        int highest = 0;
        for (int i = 0; i < options->cpu_count; i++) {
            if (options->cpus[i] < 0) return failed(tandem_spawn_stage_affinity, EINVAL);
            if (options->cpus[i] > highest) highest = options->cpus[i];
        }
        plan.cpus = CPU_ALLOC(highest + 1);
        if (plan.cpus == NULL) return failed(tandem_spawn_stage_prepare, ENOMEM);
        plan.cpus_size = CPU_ALLOC_SIZE(highest + 1);
        CPU_ZERO_S(plan.cpus_size, plan.cpus);
        for (int i = 0; i < options->cpu_count; i++) CPU_SET_S(options->cpus[i], plan.cpus_size, plan.cpus);
    }
    plan.moved = calloc((size_t)options->descriptor_count + 1, sizeof(int));

    tandem_spawn_result result;
    int pipe_ends[2];
    if (plan.moved == NULL) {
        result = failed(tandem_spawn_stage_prepare, ENOMEM);
    } else if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
        result = failed(tandem_spawn_stage_prepare, errno);
    } else {
        plan.error_pipe = pipe_ends[1];
        pthread_mutex_lock(&started_lock);
        result = start(&plan, pipe_ends[0]);
        if (result.error == 0) remember(result.pid);
        pthread_mutex_unlock(&started_lock);
        close(pipe_ends[0]);
    }
    free(plan.moved);
    if (plan.cpus != NULL) CPU_FREE(plan.cpus);
    return result;
}

const char *tandem_spawn_stage_name(tandem_spawn_stage stage) {
    switch (stage) {
        case tandem_spawn_stage_none: return "nothing";
        case tandem_spawn_stage_prepare: return "prepare the start";
        case tandem_spawn_stage_fork: return "create the process";
        case tandem_spawn_stage_process_group: return "create the process group";
        case tandem_spawn_stage_parent_death_signal: return "set the parent death signal";
        case tandem_spawn_stage_affinity: return "pin to the cores";
        case tandem_spawn_stage_nice: return "set the priority";
        case tandem_spawn_stage_working_directory: return "enter the working directory";
        case tandem_spawn_stage_descriptors: return "pass the descriptors";
        case tandem_spawn_stage_execute: return "start the program";
        case tandem_spawn_stage_pidfd: return "watch the process";
    }
    return "start";
}

int32_t tandem_reap(int32_t pidfd, bool wait, tandem_exit_status *status) {
    siginfo_t info = {0};
    int result;
    do {
        result = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOWAIT | (wait ? 0 : WNOHANG));
    } while (result != 0 && errno == EINTR);
    if (result != 0) return -errno;
    if (info.si_pid == 0) return 0;
    // Its number is free from here on.
    pthread_mutex_lock(&started_lock);
    do {
        result = waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG);
    } while (result != 0 && errno == EINTR);
    int error = errno;
    if (result == 0) forget(info.si_pid);
    pthread_mutex_unlock(&started_lock);
    if (result != 0) return -error;
    if (info.si_pid == 0) return 0;
    bool exited = info.si_code == CLD_EXITED;
    *status = (tandem_exit_status){
        .exit_code = exited ? info.si_status : 0,
        .signal = exited ? 0 : info.si_status,
    };
    return 1;
}

int32_t tandem_adopt_orphans(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1) != 0 ? -errno : 0;
}

int32_t tandem_reap_adopted(void) {
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
    } while (result != 0 && errno == EINTR);
    if (result != 0) return errno == ECHILD ? 0 : -errno;
    if (info.si_pid == 0) return 0;
    pthread_mutex_lock(&started_lock);
    int32_t reaped = 0;
    if (!is_started(info.si_pid)) reaped = waitpid(info.si_pid, NULL, WNOHANG) < 0 ? -errno : info.si_pid;
    pthread_mutex_unlock(&started_lock);
    return reaped;
}

int32_t tandem_pidfd_open(int32_t pid) {
    long descriptor = syscall(SYS_pidfd_open, pid, 0U);
    return descriptor < 0 ? -errno : (int32_t)descriptor;
}

int32_t tandem_pidfd_send_signal(int32_t pidfd, int32_t signal) {
    return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0U) != 0 ? -errno : 0;
}

int32_t tandem_set_process_name(const char *name) {
    return prctl(PR_SET_NAME, name) != 0 ? -errno : 0;
}

int32_t tandem_set_timer_slack(uint64_t nanoseconds) {
    return prctl(PR_SET_TIMERSLACK, (unsigned long)nanoseconds) != 0 ? -errno : 0;
}
