#include "vmm/machine/vcpu_sample.h"

#include <errno.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "vmm/machine/vcpu.h"

#define RFLAGS_IF 0x200u

int vcpu_sample(const struct vcpu *vcpu, struct vcpu_sample *sample)
{
    struct kvm_mp_state state;
    struct kvm_regs regs;

    *sample = (struct vcpu_sample){ 0 };
    if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0 || ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
        return -errno;
    sample->halted = state.mp_state == KVM_MP_STATE_HALTED;
    sample->started = sample->halted || state.mp_state == KVM_MP_STATE_RUNNABLE;
    sample->interrupts = regs.rflags & RFLAGS_IF;
    sample->rip = regs.rip;
    sample->rsp = regs.rsp;
    sample->rsi = regs.rsi;
    sample->rdi = regs.rdi;
    for (unsigned i = 0; i < VCPU_EXIT_REASONS; i++)
        sample->exits += vcpu->exits[i];
    return 0;
}
