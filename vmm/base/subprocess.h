/*
 * Other programs that are run for a while: without a shell, and never for ever.
 */
#ifndef STRATA_BASE_SUBPROCESS_H
#define STRATA_BASE_SUBPROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What a program wrote, up to a limit; what is beyond is read and dropped. */
struct subprocess_output {
    char *text;        /* of max + 1 bytes, the caller's; zero-terminated */
    size_t bytes, max; /* max: to be set before */
    bool overflow;
    int fd; /* while it runs; < 0: at its end */
};

/*
 * Starts argv[0], which is looked for in PATH, with these standard input (< 0: nothing), output
 * and error output. 0, or -errno: -ENOENT, there is no such program.
 */
int subprocess_start(pid_t *pid, const char *const *argv, const char *const *envp,
                     const int fds[3]);

/*
 * Waits for its end: 0 and *status as waitpid has it, or -errno. After timeout_ms it is killed,
 * which is -ETIMEDOUT.
 */
int subprocess_wait(pid_t pid, int timeout_ms, int *status);

/*
 * Runs argv with this process's environment and nothing on standard input, and takes what it
 * writes: 0 and *status, or -errno as above.
 */
int subprocess_capture(const char *const *argv, struct subprocess_output *out,
                       struct subprocess_output *errors, int timeout_ms, int *status);

#endif
