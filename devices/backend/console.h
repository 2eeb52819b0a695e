/*
 * The host's end of a console: a file descriptor that takes the guest's output and
 * may be slow, full or closed.
 */
#ifndef STRATA_BACKEND_CONSOLE_H
#define STRATA_BACKEND_CONSOLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_TAIL_BYTES 4096 /* a power of two */

/* How long output waits for a reader that takes nothing before it is dropped. */
#define CONSOLE_PATIENCE_MS 1000

struct console {
    int fd;                 /* not owned; < 0: everything is dropped */
    atomic_bool tx_blocked; /* the last wait ran out: do not wait again until fd takes output */
    atomic_int error;       /* -errno of the last write that failed; 0: none did */
    atomic_ullong dropped;  /* bytes */
    atomic_ullong sent; /* bytes, dropped ones too: tail[sent % CONSOLE_TAIL_BYTES] is the oldest */
    char tail[CONSOLE_TAIL_BYTES];
};

void console_init(struct console *console, int fd);

/*
 * Writes what the descriptor takes and returns how many of the `count` bytes are done
 * with: all of them, dropped ones included, unless a signal interrupted the wait.
 */
size_t console_write(struct console *console, const uint8_t *bytes, size_t count);

/*
 * The last output, at most CONSOLE_TAIL_BYTES, wherever it went: how many bytes. Output that
 * goes on meanwhile may be there in part.
 */
size_t console_tail(const struct console *console, char tail[CONSOLE_TAIL_BYTES]);

/* Gives up on these bytes. */
void console_drop(struct console *console, size_t count);

#endif
