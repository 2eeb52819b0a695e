#include "vmm/machine/vcpu.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/machine/cpuid.h"
#include "vmm/machine/msr.h"
#include "vmm/machine/vm.h"
#include "vmm/machine/vm_setup.h"

#define APIC_BASE_ENABLED 0x800u
#define APIC_BASE_BSP     0x100u
#define CR0_PE            0x1u
#define CR0_ET            0x10u
#define CR0_PG            0x80000000u
#define CR4_PAE           0x20u
#define EFER_LME          0x100u
#define EFER_LMA          0x400u
#define REAL_MODE_END     0x100000u

/* Intel SDM vol. 4, 2.1. */
#define MSR_MISC_ENABLE          0x1a0
#define MISC_ENABLE_FAST_STRINGS 0x1
#define MSR_MTRR_DEF_TYPE        0x2ff
#define MTRR_ENABLED             0x800
#define MTRR_WRITE_BACK          6

int vcpu_create(struct vcpu *vcpu, struct vm *vm, unsigned index)
{
    char name[VM_THREAD_NAME_BYTES];
    int err;

    *vcpu = (struct vcpu){ .vm = vm, .index = index };
    snprintf(name, sizeof(name), "vCPU %u", index);
    vm_thread_init(&vcpu->thread, vm, VM_THREAD_FRONT, name);
    vcpu->thread.vcpu = vcpu;
    vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, (long)index);
    if (vcpu->fd < 0)
        return -errno;
    vcpu->run = mmap(NULL, vm->host->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (vcpu->run == MAP_FAILED) {
        err = -errno;
        goto close_vcpu;
    }
    return 0;

close_vcpu:
    close(vcpu->fd);
    vcpu->fd = -1;
    return err;
}

/*
 * Model-specific registers that firmware sets before a kernel runs: without them Linux
 * does without fast string instructions (Intel) and without PAT.
 */
static void set_firmware_msrs(const struct vcpu *vcpu)
{
    /* struct kvm_msrs with room for its entries. */
    struct {
        uint32_t nmsrs, padding;
        struct kvm_msr_entry entries[2];
    } msrs = {
        .nmsrs = 2,
        .entries = { { .index = MSR_MTRR_DEF_TYPE, .data = MTRR_ENABLED | MTRR_WRITE_BACK },
                     { .index = MSR_MISC_ENABLE, .data = MISC_ENABLE_FAST_STRINGS } },
    };

    /* It stops at one that a backend does not have; all that costs is speed. */
    (void)ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
}

int vcpu_set_cpuid(struct vcpu *vcpu, const struct cpuid_table *table)
{
    struct cpuid_table own; /* of its room only what is used is touched */

    own.nent = table->nent;
    own.padding = 0;
    memcpy(own.entries, table->entries, table->nent * sizeof(table->entries[0]));
    cpuid_for_vcpu(&own, vcpu->index);
    if (ioctl(vcpu->fd, KVM_SET_CPUID2, &own) < 0)
        return -errno;
    if (vcpu->vm->params.pc)
        set_firmware_msrs(vcpu);
    vcpu->configured = true;
    return 0;
}

int vcpu_configure(struct vcpu *vcpu)
{
    int err = vm_setup_finish(vcpu->vm);

    if (err || vcpu->configured)
        return err;
    return vcpu_set_cpuid(vcpu, vcpu->vm->cpuid);
}

void vcpu_destroy(struct vcpu *vcpu)
{
    if (vcpu->fd < 0)
        return;
    munmap(vcpu->run, vcpu->vm->host->run_bytes);
    close(vcpu->fd);
    vcpu->fd = -1;
}

/* Everything not named is zero, as after reset; so nothing has to be read first. */
static struct kvm_sregs flat_state(const struct vcpu *vcpu, struct kvm_segment code,
                                   struct kvm_segment data)
{
    return (struct kvm_sregs){
        .cs = code,
        .ds = data,
        .es = data,
        .fs = data,
        .gs = data,
        .ss = data,
        .tr = { .limit = 0x67, .type = 11, .present = 1 },
        .ldt = { .limit = 0xffff, .type = 2, .present = 1 },
        .gdt = { .limit = 0xffff },
        .idt = { .limit = 0xffff },
        .cr0 = CR0_ET,
        .apic_base = ABI_LAPIC_GPA | APIC_BASE_ENABLED | (vcpu->index ? 0 : APIC_BASE_BSP),
    };
}

static int enter(struct vcpu *vcpu, const struct kvm_sregs *sregs, const struct vcpu_entry *entry,
                 uint64_t rip)
{
    struct kvm_regs regs = {
        .rip = rip, .rax = entry->rax, .rbx = entry->rbx, .rsi = entry->rsi, .rflags = 2
    };

    if (ioctl(vcpu->fd, KVM_SET_SREGS, sregs) < 0 || ioctl(vcpu->fd, KVM_SET_REGS, &regs) < 0)
        return -errno;
    return 0;
}

int vcpu_enter_protected(struct vcpu *vcpu, const struct vcpu_entry *entry)
{
    const struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
    };
    struct kvm_segment code = data;
    struct kvm_sregs sregs;

    code.selector = 0x8;
    code.type = 11;
    sregs = flat_state(vcpu, code, data);
    sregs.cr0 |= CR0_PE;
    return enter(vcpu, &sregs, entry, entry->rip);
}

int vcpu_enter_long(struct vcpu *vcpu, const struct vcpu_entry *entry)
{
    const struct kvm_segment data = {
        .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1
    };
    struct kvm_segment code = data;
    struct kvm_sregs sregs;
    int err = vcpu_configure(vcpu);

    if (err)
        return err;
    code.selector = 0x10;
    code.type = 11;
    code.db = 0;
    code.l = 1;
    sregs = flat_state(vcpu, code, data);
    sregs.cr0 |= CR0_PE | CR0_PG;
    sregs.cr3 = entry->cr3;
    sregs.cr4 = CR4_PAE;
    sregs.efer = EFER_LME | EFER_LMA;
    if (entry->gdt)
        sregs.gdt = (struct kvm_dtable){ .base = entry->gdt, .limit = entry->gdt_bytes - 1 };
    return enter(vcpu, &sregs, entry, entry->rip);
}

int vcpu_enter_real(struct vcpu *vcpu, const struct vcpu_entry *entry)
{
    const struct kvm_segment data = { .base = entry->rip & 0xf0000,
                                      .limit = 0xffff,
                                      .selector = (entry->rip & 0xf0000) >> 4,
                                      .type = 3,
                                      .present = 1,
                                      .s = 1 };
    struct kvm_segment code = data;
    struct kvm_sregs sregs;

    if (entry->rip >= REAL_MODE_END)
        return -EINVAL;
    code.type = 11;
    sregs = flat_state(vcpu, code, data);
    return enter(vcpu, &sregs, entry, entry->rip & 0xffff);
}

uint64_t vcpu_tsc_hz(const struct vcpu *vcpu)
{
    int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);

    return khz > 0 ? (uint64_t)khz * 1000 : 0;
}

int vcpu_registers(const struct vcpu *vcpu, struct kvm_regs *regs, struct kvm_sregs *sregs)
{
    if (ioctl(vcpu->fd, KVM_GET_REGS, regs) < 0 || ioctl(vcpu->fd, KVM_GET_SREGS, sregs) < 0)
        return -errno;
    return 0;
}

static void vcpu_log_exit(struct vcpu *vcpu, uint64_t address, uint32_t bytes, bool write)
{
    vcpu->exit_log[vcpu->exit_log_next++ % VCPU_EXIT_LOG] = (struct vcpu_exit){
        .reason = vcpu->run->exit_reason, .bytes = bytes, .write = write, .address = address
    };
}

static void exit_io(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    void *data = (char *)run + run->io.data_offset;
    bool write = run->io.direction == KVM_EXIT_IO_OUT;

    vcpu_log_exit(vcpu, run->io.port, run->io.size, write);
    if (write)
        bus_write(&vcpu->vm->pio, vcpu, run->io.port, data, run->io.size, run->io.count);
    else
        bus_read(&vcpu->vm->pio, vcpu, run->io.port, data, run->io.size, run->io.count);
}

static void exit_mmio(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;

    vcpu_log_exit(vcpu, run->mmio.phys_addr, run->mmio.len, run->mmio.is_write);
    if (run->mmio.is_write)
        bus_write(&vcpu->vm->mmio, vcpu, run->mmio.phys_addr, run->mmio.data, run->mmio.len, 1);
    else
        bus_read(&vcpu->vm->mmio, vcpu, run->mmio.phys_addr, run->mmio.data, run->mmio.len, 1);
}

/* A signal or a window that nobody asked for: the loop looks and goes on. */
static void exit_again(struct vcpu *vcpu)
{
    (void)vcpu;
}

static void exit_shutdown(struct vcpu *vcpu)
{
    vm_stop(vcpu->vm, VM_END_TRIPLE_FAULT, 1);
}

static void exit_internal_error(struct vcpu *vcpu)
{
    vm_stop(vcpu->vm, VM_END_INTERNAL_ERROR, 1);
}

static void exit_fail_entry(struct vcpu *vcpu)
{
    vm_stop(vcpu->vm, VM_END_FAIL_ENTRY, 1);
}

/* A reason without an entry is reported and ends the run. */
static void (*const exit_handlers[VCPU_EXIT_REASONS])(struct vcpu *) = {
    [KVM_EXIT_IO] = exit_io,
    [KVM_EXIT_MMIO] = exit_mmio,
    [KVM_EXIT_INTR] = exit_again,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = exit_again,
    [KVM_EXIT_SHUTDOWN] = exit_shutdown,
    [KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
    [KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
    [KVM_EXIT_X86_RDMSR] = msr_read_exit,
};

void vcpu_run(struct vcpu *vcpu)
{
    struct vm *vm = vcpu->vm;
    struct kvm_run *run = vcpu->run;
    int err = vcpu->configured ? 0 : vcpu_set_cpuid(vcpu, vm->cpuid);

    if (err)
        vm_stop_errno(vm, err);
    for (;;) {
        uint32_t reason;

        /*
         * After exit_request immediate_exit is set and this thread signalled (vm_run.c,
         * vm_request_exit_of): if the load misses the flag, KVM_RUN returns at once.
         */
        if (atomic_load_explicit(&vm->exit_request, memory_order_relaxed) && !vcpu_park(vcpu))
            return;
        if (ioctl(vcpu->fd, KVM_RUN, 0) < 0) {
            /* EAGAIN: a vCPU that waited for SIPI just got it. */
            if (errno != EINTR && errno != EAGAIN)
                vm_stop_errno(vm, -errno);
            if (!vcpu_park(vcpu))
                return;
            continue;
        }
        reason = run->exit_reason < VCPU_EXIT_REASONS ? run->exit_reason : VCPU_EXIT_REASONS - 1;
        vcpu->exits[reason]++;
        if (exit_handlers[reason])
            exit_handlers[reason](vcpu);
        else
            vm_stop(vm, VM_END_UNKNOWN_EXIT, 1);
    }
}

const char *vcpu_exit_name(uint32_t reason)
{
    static const char *const names[VCPU_EXIT_REASONS] = {
        [KVM_EXIT_UNKNOWN] = "UNKNOWN",
        [KVM_EXIT_EXCEPTION] = "EXCEPTION",
        [KVM_EXIT_IO] = "IO",
        [KVM_EXIT_HYPERCALL] = "HYPERCALL",
        [KVM_EXIT_DEBUG] = "DEBUG",
        [KVM_EXIT_HLT] = "HLT",
        [KVM_EXIT_MMIO] = "MMIO",
        [KVM_EXIT_IRQ_WINDOW_OPEN] = "IRQ_WINDOW_OPEN",
        [KVM_EXIT_SHUTDOWN] = "SHUTDOWN",
        [KVM_EXIT_FAIL_ENTRY] = "FAIL_ENTRY",
        [KVM_EXIT_INTR] = "INTR",
        [KVM_EXIT_SET_TPR] = "SET_TPR",
        [KVM_EXIT_TPR_ACCESS] = "TPR_ACCESS",
        [KVM_EXIT_NMI] = "NMI",
        [KVM_EXIT_INTERNAL_ERROR] = "INTERNAL_ERROR",
        [KVM_EXIT_SYSTEM_EVENT] = "SYSTEM_EVENT",
        [KVM_EXIT_IOAPIC_EOI] = "IOAPIC_EOI",
        [KVM_EXIT_HYPERV] = "HYPERV",
        [KVM_EXIT_X86_RDMSR] = "X86_RDMSR",
        [KVM_EXIT_X86_WRMSR] = "X86_WRMSR",
        [KVM_EXIT_DIRTY_RING_FULL] = "DIRTY_RING_FULL",
        [KVM_EXIT_X86_BUS_LOCK] = "X86_BUS_LOCK",
        [KVM_EXIT_NOTIFY] = "NOTIFY",
    };
    return reason < VCPU_EXIT_REASONS && names[reason] ? names[reason] : "?";
}
