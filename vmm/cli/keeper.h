/*
 * The keeper of a running VM: a thread that passes standard input to the guest's serial
 * port and turns SIGINT, SIGTERM and SIGHUP into the end of the run, while the main
 * thread is the guest's boot CPU. The terminal's settings stay as they are.
 */
#ifndef STRATA_CLI_KEEPER_H
#define STRATA_CLI_KEEPER_H

#include <pthread.h>
#include <signal.h>

struct serial;
struct vm;

struct keeper {
    int room_fd;   /* eventfd for the serial port, see serial.h */
    int signal_fd; /* the signals that end a run */
    sigset_t signals_before;
    pthread_t thread;
    struct vm *vm;
    struct serial *serial;
};

/* Blocks the signals, except those that whoever started us wants ignored. 0 or -errno. */
int keeper_create(struct keeper *keeper);
void keeper_destroy(struct keeper *keeper);

/*
 * Starts the thread; it ends with the run. Where a vCPU does not come back then, it ends
 * the process. 0 or -errno.
 */
int keeper_start(struct keeper *keeper, struct vm *vm, struct serial *serial);
void keeper_join(struct keeper *keeper);

#endif
