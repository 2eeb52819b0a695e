#include "vmm/boot/mptable.h"
#include "vmm/boot/source.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "guest/abi/machine.h"
#include "vmm/boot/checksum.h"
#include "vmm/boot/layout.h"
#include "vmm/machine/vm.h"

#define ISA_LINES     16
#define ISA_CASCADE   2 /* the second PIC's; no device's */
#define IOAPIC_PINS   24
#define APIC_ID_MAX   254
#define MP_REVISION   4
#define LAPIC_VERSION 0x14
/* KVM's (Intel 82093AA data sheet, 3.2.2). */
#define IOAPIC_VERSION 0x11

struct mp_pointer { /* 4.1 */
    char signature[4];
    uint32_t table;
    uint8_t paragraphs, revision, checksum, features[5];
};

struct mp_table { /* 4.2 */
    char signature[4];
    uint16_t length;
    uint8_t revision, checksum;
    char oem_id[8];
    char product_id[12];
    uint32_t oem_table;
    uint16_t oem_table_bytes, entries;
    uint32_t local_apic;
    uint16_t extended_bytes;
    uint8_t extended_checksum, reserved;
};

struct mp_processor { /* 4.3.1 */
    uint8_t type, apic_id, apic_version, flags;
    uint32_t signature, features, reserved[2];
};

struct mp_bus { /* 4.3.2 */
    uint8_t type, id;
    char name[6];
};

struct mp_ioapic { /* 4.3.3 */
    uint8_t type, id, version, flags;
    uint32_t address;
};

struct mp_interrupt { /* 4.3.4 and 4.3.5 */
    uint8_t type, kind;
    uint16_t flags;
    uint8_t bus, irq, apic_id, pin;
};

enum { PROCESSOR = 0, BUS = 1, IOAPIC = 2, IO_INTERRUPT = 3, LOCAL_INTERRUPT = 4 };
enum { KIND_INT = 0, KIND_NMI = 1, KIND_EXTINT = 3 };

enum {
    ENABLED = 1,
    BOOT_PROCESSOR = 2,
    FEATURES_FPU_APIC = 0x201, /* of CPUID leaf 1; the CPU tells more */
    ACTIVE_HIGH = 1,
    LEVEL = 3 << 2, /* 0: as the bus has it, for ISA edges and active high */
    ALL_APICS = 0xff,
    LINT_EXTINT = 0,
    LINT_NMI = 1,
};

_Static_assert(sizeof(struct mp_pointer) == 16 && sizeof(struct mp_table) == 44 &&
                   sizeof(struct mp_processor) == 20 && sizeof(struct mp_interrupt) == 8,
               "MultiProcessor Specification 1.4, chapter 4");

static void *mptable_append(void *to, const void *entry, size_t bytes)
{
    return (char *)memcpy(to, entry, bytes) + bytes;
}

static void *mptable_append_processor(void *at, unsigned id)
{
    const struct mp_processor cpu = { .type = PROCESSOR,
                                      .apic_id = (uint8_t)id,
                                      .apic_version = LAPIC_VERSION,
                                      .flags = ENABLED | (id ? 0 : BOOT_PROCESSOR),
                                      .features = FEATURES_FPU_APIC };

    return mptable_append(at, &cpu, sizeof(cpu));
}

/* The node whose interrupt comes at this pin, or NULL. */
static const struct device_node *mptable_user_of(unsigned pin, const struct device_node *nodes,
                                                 unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].gsi == (int)pin)
            return &nodes[i];
    }
    return NULL;
}

static void *mptable_append_pin(void *at, unsigned pin, bool level, uint8_t ioapic_id)
{
    const struct mp_interrupt line = { .type = IO_INTERRUPT,
                                       .kind = KIND_INT,
                                       .flags = level ? ACTIVE_HIGH | LEVEL : 0,
                                       .irq = (uint8_t)pin,
                                       .apic_id = ioapic_id,
                                       .pin = (uint8_t)pin };

    return mptable_append(at, &line, sizeof(line));
}

static unsigned mptable_append_pins(void **at, const struct device_node *nodes, unsigned count,
                                    uint8_t ioapic_id)
{
    unsigned lines = 0;

    for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
        const struct device_node *node = mptable_user_of(pin, nodes, count);

        if (pin == ISA_CASCADE || (pin >= ISA_LINES && !node))
            continue;
        *at = mptable_append_pin(*at, pin, node && node->sense == DEVICE_LEVEL_HIGH, ioapic_id);
        lines++;
    }
    return lines;
}

static void *mptable_append_local(void *at, uint8_t kind, uint8_t apic_id, uint8_t lint)
{
    const struct mp_interrupt local = {
        .type = LOCAL_INTERRUPT, .kind = kind, .apic_id = apic_id, .pin = lint
    };

    return mptable_append(at, &local, sizeof(local));
}

int mptable_build(void *to, size_t bytes, uint64_t gpa, unsigned ncpus,
                  const struct device_node *nodes, unsigned count)
{
    const size_t most = sizeof(struct mp_pointer) + sizeof(struct mp_table) +
                        ncpus * sizeof(struct mp_processor) + sizeof(struct mp_bus) +
                        sizeof(struct mp_ioapic) + (IOAPIC_PINS + 2) * sizeof(struct mp_interrupt);
    const struct mp_bus isa = { .type = BUS, .name = "ISA   " };
    /* Its id is not that of a CPU. */
    const struct mp_ioapic ioapic = { .type = IOAPIC,
                                      .id = (uint8_t)ncpus,
                                      .version = IOAPIC_VERSION,
                                      .flags = ENABLED,
                                      .address = (uint32_t)ABI_IOAPIC_GPA };
    struct mp_pointer *pointer = to;
    struct mp_table *table = (struct mp_table *)(pointer + 1);
    void *at = table + 1;

    if (ncpus > APIC_ID_MAX)
        return -ERANGE;
    if (most > bytes)
        return -ENOSPC;
    *table = (struct mp_table){ .signature = "PCMP",
                                .revision = MP_REVISION,
                                .oem_id = "STRATA  ",
                                .product_id = "STRATAVM    ",
                                .local_apic = (uint32_t)ABI_LAPIC_GPA };
    for (unsigned i = 0; i < ncpus; i++)
        at = mptable_append_processor(at, i);
    at = mptable_append(at, &isa, sizeof(isa));
    at = mptable_append(at, &ioapic, sizeof(ioapic));
    table->entries = (uint16_t)(ncpus + 4 + mptable_append_pins(&at, nodes, count, ioapic.id));
    at = mptable_append_local(at, KIND_EXTINT, 0, LINT_EXTINT);
    at = mptable_append_local(at, KIND_NMI, ALL_APICS, LINT_NMI);
    table->length = (uint16_t)((char *)at - (char *)table);
    table->checksum = checksum(table, table->length);

    *pointer = (struct mp_pointer){ .signature = "_MP_",
                                    .table = (uint32_t)(gpa + sizeof(*pointer)),
                                    .paragraphs = sizeof(*pointer) / 16,
                                    .revision = MP_REVISION };
    pointer->checksum = checksum(pointer, sizeof(*pointer));
    return (int)((char *)at - (char *)to);
}

int mptable_write(struct vm *vm, const struct board *board, struct error *error)
{
    void *to = memory_at(&vm->memory, LAYOUT_MPTABLE_GPA, LAYOUT_MPTABLE_BYTES);
    struct device_node nodes[BOARD_NODES_MAX];
    unsigned count = board_describe(board, nodes, BOARD_NODES_MAX);
    int used = to ? mptable_build(to, LAYOUT_MPTABLE_BYTES, LAYOUT_MPTABLE_GPA, vm->ncpus, nodes,
                                  count)
                  : -ENOSPC;

    if (!to)
        return error_field(error, used, BOOT_FIELD_MEMORY,
                           "too little memory for the MP table; give more");
    if (used < 0)
        return error_field(error, used, BOOT_FIELD_CPUS,
                           "%u CPUs do not fit into an MP table; give fewer", vm->ncpus);
    return 0;
}
