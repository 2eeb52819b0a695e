#include "guest/kernel/arch/cpu.h"

#include <stddef.h>

#include "guest/abi/syscall.h"

/* trap.S knows these. */
_Static_assert(offsetof(struct cpu, stack_top) == 8, "CPU_STACK");
_Static_assert(offsetof(struct cpu, regs_end) == 16, "CPU_REGS_END");
_Static_assert(offsetof(struct cpu, user_rsp) == 24, "CPU_USER_RSP");
_Static_assert(offsetof(struct regs, vector) == 120, "REGS_VECTOR");
_Static_assert(offsetof(struct regs, cs) == 144, "REGS_CS");
_Static_assert(SYS_PROBE == 29, "SYS_PROBE_NUMBER");

#define MSR_STAR           0xc0000081
#define MSR_LSTAR          0xc0000082
#define MSR_FMASK          0xc0000084
#define MSR_GS_BASE        0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102

struct idt_gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_middle;
    uint32_t offset_high, reserved;
};

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

struct cpu cpus[CPUS_MAX];
unsigned cpu_count = 1;

static struct idt_gate idt[256];

extern char trap_stubs[], syscall_entry[];

/* Interrupt gates for the vectors that can come: exceptions and our own. */
static void idt_set_entry(unsigned vector, unsigned ist, uint64_t entry)
{
    idt[vector] = (struct idt_gate){
        .offset_low = (uint16_t)entry,
        .selector = SELECTOR_KERNEL_CODE,
        .ist = (uint8_t)ist,
        .type = 0x8e,
        .offset_middle = (uint16_t)(entry >> 16),
        .offset_high = (uint32_t)(entry >> 32),
    };
}

static void idt_set(unsigned vector, unsigned ist)
{
    idt_set_entry(vector, ist, (uint64_t)trap_stubs + 16 * vector);
}

static void idt_fill(void)
{
    for (unsigned vector = 0; vector < 32; vector++)
        idt_set(vector, 0);
    /* These two may come on a stack that cannot be trusted. */
    idt_set(2, 1);
    idt_set(8, 1);
    idt_set(VECTOR_TIMER, 0);
    idt_set(VECTOR_SERIAL, 0);
    idt_set(VECTOR_WAKE, 0);
    idt_set(VECTOR_SPURIOUS, 0);
    /* int3 may be executed by programs. */
    idt[3].type = 0xee;
}

void cpu_open_vector(unsigned vector)
{
    idt_set(vector, 0);
}

void cpu_set_vector(unsigned vector, const char *entry)
{
    idt_set_entry(vector, 0, (uint64_t)entry);
}

void cpu_setup(struct cpu *cpu, uint64_t stack_top)
{
    uint64_t tss = (uint64_t)&cpu->tss;
    struct table_pointer gdtr = { sizeof(cpu->gdt) - 1, (uint64_t)cpu->gdt };
    struct table_pointer idtr = { sizeof(idt) - 1, (uint64_t)idt };

    if (!idt[0].selector)
        idt_fill();
    cpu->self = cpu;
    cpu->stack_top = stack_top;
    cpu->tss.ist[0] = (uint64_t)(cpu->fault_stack + sizeof(cpu->fault_stack));
    cpu->tss.io_map = sizeof(cpu->tss);
    cpu->gdt[1] = 0x00af9a000000ffff;
    cpu->gdt[2] = 0x00cf92000000ffff;
    cpu->gdt[3] = 0x00cff2000000ffff;
    cpu->gdt[4] = 0x00affa000000ffff;
    cpu->gdt[5] = (sizeof(cpu->tss) - 1) | (tss & 0xffffff) << 16 | 0x89ull << 40 |
                  (tss >> 24 & 0xff) << 56;
    cpu->gdt[6] = tss >> 32;

    __asm__ volatile("lgdt %0\n\t"
                     "lidt %1\n\t"
                     "pushq %2\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\tmov %3, %%ss\n\t"
                     "xor %%eax, %%eax\n\t"
                     "mov %%eax, %%ds\n\t"
                     "mov %%eax, %%es\n\t"
                     "mov %%eax, %%fs\n\t"
                     "mov %%eax, %%gs\n\t"
                     "ltr %w4"
                     :
                     : "m"(gdtr), "m"(idtr), "i"(SELECTOR_KERNEL_CODE), "r"(SELECTOR_KERNEL_DATA),
                       "r"(SELECTOR_TSS)
                     : "rax", "memory");

    wrmsr(MSR_GS_BASE, (uint64_t)cpu);
    wrmsr(MSR_KERNEL_GS_BASE, 0);
    wrmsr(MSR_STAR, (uint64_t)0x13 << 48 | (uint64_t)SELECTOR_KERNEL_CODE << 32);
    wrmsr(MSR_LSTAR, (uint64_t)syscall_entry);
    wrmsr(MSR_FMASK, 0x47700); /* TF IF DF IOPL NT AC */
}

static uint32_t extended_edx(uint32_t leaf, uint32_t *eax)
{
    uint32_t ebx, ecx = 0, edx;

    *eax = leaf;
    __asm__ volatile("cpuid" : "+a"(*eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return edx;
}

bool cpu_has_giant_pages(void)
{
    uint32_t eax;

    extended_edx(0x80000000u, &eax);
    return eax >= 0x80000001u && extended_edx(0x80000001u, &eax) >> 26 & 1;
}
