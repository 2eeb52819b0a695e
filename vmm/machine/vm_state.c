#include "vmm/machine/vm_state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

static int vm_state_fail(const char *what, char *why, size_t why_bytes)
{
    int err = -errno;

    snprintf(why, why_bytes, "%s: %s", what, strerror(-err));
    return err;
}

int vm_state_get(const struct vm *vm, struct vm_state *state, char *why, size_t why_bytes)
{
    struct kvm_clock_data clock = { 0 };

    memset(state, 0, sizeof(*state));
    state->version = VM_STATE_VERSION;
    why[0] = '\0';
    for (uint32_t i = 0; i < 3; i++) {
        state->chips[i].chip_id = i;
        if (ioctl(vm->fd, KVM_GET_IRQCHIP, &state->chips[i]) < 0)
            return vm_state_fail("KVM_GET_IRQCHIP", why, why_bytes);
    }
    /* ENXIO: the VM has none. */
    if (ioctl(vm->fd, KVM_GET_PIT2, &state->pit) == 0)
        state->parts |= VM_STATE_PIT;
    else if (errno != ENXIO)
        return vm_state_fail("KVM_GET_PIT2", why, why_bytes);
    if (ioctl(vm->fd, KVM_GET_CLOCK, &clock) == 0) {
        state->parts |= VM_STATE_CLOCK;
        state->clock_ns = clock.clock;
    }
    return 0;
}

int vm_state_set(const struct vm *vm, const struct vm_state *state, char *why, size_t why_bytes)
{
    const struct kvm_clock_data clock = { .clock = state->clock_ns };

    why[0] = '\0';
    if (state->version != VM_STATE_VERSION) {
        snprintf(why, why_bytes, "not a state of version %u", VM_STATE_VERSION);
        return -EINVAL;
    }
    for (unsigned i = 0; i < 3; i++) {
        if (ioctl(vm->fd, KVM_SET_IRQCHIP, &state->chips[i]) < 0)
            return vm_state_fail("KVM_SET_IRQCHIP", why, why_bytes);
    }
    if (state->parts & VM_STATE_PIT && ioctl(vm->fd, KVM_SET_PIT2, &state->pit) < 0)
        return vm_state_fail("KVM_SET_PIT2", why, why_bytes);
    if (state->parts & VM_STATE_CLOCK && ioctl(vm->fd, KVM_SET_CLOCK, &clock) < 0)
        return vm_state_fail("KVM_SET_CLOCK", why, why_bytes);
    return 0;
}
