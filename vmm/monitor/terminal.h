/*
 * The user's terminal while a kernel has the console: raw, so that the guest gets every key,
 * but for an escape character, Ctrl-a, by which the user reaches strata.
 *
 * Whatever ends the process, the terminal gets its settings back: a normal end, a signal
 * that terminates or dumps core, and while it is stopped (SIGTSTP). Only nothing can be done
 * about SIGKILL and SIGSTOP; `stty sane` mends that. There is one terminal in a process.
 */
#ifndef STRATA_MONITOR_TERMINAL_H
#define STRATA_MONITOR_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TERMINAL_ESCAPE 0x01 /* Ctrl-a */

enum terminal_order {
    TERMINAL_NOTHING,
    TERMINAL_END,  /* Ctrl-a x */
    TERMINAL_HELP, /* Ctrl-a h */
};

/* Of the input so far: whether the next byte belongs to an escape. */
struct terminal_escape {
    bool open;
};

/* Whether fd is a terminal and we are in its foreground. */
bool terminal_is_ours(int fd);

/* Its size; false: fd is no terminal, or it does not know. */
bool terminal_size(int fd, uint16_t *columns, uint16_t *rows);

/* Makes it raw, or does nothing where it is not ours. Again after a stop. 0 or -errno. */
int terminal_raw(int fd);

/* Gives it its settings back, if it is raw. From any thread, also from a signal handler. */
void terminal_restore(void);

/*
 * Takes the escapes out of `bytes`, in place: *count becomes how many are left for the
 * guest. Ctrl-a twice, or followed by a, is one Ctrl-a for the guest; what follows a Ctrl-a
 * and means nothing is dropped with it. Says what the last of the orders was.
 */
enum terminal_order terminal_filter(struct terminal_escape *escape, uint8_t *bytes, size_t *count);

#endif
