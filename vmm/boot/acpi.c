#include "vmm/boot/acpi.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "vmm/boot/aml.h"
#include "vmm/boot/checksum.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/vm.h"

#define PACKED         __attribute__((packed))
#define TABLES_MAX     4 /* that the XSDT names */
#define TABLE_ALIGN    16
#define APIC_ID_MAX    254 /* 255 means all */
#define ACPI_1_0_BYTES 20  /* of the RSDP, with a checksum of their own */

struct rsdp { /* 5.2.5.3 */
    char signature[8];
    uint8_t checksum;
    char oem_id[6];
    uint8_t revision;
    uint32_t rsdt_address;
    uint32_t length;
    uint64_t xsdt_address;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} PACKED;

struct header { /* 5.2.6 */
    char signature[4];
    uint32_t length;
    uint8_t revision;
    uint8_t checksum;
    char oem_id[6];
    char oem_table_id[8];
    uint32_t oem_revision;
    char creator_id[4];
    uint32_t creator_revision;
} PACKED;

struct xsdt { /* 5.2.8; shorter where there are fewer */
    struct header header;
    uint64_t entries[TABLES_MAX];
} PACKED;

struct address { /* 5.2.3.2, generic address structure */
    uint8_t space, bits, bit_offset, access_size;
    uint64_t address;
} PACKED;

struct fadt { /* 5.2.9 */
    struct header header;
    uint32_t firmware_ctrl, dsdt;
    uint8_t reserved_44, preferred_pm_profile;
    uint16_t sci_interrupt;
    uint8_t pm_blocks[60]; /* SMI_CMD to MON_ALRM: fixed hardware, of which there is none */
    uint8_t century;
    uint16_t iapc_boot_arch;
    uint8_t reserved_111;
    uint32_t flags;
    struct address reset;
    uint8_t reset_value;
    uint16_t arm_boot_arch;
    uint8_t minor_version;
    uint64_t x_firmware_ctrl, x_dsdt;
    struct address x_pm_blocks[8];
    struct address sleep_control, sleep_status;
    char hypervisor_vendor[8];
} PACKED;

enum {
    FADT_WBINVD = 1 << 0,
    FADT_NO_POWER_BUTTON = 1 << 4, /* of the fixed kind, and it says where there is another */
    FADT_NO_SLEEP_BUTTON = 1 << 5,
    FADT_NO_RTC_WAKE = 1 << 6,
    FADT_RESET_REGISTER = 1 << 10,
    FADT_HEADLESS = 1 << 12,
    FADT_HW_REDUCED = 1 << 20,

    /* No legacy devices on a bus, no keyboard controller; there is an RTC. */
    BOOT_ARCH_NO_VGA = 1 << 2,

    SPACE_IO = 1,
    ACCESS_BYTE = 1,
};

struct madt { /* 5.2.12 */
    struct header header;
    uint32_t local_apic;
    uint32_t flags;
} PACKED;

struct madt_local_apic {
    uint8_t type, length, processor_uid, apic_id;
    uint32_t flags;
} PACKED;

struct madt_ioapic {
    uint8_t type, length, id, reserved;
    uint32_t address, gsi_base;
} PACKED;

struct madt_local_nmi {
    uint8_t type, length, processor_uid;
    uint16_t flags;
    uint8_t lint;
} PACKED;

enum { MADT_LOCAL_APIC = 0, MADT_IOAPIC = 1, MADT_LOCAL_NMI = 4 };
enum { LOCAL_APIC_ENABLED = 1, ALL_PROCESSORS = 0xff, LINT_NMI = 1 };

struct viot {
    struct header header;
    uint16_t node_count, node_offset;
    uint8_t reserved[8];
} PACKED;

struct viot_mmio_iommu {
    uint8_t type, reserved;
    uint16_t length;
    uint32_t reserved_4;
    uint64_t base;
} PACKED;

struct viot_mmio_endpoint {
    uint8_t type, reserved;
    uint16_t length;
    uint32_t endpoint;
    uint64_t base;
    uint16_t output_node; /* where the IOMMU's node is in the table */
    uint8_t reserved_18[6];
} PACKED;

enum { VIOT_MMIO_ENDPOINT = 2, VIOT_MMIO_IOMMU = 4 };

_Static_assert(sizeof(struct rsdp) == 36 && sizeof(struct header) == 36,
               "ACPI 6.4, 5.2.5 and 5.2.6");
_Static_assert(sizeof(struct fadt) == 276, "ACPI 6.4, 5.2.9");
_Static_assert(offsetof(struct fadt, century) == 108 && offsetof(struct fadt, flags) == 112 &&
                   offsetof(struct fadt, x_dsdt) == 140 &&
                   offsetof(struct fadt, sleep_control) == 244,
               "ACPI 6.4, 5.2.9");
_Static_assert(sizeof(struct viot) == 48 && sizeof(struct viot_mmio_iommu) == 16 &&
                   sizeof(struct viot_mmio_endpoint) == 24,
               "ACPI 6.5, 5.2.36");

/* Where the tables go, one after the other. */
struct area {
    uint8_t *bytes;
    size_t room;
    size_t used;
    uint64_t gpa;
};

/* A table begins at an aligned place, its parts follow each other. NULL: no room. */
static void *acpi_take(struct area *area, size_t bytes, size_t align)
{
    size_t at = (area->used + align - 1) & ~(align - 1);

    if (at > area->room || bytes > area->room - at)
        return NULL;
    area->used = at + bytes;
    return memset(area->bytes + at, 0, bytes);
}

static uint64_t acpi_gpa_of(const struct area *area, const void *at)
{
    return area->gpa + (uint64_t)((const uint8_t *)at - area->bytes);
}

static struct header acpi_header(const char *signature, uint8_t revision)
{
    struct header header = { .revision = revision, .oem_revision = 1, .creator_revision = 1 };

    memcpy(header.signature, signature, sizeof(header.signature));
    memcpy(header.oem_id, "STRATA", sizeof(header.oem_id));
    memcpy(header.oem_table_id, "STRATAVM", sizeof(header.oem_table_id));
    memcpy(header.creator_id, "STRA", sizeof(header.creator_id));
    return header;
}

/* All that was taken since the table began belongs to it. */
static void acpi_finish(const struct area *area, struct header *table)
{
    table->length = (uint32_t)(area->bytes + area->used - (uint8_t *)table);
    table->checksum = 0;
    table->checksum = checksum(table, table->length);
}

static struct address acpi_port_byte(uint16_t port)
{
    return (struct address){
        .space = SPACE_IO, .bits = 8, .access_size = ACCESS_BYTE, .address = port
    };
}

static bool acpi_shares_gsi(const struct device_node *nodes, unsigned count, unsigned which)
{
    for (unsigned i = 0; i < count; i++) {
        if (i != which && nodes[i].gsi == nodes[which].gsi)
            return true;
    }
    return false;
}

static void acpi_add_device(struct aml *aml, const struct device_node *nodes, unsigned count,
                            unsigned which)
{
    const struct device_node *node = &nodes[which];
    unsigned uid = 0;
    char name[8];
    size_t device, resources;

    /* _UID tells those of one hardware id apart. */
    for (unsigned i = 0; i < which; i++)
        uid += nodes[i].hid && !strcmp(nodes[i].hid, node->hid);
    snprintf(name, sizeof(name), "D%03X", which & 0xfff);
    device = aml_device(aml, name);
    aml_name(aml, "_HID");
    aml_string(aml, node->hid);
    aml_name(aml, "_UID");
    aml_integer(aml, uid);
    if (node->gpa) {
        aml_name(aml, "_CCA"); /* its DMA is coherent */
        aml_integer(aml, 1);
    }
    aml_name(aml, "_CRS");
    resources = aml_resources(aml);
    if (node->gpa)
        aml_memory(aml, (uint32_t)node->gpa, (uint32_t)node->bytes);
    else
        aml_io(aml, (uint16_t)node->port, (uint8_t)node->bytes);
    if (node->gsi >= 0)
        aml_interrupt(aml, (uint32_t)node->gsi, node->sense == DEVICE_LEVEL_HIGH,
                      acpi_shares_gsi(nodes, count, which));
    aml_resources_end(aml, resources);
    aml_end(aml, device);
}

static struct header *acpi_build_dsdt(struct area *area, const struct device_node *nodes,
                                      unsigned count)
{
    struct header *dsdt = acpi_take(area, sizeof(*dsdt), TABLE_ALIGN);
    struct aml aml = { .bytes = area->bytes + area->used, .room = area->room - area->used };
    size_t begun;

    if (!dsdt)
        return NULL;
    *dsdt = acpi_header("DSDT", 2);
    aml_name(&aml, "_S5"); /* SLP_TYPa, SLP_TYPb and two reserved ones */
    begun = aml_package(&aml, 4);
    for (unsigned i = 0; i < 4; i++)
        aml_integer(&aml, i ? 0 : ACPI_PM_SLEEP_TYPE_S5);
    aml_end(&aml, begun);
    begun = aml_scope(&aml, "_SB");
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].hid)
            acpi_add_device(&aml, nodes, count, i);
    }
    aml_end(&aml, begun);
    if (aml.overflow)
        return NULL;
    area->used += aml.used;
    acpi_finish(area, dsdt);
    return dsdt;
}

static struct header *acpi_build_fadt(struct area *area, const struct header *dsdt)
{
    struct fadt *fadt = acpi_take(area, sizeof(*fadt), TABLE_ALIGN);

    if (!fadt)
        return NULL;
    *fadt = (struct fadt){
        .header = acpi_header("FACP", 6),
        .minor_version = 4,
        .dsdt = (uint32_t)acpi_gpa_of(area, dsdt),
        .x_dsdt = acpi_gpa_of(area, dsdt),
        .century = RTC_CENTURY,
        .iapc_boot_arch = BOOT_ARCH_NO_VGA,
        .flags = FADT_WBINVD | FADT_NO_POWER_BUTTON | FADT_NO_SLEEP_BUTTON | FADT_NO_RTC_WAKE |
                 FADT_RESET_REGISTER | FADT_HEADLESS | FADT_HW_REDUCED,
        .reset = acpi_port_byte(ACPI_PM_PORT + ACPI_PM_RESET),
        .reset_value = ACPI_PM_RESET_VALUE,
        .sleep_control = acpi_port_byte(ACPI_PM_PORT + ACPI_PM_SLEEP_CONTROL),
        .sleep_status = acpi_port_byte(ACPI_PM_PORT + ACPI_PM_SLEEP_STATUS),
        .hypervisor_vendor = "strata",
    };
    acpi_finish(area, &fadt->header);
    return &fadt->header;
}

/*
 * ISA interrupts reach the IOAPIC's pins of the same numbers, edges and active high, as
 * they are without an override; what the other pins are is in the DSDT.
 */
static struct header *acpi_build_madt(struct area *area, unsigned ncpus)
{
    struct madt *madt = acpi_take(area, sizeof(*madt), TABLE_ALIGN);
    struct madt_local_apic *cpus = acpi_take(area, ncpus * sizeof(*cpus), 1);
    struct madt_ioapic *ioapic = acpi_take(area, sizeof(*ioapic), 1);
    struct madt_local_nmi *nmi = acpi_take(area, sizeof(*nmi), 1);

    if (!madt || !cpus || !ioapic || !nmi)
        return NULL;
    *madt = (struct madt){ .header = acpi_header("APIC", 5),
                           .local_apic = (uint32_t)ABI_LAPIC_GPA };
    for (unsigned i = 0; i < ncpus; i++)
        cpus[i] = (struct madt_local_apic){ .type = MADT_LOCAL_APIC,
                                            .length = sizeof(cpus[i]),
                                            .processor_uid = (uint8_t)i,
                                            .apic_id = (uint8_t)i,
                                            .flags = LOCAL_APIC_ENABLED };
    *ioapic = (struct madt_ioapic){ .type = MADT_IOAPIC,
                                    .length = sizeof(*ioapic),
                                    .address = (uint32_t)ABI_IOAPIC_GPA };
    *nmi = (struct madt_local_nmi){ .type = MADT_LOCAL_NMI,
                                    .length = sizeof(*nmi),
                                    .processor_uid = ALL_PROCESSORS,
                                    .lint = LINT_NMI };
    acpi_finish(area, &madt->header);
    return &madt->header;
}

/* What the IOMMU does not translate is not in it: that device's DMA goes straight. */
static struct header *acpi_build_viot(struct area *area, const struct device_node *iommu,
                                      const struct device_node *nodes, unsigned count)
{
    struct viot *viot = acpi_take(area, sizeof(*viot), TABLE_ALIGN);
    struct viot_mmio_iommu *unit = acpi_take(area, sizeof(*unit), 1);

    if (!viot || !unit)
        return NULL;
    *viot = (struct viot){ .header = acpi_header("VIOT", 0),
                           .node_count = 1,
                           .node_offset = sizeof(*viot) };
    *unit = (struct viot_mmio_iommu){ .type = VIOT_MMIO_IOMMU,
                                      .length = sizeof(*unit),
                                      .base = iommu->gpa };
    for (unsigned i = 0; i < count; i++) {
        struct viot_mmio_endpoint *endpoint;

        if (!nodes[i].translated)
            continue;
        endpoint = acpi_take(area, sizeof(*endpoint), 1);
        if (!endpoint)
            return NULL;
        *endpoint = (struct viot_mmio_endpoint){ .type = VIOT_MMIO_ENDPOINT,
                                                 .length = sizeof(*endpoint),
                                                 .endpoint = nodes[i].endpoint,
                                                 .base = nodes[i].gpa,
                                                 .output_node = viot->node_offset };
        viot->node_count++;
    }
    acpi_finish(area, &viot->header);
    return &viot->header;
}

static struct header *acpi_build_xsdt(struct area *area, struct header *const *tables,
                                      unsigned count)
{
    struct xsdt *xsdt = acpi_take(area, sizeof(xsdt->header) + count * sizeof(xsdt->entries[0]),
                                  TABLE_ALIGN);

    if (!xsdt)
        return NULL;
    xsdt->header = acpi_header("XSDT", 1);
    for (unsigned i = 0; i < count; i++)
        xsdt->entries[i] = acpi_gpa_of(area, tables[i]);
    acpi_finish(area, &xsdt->header);
    return &xsdt->header;
}

static void acpi_fill_rsdp(struct rsdp *rsdp, uint64_t xsdt_gpa)
{
    *rsdp = (struct rsdp){ .revision = 2, .length = sizeof(*rsdp), .xsdt_address = xsdt_gpa };
    memcpy(rsdp->signature, "RSD PTR ", sizeof(rsdp->signature));
    memcpy(rsdp->oem_id, "STRATA", sizeof(rsdp->oem_id));
    rsdp->checksum = checksum(rsdp, ACPI_1_0_BYTES);
    rsdp->extended_checksum = checksum(rsdp, sizeof(*rsdp));
}

static const struct device_node *acpi_find_iommu(const struct device_node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].is_iommu)
            return &nodes[i];
    }
    return NULL;
}

int acpi_build(void *to, size_t bytes, uint64_t gpa, unsigned ncpus,
               const struct device_node *nodes, unsigned count)
{
    struct area area = { .bytes = to, .room = bytes, .gpa = gpa };
    const struct device_node *iommu = acpi_find_iommu(nodes, count);
    struct rsdp *rsdp = acpi_take(&area, sizeof(*rsdp), TABLE_ALIGN);
    struct header *tables[TABLES_MAX], *dsdt, *xsdt;
    unsigned ntables = 0;

    if (ncpus > APIC_ID_MAX + 1)
        return -ERANGE;
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].gpa + nodes[i].bytes > UINT32_MAX)
            return -ERANGE;
    }
    dsdt = rsdp ? acpi_build_dsdt(&area, nodes, count) : NULL;
    if (!dsdt)
        return -ENOSPC;
    tables[ntables++] = acpi_build_fadt(&area, dsdt);
    tables[ntables++] = acpi_build_madt(&area, ncpus);
    if (iommu)
        tables[ntables++] = acpi_build_viot(&area, iommu, nodes, count);
    for (unsigned i = 0; i < ntables; i++) {
        if (!tables[i])
            return -ENOSPC;
    }
    xsdt = acpi_build_xsdt(&area, tables, ntables);
    if (!xsdt)
        return -ENOSPC;
    acpi_fill_rsdp(rsdp, acpi_gpa_of(&area, xsdt));
    return (int)area.used;
}

int acpi_write(struct vm *vm, const struct board *board, uint64_t *rsdp_gpa, struct error *error)
{
    void *to = memory_at(&vm->memory, LAYOUT_ACPI_GPA, LAYOUT_ACPI_BYTES);
    struct device_node nodes[BOARD_NODES_MAX];
    unsigned count = board_describe(board, nodes, BOARD_NODES_MAX);
    int used = to ? acpi_build(to, LAYOUT_ACPI_BYTES, LAYOUT_ACPI_GPA, vm->ncpus, nodes, count)
                  : -ENOSPC;

    if (!to)
        return error_field(error, used, BOOT_FIELD_MEMORY,
                           "too little memory for ACPI tables; give more");
    if (used < 0)
        return error_set(error, used,
                         "the ACPI tables of %u CPUs and %u devices do not fit into %llu bytes; "
                         "give fewer CPUs or devices",
                         vm->ncpus, count, LAYOUT_ACPI_BYTES);
    *rsdp_gpa = LAYOUT_ACPI_GPA;
    return 0;
}
