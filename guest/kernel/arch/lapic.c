#include "guest/kernel/arch/lapic.h"

#include "guest/abi/machine.h"
#include "guest/kernel/arch/cpu.h"

#define LAPIC_ID        0x20
#define LAPIC_TPR       0x80
#define LAPIC_EOI       0xb0
#define LAPIC_SVR       0xf0
#define LAPIC_ICR_LOW   0x300
#define LAPIC_ICR_HIGH  0x310
#define LAPIC_LVT_TIMER 0x320
#define LAPIC_LVT_LINT0 0x350
#define LAPIC_LVT_LINT1 0x360
#define LAPIC_TIMER_NOW 0x380
#define LAPIC_TIMER_DIV 0x3e0
#define LVT_MASKED      0x10000
#define LVT_DEADLINE    0x40000
#define ICR_INIT        0x4500
#define ICR_STARTUP     0x4600
#define ICR_FIXED       0x4000
#define IOAPIC_LEVEL    0x8000

/* A mov, never anything else: what an interpreting host can decode as MMIO. */
static void lapic_write(uint32_t reg, uint32_t value)
{
    __asm__ volatile("movl %0, (%1)"
                     :
                     : "r"(value), "r"(DIRECT_MAP + ABI_LAPIC_GPA + reg)
                     : "memory");
}

static uint32_t lapic_read(uint32_t reg)
{
    uint32_t value;

    __asm__ volatile("movl (%1), %0"
                     : "=r"(value)
                     : "r"(DIRECT_MAP + ABI_LAPIC_GPA + reg)
                     : "memory");
    return value;
}

void lapic_setup(void)
{
    lapic_write(LAPIC_SVR, 0x100 | VECTOR_SPURIOUS);
    lapic_write(LAPIC_TPR, 0);
    lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, LVT_MASKED);
    lapic_write(LAPIC_TIMER_DIV, 0xb); /* by 1: the bus clock of the usual VMMs is 1 GHz */
    lapic_write(LAPIC_LVT_TIMER, VECTOR_TIMER);
}

uint32_t lapic_id(void)
{
    return lapic_read(LAPIC_ID) >> 24;
}

void lapic_end_of_interrupt(void)
{
    lapic_write(LAPIC_EOI, 0);
}

void lapic_timer(uint32_t ns)
{
    lapic_write(LAPIC_TIMER_NOW, ns);
}

void lapic_timer_mode(uint8_t vector, bool deadline)
{
    lapic_timer(0);
    lapic_write(LAPIC_LVT_TIMER, vector | (deadline ? LVT_DEADLINE : 0));
}

void lapic_priority(uint8_t vector)
{
    lapic_write(LAPIC_TPR, vector & 0xf0);
}

static void command(uint32_t apic_id, uint32_t low)
{
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR_LOW, low);
}

void lapic_send(uint32_t apic_id, uint8_t vector)
{
    command(apic_id, ICR_FIXED | vector);
}

void lapic_start(uint32_t apic_id, uint8_t page)
{
    command(apic_id, ICR_INIT);
    command(apic_id, ICR_STARTUP | page);
}

static void ioapic_write(uint32_t reg, uint32_t value)
{
    uint64_t base = DIRECT_MAP + ABI_IOAPIC_GPA;

    __asm__ volatile("movl %0, (%1)" : : "r"(reg), "r"(base) : "memory");
    __asm__ volatile("movl %0, (%1)" : : "r"(value), "r"(base + 0x10) : "memory");
}

void pic_off(void)
{
    static const struct {
        uint8_t port, value;
    } write[] = {
        { 0x20, 0x11 }, { 0xa0, 0x11 }, /* ICW1: initialise, which drops what is pending */
        { 0x21, 0x70 }, { 0xa1, 0x78 }, /* ICW2: vectors out of the exceptions' way */
        { 0x21, 0x04 }, { 0xa1, 0x02 }, /* ICW3: the second hangs on line 2 */
        { 0x21, 0x01 }, { 0xa1, 0x01 }, /* ICW4: 8086 mode */
        { 0x21, 0xff }, { 0xa1, 0xff }, /* all masked */
    };

    for (unsigned i = 0; i < sizeof(write) / sizeof(write[0]); i++)
        outb(write[i].port, write[i].value);
}

void ioapic_route(uint32_t gsi, uint8_t vector, bool level, uint32_t apic_id)
{
    ioapic_write(0x10 + 2 * gsi + 1, apic_id << 24);
    ioapic_write(0x10 + 2 * gsi, vector | (level ? IOAPIC_LEVEL : 0));
}
