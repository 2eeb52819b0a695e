#include "devices/legacy/serial.h"

#include <string.h>
#include <unistd.h>

#include "devices/core/device.h"
#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

enum {
    REG_DATA = 0, /* RBR, THR; divisor low with DLAB */
    REG_IER = 1,  /* divisor high with DLAB */
    REG_IIR = 2,  /* FCR when written */
    REG_LCR = 3,
    REG_MCR = 4,
    REG_LSR = 5,
    REG_MSR = 6,
    REG_SCRATCH = 7,
};

#define IER_RX       0x01
#define IER_THR      0x02
#define IER_LSR      0x04
#define IER_ALL      0x0f

#define IIR_NONE     0x01
#define IIR_THR      0x02
#define IIR_RX       0x04
#define IIR_LSR      0x06
#define IIR_FIFO     0xc0

#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02

#define LCR_DLAB     0x80

#define MCR_OUT2     0x08
#define MCR_LOOP     0x10

#define LSR_DATA     0x01
#define LSR_OVERRUN  0x02
#define LSR_THRE     0x20
#define LSR_TEMT     0x40

#define MSR_CTS      0x10
#define MSR_DSR      0x20
#define MSR_DCD      0x80

/* Who only sends reads LSR once or twice for a byte; who polls for input, for ever. */
#define POLL_READ 2
#define POLL_SENT 3
#define POLLS     128

static unsigned fifo_bytes(const struct serial_state *state)
{
    return state->fcr & FCR_ENABLE ? SERIAL_FIFO_BYTES : 1;
}

/* The pending interrupt of the highest priority (data sheet, table IV). */
static uint8_t pending(const struct serial_state *state)
{
    if (state->ier & IER_LSR && state->overrun)
        return IIR_LSR;
    if (state->ier & IER_RX && state->rx_count)
        return IIR_RX;
    if (state->ier & IER_THR && state->thr_empty_pending)
        return IIR_THR;
    return IIR_NONE;
}

/*
 * Under the lock. KVM hears of the line only when it changes: a call costs
 * microseconds. MCR's OUT2 does not gate the line: guests written for emulators
 * leave it alone.
 */
static void update_line(struct serial *serial)
{
    struct serial_state *state = &serial->state;
    bool level = pending(state) != IIR_NONE;

    if (level == state->line)
        return;
    state->line = level;
    if (serial->vm)
        irq_line(serial->vm, serial->gsi, level);
}

/*
 * The transmitter was empty, was given a byte and is empty again, all at once. An
 * edge-triggered input has to see the line fall in between.
 */
static void transmitter_empty(struct serial *serial)
{
    serial->state.thr_empty_pending = false;
    update_line(serial);
    serial->state.thr_empty_pending = true;
    update_line(serial);
}

static void receive(struct serial_state *state, uint8_t byte)
{
    if (state->rx_count >= fifo_bytes(state)) {
        state->overrun = true;
        return;
    }
    state->rx[(state->rx_first + state->rx_count++) % SERIAL_FIFO_BYTES] = byte;
}

static void made_room(struct serial *serial)
{
    uint64_t one = 1;

    if (!serial->no_rx_buffers || serial->input_ready_fd < 0)
        return;
    serial->no_rx_buffers = false;
    /* An eventfd that is already readable says the same: the result does not matter. */
    if (write(serial->input_ready_fd, &one, sizeof(one)) < 0)
        return;
}

/*
 * Whether the guest's driver wants input by now. Linux writes all bits of IER for a moment to
 * see what it has before it: nobody's interrupt is enabled by that before OUT2 is set.
 */
static bool wanted(const struct serial_state *state)
{
    return (state->ier & IER_RX && (state->ier != IER_ALL || state->mcr & MCR_OUT2)) ||
           state->polls >= POLLS;
}

/* After what may have made the guest want input: what was held back may come in. */
static void look_for_driver(struct serial *serial)
{
    if (wanted(&serial->state) && !serial->state.rx_count)
        made_room(serial);
}

static uint8_t read_data(struct serial *serial)
{
    struct serial_state *state = &serial->state;
    uint8_t byte;

    if (state->lcr & LCR_DLAB)
        return state->divisor_low;
    if (!state->rx_count)
        return 0;
    if (!(state->ier & IER_RX) && !(state->mcr & MCR_LOOP))
        state->polls = POLLS;
    byte = state->rx[state->rx_first];
    state->rx_first = (state->rx_first + 1) % SERIAL_FIFO_BYTES;
    if (--state->rx_count == 0)
        made_room(serial);
    return byte;
}

static uint8_t read_register(struct serial *serial, unsigned reg)
{
    struct serial_state *state = &serial->state;
    uint8_t value;

    switch (reg) {
    case REG_DATA: return read_data(serial);
    case REG_IER: return state->lcr & LCR_DLAB ? state->divisor_high : state->ier;
    case REG_IIR:
        value = pending(state);
        if (value == IIR_THR)
            state->thr_empty_pending = false;
        return value | (state->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case REG_LCR: return state->lcr;
    case REG_MCR: return state->mcr;
    case REG_LSR:
        if (state->polls < POLLS && !(state->ier & IER_RX)) {
            state->polls += POLL_READ;
            look_for_driver(serial);
        }
        value = LSR_THRE | LSR_TEMT | (state->rx_count ? LSR_DATA : 0) |
                (state->overrun ? LSR_OVERRUN : 0);
        state->overrun = false;
        return value;
    case REG_MSR:
        /* In loopback the modem outputs come back as inputs: DTR, RTS, OUT1, OUT2. */
        if (state->mcr & MCR_LOOP)
            return (uint8_t)((state->mcr & 0x02) << 3 | (state->mcr & 0x01) << 5 |
                             (state->mcr & 0x04) << 4 | (state->mcr & 0x08) << 4);
        return MSR_CTS | MSR_DSR | MSR_DCD;
    default: return state->scratch;
    }
}

static void write_data(struct serial *serial, uint8_t value)
{
    struct serial_state *state = &serial->state;

    if (state->lcr & LCR_DLAB) {
        state->divisor_low = value;
        return;
    }
    if (state->polls < POLLS)
        state->polls -= state->polls < POLL_SENT ? state->polls : POLL_SENT;
    if (state->mcr & MCR_LOOP)
        receive(state, value);
    else
        serial->out[serial->out_count++] = value; /* serial_write makes room for one */
    transmitter_empty(serial);
}

static void write_fcr(struct serial *serial, uint8_t value)
{
    struct serial_state *state = &serial->state;

    /*
     * Switching the FIFOs on or off empties them (data sheet, 8.4); but a byte that came for a
     * driver which switches them on as the last step of its set-up is kept.
     */
    if (state->fcr & ~value & FCR_ENABLE || value & FCR_CLEAR_RX) {
        state->rx_count = 0;
        look_for_driver(serial);
    }
    state->fcr = value & FCR_ENABLE;
}

static void write_register(struct serial *serial, unsigned reg, uint8_t value)
{
    struct serial_state *state = &serial->state;

    switch (reg) {
    case REG_DATA: write_data(serial, value); break;
    case REG_IER:
        if (state->lcr & LCR_DLAB) {
            state->divisor_high = value;
            break;
        }
        /* Enabling the transmitter-empty interrupt raises it: the transmitter is empty. */
        if (value & IER_THR && !(state->ier & IER_THR))
            state->thr_empty_pending = true;
        state->ier = value & IER_ALL;
        if (value & IER_RX)
            state->polls = 0;
        look_for_driver(serial);
        break;
    case REG_IIR: write_fcr(serial, value); break;
    case REG_LCR: state->lcr = value; break;
    case REG_MCR:
        state->mcr = value & 0x1f;
        look_for_driver(serial);
        break;
    case REG_SCRATCH: state->scratch = value; break;
    default: break; /* LSR and MSR are read-only */
    }
}

/* Not under the lock: the descriptor may be slow, and others must get at the registers. */
static void drain(struct serial *serial, struct vcpu *vcpu)
{
    uint8_t bytes[SERIAL_OUT_BYTES];
    size_t count, done = 0;

    pthread_mutex_lock(&serial->lock);
    count = serial->out_count;
    memcpy(bytes, serial->out, count);
    serial->out_count = 0;
    pthread_mutex_unlock(&serial->lock);

    while (done < count) {
        done += console_write(&serial->console, bytes + done, count - done);
        if (done < count && vcpu && !vcpu_park(vcpu)) {
            console_drop(&serial->console, count - done);
            return;
        }
    }
}

/* All registers are bytes: a wider access is several, as on the ISA bus. */
static uint64_t serial_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct serial *serial = owner;
    uint64_t value = 0;

    (void)vcpu;
    pthread_mutex_lock(&serial->lock);
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)read_register(serial, (unsigned)offset + i) << 8 * i;
    update_line(serial);
    pthread_mutex_unlock(&serial->lock);
    return value;
}

/* Other vCPUs send, too, and may fill up what was just drained. */
static void lock_with_room(struct serial *serial, struct vcpu *vcpu)
{
    pthread_mutex_lock(&serial->lock);
    while (serial->out_count == SERIAL_OUT_BYTES) {
        pthread_mutex_unlock(&serial->lock);
        drain(serial, vcpu);
        pthread_mutex_lock(&serial->lock);
    }
}

/* Of all bytes of an access at most one is sent. */
static void serial_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                         uint64_t value)
{
    struct serial *serial = owner;

    lock_with_room(serial, vcpu);
    for (unsigned i = 0; i < size; i++)
        write_register(serial, (unsigned)offset + i, (uint8_t)(value >> 8 * i));
    update_line(serial);
    pthread_mutex_unlock(&serial->lock);
}

static void serial_after_write(void *owner, struct vcpu *vcpu)
{
    drain(owner, vcpu);
}

int serial_create(struct serial *serial, struct vm *vm, uint16_t port, unsigned gsi, int out_fd,
                  int input_ready_fd)
{
    int err;

    *serial = (struct serial){
        .state = { .divisor_low = 1 },
        .vm = vm,
        .gsi = gsi,
        .input_ready_fd = input_ready_fd,
        .region = { .base = port,
                    .len = SERIAL_PORT_BYTES,
                    .owner = serial,
                    .read = serial_read,
                    .write = serial_write,
                    .after_write = serial_after_write },
    };
    pthread_mutex_init(&serial->lock, NULL);
    console_init(&serial->console, out_fd);
    err = vm ? bus_add(&vm->pio, &serial->region) : 0;
    if (err)
        serial_destroy(serial);
    return err;
}

void serial_destroy(struct serial *serial)
{
    pthread_mutex_destroy(&serial->lock);
}

size_t serial_input(struct serial *serial, const uint8_t *bytes, size_t count)
{
    struct serial_state *state = &serial->state;
    size_t taken = 0;

    pthread_mutex_lock(&serial->lock);
    while (wanted(state) && taken < count && state->rx_count < fifo_bytes(state))
        receive(state, bytes[taken++]);
    serial->no_rx_buffers = taken < count;
    update_line(serial);
    pthread_mutex_unlock(&serial->lock);
    return taken;
}

static bool serial_describe(const void *model, struct device_node *node)
{
    const struct serial *serial = model;

    node->compatible = "ns16550a";
    node->hid = "PNP0501";
    node->port = serial->region.base;
    node->bytes = serial->region.len;
    node->gsi = (int)serial->gsi;
    node->sense = DEVICE_EDGE_RISING;
    return true;
}

const struct device_ops serial_ops = { .name = "serial", .describe = serial_describe };
