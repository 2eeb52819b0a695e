/*
 * What a vCPU that stands still is about to run and where: modes, linear addresses, code.
 * Everything read from the guest may be anything; nothing here fails but by reading less.
 */
#ifndef STRATA_INSPECT_CPU_H
#define STRATA_INSPECT_CPU_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/disasm.h"
#include "vmm/inspect/translate.h"

struct vcpu;

#define CPU_INSTRUCTIONS_BEFORE 4
#define CPU_INSTRUCTIONS_AFTER  6 /* the one at rip among them */
#define CPU_INSTRUCTIONS        (CPU_INSTRUCTIONS_BEFORE + CPU_INSTRUCTIONS_AFTER)

struct cpu_instruction {
    uint64_t rip; /* offset in the code segment, as rip is */
    uint8_t bytes[DISASM_CODE_BYTES];
    unsigned length;              /* 1 to 15 */
    char text[DISASM_TEXT_BYTES]; /* "(bad)" where the bytes are no instruction */
};

/* 64, 32 or 16. */
unsigned cpu_mode_bits(const struct kvm_sregs *sregs);

/* The linear address of an offset in a segment. */
uint64_t cpu_linear(const struct kvm_sregs *sregs, const struct kvm_segment *segment,
                    uint64_t offset);

/* How it was translated, where that was not by strata's own walk. */
const char *cpu_translation_note(const struct kvm_sregs *sregs);

/*
 * A linear address through all layers but the host's; without paging, it is the GPA. Tables
 * of 32-bit paging, which strata does not walk, are walked by KVM. As translate_gva.
 */
int cpu_translate(const struct vcpu *vcpu, const struct kvm_sregs *sregs, uint64_t linear,
                  struct translation *translation);

/*
 * The instructions around rip; `at` becomes the index of the one at rip. Those before are a
 * guess, since instructions can only be read forwards. How many there are; 0 where there is no
 * memory at rip.
 */
unsigned cpu_disassemble(const struct vcpu *vcpu, const struct kvm_regs *regs,
                         const struct kvm_sregs *sregs,
                         struct cpu_instruction list[CPU_INSTRUCTIONS], unsigned *at);

#endif
