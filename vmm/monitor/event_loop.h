/*
 * The event loop of a running VM: a thread that passes standard input to the guest's console
 * and turns SIGINT, SIGTERM and SIGHUP into the end of the run, while the main thread is the
 * guest's boot CPU; it also lets the watchdog look. Where it was asked for, a terminal on
 * standard input is raw meanwhile (terminal.h); else its settings stay as they are.
 */
#ifndef STRATA_MONITOR_EVENT_LOOP_H
#define STRATA_MONITOR_EVENT_LOOP_H

#include <signal.h>
#include <stdbool.h>

struct board;
struct vm;
struct watchdog;

struct event_loop {
    int input_ready_fd; /* eventfd for the board's consoles, see board_input */
    int signal_fd;      /* the signals that end a run */
    sigset_t signals_before;
    bool terminal; /* standard input is one, */
    bool raw;      /* which is to be raw */

    /* To be set before it watches. */
    struct vm *vm;
    struct board *board;
    struct watchdog *watchdog; /* NULL: none; */
    unsigned watchdog_seconds; /* else after how long without progress it ends the run */
    /* What is left to do where a vCPU does not come back; ends the process. */
    void (*final_report)(void *owner);
    void *owner;
};

/*
 * Blocks the signals, except those that were ignored when the process started. 0 or -errno.
 * `raw`: if standard input is a terminal, the guest gets it raw.
 */
int event_loop_create(struct event_loop *loop, bool raw);
void event_loop_destroy(struct event_loop *loop);

/*
 * The body of the thread (for vm_run, which gets the event loop as the argument): returns
 * when the run has ended. Where a vCPU does not come back then, it calls final_report, which
 * ends the process.
 */
void event_loop_run(void *loop);

#endif
