#include "devices/legacy/pit.h"

#include <linux/kvm.h>

#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

#define CHANNELS 3
#define SPEAKER  2 /* the channel whose gate is at port 0x61 */

/* Creates KVM's timer if there is none yet. Under the lock. */
static void come_into_being(struct pit *pit)
{
    /* Where KVM has none, the ports stay as they are where nobody answers. */
    if (!pit->tried)
        (void)irq_pit_create(pit->vm);
    pit->tried = true;
}

/* A counter that was never programmed has no count to read. */
static uint64_t pit_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct pit *pit = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    pthread_mutex_lock(&pit->lock);
    come_into_being(pit);
    pthread_mutex_unlock(&pit->lock);
    return 0;
}

/* As the 8254's control word sets up a counter; its count then comes through KVM. */
static void program(struct kvm_pit_state2 *state, uint8_t control)
{
    unsigned channel = control >> 6, access = control >> 4 & 3, mode = control >> 1 & 7;
    struct kvm_pit_channel_state *counter;

    /* Reading back and latching: nothing has been counted. */
    if (channel == CHANNELS || access == 0)
        return;
    counter = &state->channels[channel];
    counter->rw_mode = counter->read_state = counter->write_state = (uint8_t)access;
    counter->mode = (uint8_t)(mode > 5 ? mode - 4 : mode);
    counter->bcd = control & 1;
}

static void pit_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                      uint64_t value)
{
    struct pit *pit = owner;
    struct kvm_pit_state2 state;

    (void)vcpu;
    (void)size;
    pthread_mutex_lock(&pit->lock);
    come_into_being(pit);
    /* A count without a control word before it has no meaning. */
    if (offset == PIT_PORT_CONTROL && irq_pit_get(pit->vm, &state) == 0) {
        program(&state, (uint8_t)value);
        (void)irq_pit_set(pit->vm, &state);
    }
    pthread_mutex_unlock(&pit->lock);
}

static void gate_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                       uint64_t value)
{
    struct pit *pit = owner;
    struct kvm_pit_state2 state;

    (void)vcpu;
    (void)offset;
    (void)size;
    pthread_mutex_lock(&pit->lock);
    come_into_being(pit);
    if (irq_pit_get(pit->vm, &state) == 0) {
        state.channels[SPEAKER].gate = value & 1;
        (void)irq_pit_set(pit->vm, &state);
    }
    pthread_mutex_unlock(&pit->lock);
}

int pit_create(struct pit *pit, struct vm *vm)
{
    int err;

    *pit = (struct pit){
        .vm = vm,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .region = { .base = PIT_PORT,
                    .len = PIT_PORT_CONTROL + 1,
                    .owner = pit,
                    .read = pit_read,
                    .write = pit_write },
        .gate_region = { .base = PIT_GATE_PORT,
                         .len = 1,
                         .owner = pit,
                         .read = pit_read,
                         .write = gate_write },
    };
    err = bus_add(&vm->pio, &pit->region);
    return err ? err : bus_add(&vm->pio, &pit->gate_region);
}
