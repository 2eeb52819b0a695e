/*
 * A 16550A UART (National Semiconductor PC16550D data sheet, June 1995). Sending
 * takes no time; receiving goes through the 16-byte FIFO.
 */
#ifndef STRATA_LEGACY_SERIAL_H
#define STRATA_LEGACY_SERIAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/console.h"
#include "vmm/machine/bus.h"

#define SERIAL_PORT_BYTES 8
#define SERIAL_FIFO_BYTES 16
#define SERIAL_OUT_BYTES  256

struct device_ops;
struct vm;

/* All that the guest can see. */
struct serial_state {
    uint8_t divisor_low, divisor_high;
    uint8_t ier, fcr, lcr, mcr, scratch;
    bool overrun;
    uint8_t polls;          /* how much it looks as if the guest polls for input */
    bool thr_empty_pending; /* the transmitter-empty interrupt, until IIR is read */
    bool line;              /* level of the interrupt line */
    uint8_t rx[SERIAL_FIFO_BYTES];
    uint8_t rx_first, rx_count;
};

struct serial {
    struct serial_state state; /* under lock */
    size_t out_count;
    uint8_t out[SERIAL_OUT_BYTES]; /* written by the guest, not yet by us; under lock */
    pthread_mutex_t lock;
    struct vm *vm;
    unsigned gsi;
    int input_ready_fd; /* eventfd, written when the guest makes room in a full FIFO; < 0: none */
    bool no_rx_buffers; /* serial_input had to leave bytes behind; under lock */
    struct console console;
    struct bus_region region;
};

/*
 * Puts the UART at `port` of the VM's port bus. Output goes to out_fd (< 0: nowhere);
 * input_ready_fd as above. Both stay the caller's. vm may be NULL where no interrupt can be
 * delivered (tests); the caller then drives `region` itself. 0 or -errno.
 */
int serial_create(struct serial *serial, struct vm *vm, uint16_t port, unsigned gsi, int out_fd,
                  int input_ready_fd);
void serial_destroy(struct serial *serial);

/*
 * Bytes from the outside, from any thread: returns how many fitted into the FIFO; none
 * while the guest takes no input, because its driver's set-up would throw them away. It
 * takes some when it has enabled the interrupt for it, or polls. The rest is to be offered
 * again when input_ready_fd is readable.
 */
size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count);

/* How it is described. */
extern const struct device_ops serial_ops;

#endif
