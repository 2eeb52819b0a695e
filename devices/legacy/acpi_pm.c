#include "devices/legacy/acpi_pm.h"

#include "vmm/machine/vm.h"

#define SLEEP_TYPE(value) ((value) >> 2 & 7)

/* The control register reads as zero, as it may; status: never woken up. */
static uint64_t acpi_pm_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    (void)owner;
    (void)vcpu;
    (void)offset;
    (void)size;
    return 0;
}

static void acpi_pm_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                          uint64_t value)
{
    struct acpi_pm *pm = owner;

    (void)vcpu;
    /* The registers are bytes, and firmware tells the guest so. */
    if (size != 1)
        return;
    if (offset == ACPI_PM_SLEEP_CONTROL && value & ACPI_PM_SLEEP_ENABLE &&
        SLEEP_TYPE(value) == ACPI_PM_SLEEP_TYPE_S5)
        vm_stop(pm->vm, VM_END_GUEST_EXIT, 0);
    if (offset == ACPI_PM_RESET && value == ACPI_PM_RESET_VALUE)
        vm_stop(pm->vm, VM_END_GUEST_RESET, 0);
}

int acpi_pm_create(struct acpi_pm *pm, struct vm *vm)
{
    *pm = (struct acpi_pm){
        .vm = vm,
        .region = { .base = ACPI_PM_PORT,
                    .len = ACPI_PM_BYTES,
                    .owner = pm,
                    .read = acpi_pm_read,
                    .write = acpi_pm_write },
    };
    return bus_add(&vm->pio, &pm->region);
}
