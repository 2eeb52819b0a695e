#include "vmm/machine/probe.h"

#include <errno.h>
#include <string.h>

#define MEMORY_BYTES (2ull << 20)
#define CODE_GPA     0x1000
#define PML4_GPA     0x2000
#define PDPT_GPA     0x3000
#define PD_GPA       0x4000
/* What takes longer does not come back; a probe that is only late would tell of a quirk. */
#define LIMIT_MS    20000
#define TABLE_ENTRY 0x3ull  /* present, writable */
#define PAGE_ENTRY  0x83ull /* and a page: PS */

struct report {
    struct vm *vm;
    uint32_t value;
};

static void report_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                         uint64_t value)
{
    struct report *report = owner;

    (void)vcpu;
    (void)offset;
    (void)size;
    report->value = (uint32_t)value;
    vm_stop(report->vm, VM_END_GUEST_EXIT, 0);
}

static int enter_long_mode(struct vm *vm, enum probe_mode mode)
{
    const struct vcpu_entry entry = { .rip = CODE_GPA, .cr3 = PML4_GPA };

    *(uint64_t *)memory_at(&vm->memory, PML4_GPA, 8) = PDPT_GPA | TABLE_ENTRY;
    *(uint64_t *)memory_at(&vm->memory, PDPT_GPA,
                           8) = mode == PROBE_64BIT_1GIB ? PAGE_ENTRY : PD_GPA | TABLE_ENTRY;
    *(uint64_t *)memory_at(&vm->memory, PD_GPA, 8) = PAGE_ENTRY;
    return vcpu_enter_long(&vm->vcpus[0], &entry);
}

int probe_run(const struct kvm_host *host, const struct probe_code *probe,
              struct probe_outcome *outcome)
{
    const struct vm_params params = { .memory_bytes = MEMORY_BYTES, .ncpus = 1 };
    struct vm vm;
    struct report report = { .vm = &vm };
    struct bus_region port = {
        .base = PROBE_PORT, .len = 1, .owner = &report, .write = report_write
    };
    uint64_t tsc_hz;
    int err;

    /* `out %eax` is four bytes wide. */
    port.len = 4;
    if (probe->bytes > PROBE_CODE_BYTES)
        return -EINVAL;
    err = vm_create(&vm, host, &params);
    if (err)
        return err;
    err = bus_add(&vm.pio, &port);
    if (err)
        goto destroy_vm;
    memcpy(memory_at(&vm.memory, CODE_GPA, PROBE_CODE_BYTES), probe->code, probe->bytes);
    err = probe->mode == PROBE_32BIT
              ? vcpu_enter_protected(&vm.vcpus[0], &(struct vcpu_entry){ .rip = CODE_GPA })
              : enter_long_mode(&vm, probe->mode);
    if (err)
        goto destroy_vm;
    tsc_hz = vcpu_tsc_hz(&vm.vcpus[0]);
    err = vm_start(&vm);
    if (err)
        goto destroy_vm;
    vm_wait(&vm, probe->limit_ms ? probe->limit_ms : LIMIT_MS);
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    err = vm_wait(&vm, LIMIT_MS);
    if (err)
        return err; /* a vCPU stuck in KVM: its VM cannot be freed */
    *outcome = (struct probe_outcome){ .end = vm.end.reason,
                                       .value = report.value,
                                       .tsc_hz = tsc_hz };

destroy_vm:
    vm_destroy(&vm);
    return err;
}
