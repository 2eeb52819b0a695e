/* One CPU: registers, descriptor tables, and the struct that is its own. */
#ifndef STRATA_KERNEL_ARCH_CPU_H
#define STRATA_KERNEL_ARCH_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "guest/kernel/arch/layout.h"

struct process;

/* Registers of interrupted code, in the order trap.S pushes them. */
struct regs {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rdx, rcx, rbx, rax;
    uint64_t vector, error;
    uint64_t rip, cs, rflags, rsp, ss;
};

struct cpu {
    struct cpu *self;
    uint64_t stack_top; /* the kernel's stack on this CPU */
    uint64_t regs_end;  /* end of the current process's regs, = TSS.rsp0 */
    uint64_t user_rsp;  /* scratch of syscall_entry */
    uint32_t index;     /* 0 is the boot CPU */
    uint32_t apic_id;
    volatile uint32_t online;
    volatile uint32_t idle;
    uint32_t in_user; /* it may use its TLB; set and looked at with the lock held */
    bool flush_due;   /* its TLB, before it goes back to user mode; under the lock */
    struct process *current;
    uint64_t gdt[7];
    struct {
        uint32_t reserved0;
        uint64_t rsp[3];
        uint64_t reserved1;
        uint64_t ist[7];
        uint64_t reserved2;
        uint16_t reserved3, io_map;
    } __attribute__((packed)) tss;
    uint8_t fault_stack[2048] __attribute__((aligned(16))); /* double fault, NMI */
};

extern struct cpu cpus[CPUS_MAX];
extern unsigned cpu_count; /* found */

/* Opens an interrupt vector beyond those that are always there. */
void cpu_open_vector(unsigned vector);

/* Opens it with an entry of its own, which saves what it uses and ends in iretq. */
void cpu_set_vector(unsigned vector, const char *entry);

/* CPUID Fn8000_0001 EDX bit 26 (AMD APM vol. 3; Intel SDM vol. 2, CPUID). */
bool cpu_has_giant_pages(void);

/* Loads descriptor tables, MSRs and GS of the CPU this runs on. */
void cpu_setup(struct cpu *cpu, uint64_t stack_top);

/* Where the next entry from user mode saves registers. */
static inline void cpu_set_regs_end(struct cpu *cpu, uint64_t end)
{
    cpu->regs_end = end;
    cpu->tss.rsp[0] = end;
}

static inline struct cpu *cpu_self(void)
{
    struct cpu *cpu;

    __asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
    return cpu;
}

void regs_return(struct regs *regs) __attribute__((noreturn));
void idle_wait(void);
extern char idle_halt[], idle_over[]; /* its instruction that waits, and the next */

static inline void outb(uint16_t port, uint8_t value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t value;

    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void outl(uint16_t port, uint32_t value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

static inline uint32_t inl(uint16_t port)
{
    uint32_t value;

    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void wrmsr(uint32_t msr, uint64_t value)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)value), "d"((uint32_t)(value >> 32)));
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

static inline uint64_t read_cr2(void)
{
    uint64_t value;

    __asm__ volatile("mov %%cr2, %0" : "=r"(value));
    return value;
}

static inline uint64_t read_cr3(void)
{
    uint64_t value;

    __asm__ volatile("mov %%cr3, %0" : "=r"(value));
    return value;
}

static inline void write_cr3(uint64_t value)
{
    __asm__ volatile("mov %0, %%cr3" : : "r"(value) : "memory");
}

static inline void invlpg(uint64_t va)
{
    __asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

static inline void cpu_relax(void)
{
    __asm__ volatile("pause" : : : "memory");
}

#endif
