/*
 * How a kernel that goes by ACPI ends the machine: sleep control and status registers
 * and a reset register, a byte each (ACPI 6.4, 4.8.3.7 and 4.8.3.6, as hardware-reduced
 * ACPI has them). S5 is the only sleep state.
 */
#ifndef STRATA_LEGACY_ACPI_PM_H
#define STRATA_LEGACY_ACPI_PM_H

#include "vmm/machine/bus.h"

#define ACPI_PM_PORT          0x600
#define ACPI_PM_BYTES         4
#define ACPI_PM_SLEEP_CONTROL 0
#define ACPI_PM_SLEEP_STATUS  1
#define ACPI_PM_RESET         2

#define ACPI_PM_SLEEP_TYPE_S5 5    /* SLP_TYPx: bits 2 to 4 of the control register, */
#define ACPI_PM_SLEEP_ENABLE  0x20 /* with SLP_EN, which carries it out */
#define ACPI_PM_RESET_VALUE   0x52 /* 'R'; what else is written has no effect */

struct vm;

struct acpi_pm {
    struct vm *vm;
    struct bus_region region;
};

/*
 * Puts the registers on the VM's port bus. S5 ends the run as the guest's exit with
 * status 0, a reset as the guest's reset. 0 or -errno.
 */
int acpi_pm_create(struct acpi_pm *pm, struct vm *vm);

#endif
