#include "vmm/cli/watchdog.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

#define RFLAGS_IF        0x200u
#define NEIGHBOURHOOD    256u
#define PAUSE_TIMEOUT_MS 1000

int watchdog_create(struct watchdog *watchdog, struct vm *vm, unsigned ncpus)
{
    *watchdog = (struct watchdog){ .vm = vm, .ncpus = ncpus };
    watchdog->last = calloc(ncpus, sizeof(*watchdog->last));
    watchdog->spins = calloc(ncpus, sizeof(*watchdog->spins));
    if (watchdog->last && watchdog->spins)
        return 0;
    watchdog_destroy(watchdog);
    return -ENOMEM;
}

void watchdog_destroy(struct watchdog *watchdog)
{
    free(watchdog->last);
    free(watchdog->spins);
    watchdog->last = NULL;
    watchdog->spins = NULL;
}

int watchdog_read(const struct vcpu *vcpu, struct watchdog_cpu *cpu)
{
    struct kvm_mp_state state;
    struct kvm_regs regs;

    *cpu = (struct watchdog_cpu){ 0 };
    if (ioctl(vcpu->fd, KVM_GET_MP_STATE, &state) < 0 || ioctl(vcpu->fd, KVM_GET_REGS, &regs) < 0)
        return -errno;
    cpu->halted = state.mp_state == KVM_MP_STATE_HALTED;
    cpu->started = cpu->halted || state.mp_state == KVM_MP_STATE_RUNNABLE;
    cpu->interrupts = regs.rflags & RFLAGS_IF;
    cpu->rip = regs.rip;
    cpu->rsp = regs.rsp;
    cpu->rsi = regs.rsi;
    cpu->rdi = regs.rdi;
    for (unsigned i = 0; i < VCPU_EXIT_REASONS; i++)
        cpu->exits += vcpu->exits[i];
    return 0;
}

static bool near(uint64_t a, uint64_t b)
{
    return (a > b ? a - b : b - a) < NEIGHBOURHOOD;
}

static bool spins(const struct watchdog_cpu *now, const struct watchdog_cpu *before)
{
    return now->started && !now->halted && !now->interrupts && now->exits == before->exits &&
           near(now->rip, before->rip) && now->rsp == before->rsp && now->rsi == before->rsi &&
           now->rdi == before->rdi;
}

bool watchdog_judge(struct watchdog *watchdog, const struct watchdog_cpu *cpus)
{
    unsigned started = 0, dead = 0;
    bool hung = false;

    for (unsigned i = 0; i < watchdog->ncpus; i++) {
        const struct watchdog_cpu *cpu = &cpus[i];

        started += cpu->started;
        dead += cpu->halted && !cpu->interrupts;
        /* Against the first look of the row, so that it cannot wander off step by step. */
        if (!spins(cpu, &watchdog->last[i])) {
            watchdog->last[i] = *cpu;
            watchdog->spins[i] = 0;
        } else if (++watchdog->spins[i] >= WATCHDOG_LOOKS && !hung) {
            hung = true;
            snprintf(watchdog->why, sizeof(watchdog->why),
                     "vCPU %u spins with interrupts off near 0x%llx", i,
                     (unsigned long long)cpu->rip);
        }
    }
    watchdog->halts = started && dead == started ? watchdog->halts + 1 : 0;
    if (watchdog->halts > WATCHDOG_LOOKS && !hung) {
        hung = true;
        snprintf(watchdog->why, sizeof(watchdog->why), "%s halted with interrupts off",
                 started > 1 ? "all vCPUs are" : "the vCPU is");
    }
    return hung;
}

bool watchdog_look(struct watchdog *watchdog)
{
    struct watchdog_cpu cpus[VM_CPUS_MAX];
    unsigned stuck;
    int err = vm_pause_within(watchdog->vm, PAUSE_TIMEOUT_MS, &stuck);

    if (err) {
        /* Where somebody else holds the world for so long, that is no hang. */
        watchdog->stuck = stuck == VM_NO_VCPU ? 0 : watchdog->stuck + 1;
        snprintf(watchdog->why, sizeof(watchdog->why), "vCPU %u does not come out of KVM", stuck);
        return watchdog->stuck >= WATCHDOG_LOOKS;
    }
    watchdog->stuck = 0;
    for (unsigned i = 0; i < watchdog->ncpus && !err; i++)
        err = watchdog_read(&watchdog->vm->vcpus[i], &cpus[i]);
    vm_resume(watchdog->vm, NULL);
    return !err && watchdog_judge(watchdog, cpus);
}
