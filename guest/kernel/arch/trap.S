/*
 * Ways into and out of the kernel. From user mode the CPU (or syscall_entry) lays
 * the registers straight into the process's struct regs, because TSS.rsp0 points
 * to its end; then the kernel runs on the CPU's own stack. So a process that does
 * not run is just its struct, and the kernel never switches stacks.
 *
 * In the kernel GS is this CPU's struct cpu (swapgs at each crossing). Offsets
 * into it and into struct regs are asserted in cpu.c.
 */
#include "guest/kernel/arch/layout.h"

/* enum abi_syscall SYS_PROBE; asserted in cpu.c. */
#define SYS_PROBE_NUMBER 29

#define CPU_STACK 8
#define CPU_REGS_END 16
#define CPU_USER_RSP 24
#define REGS_VECTOR 120
#define REGS_CS 144
/* From the vector on, which the stubs push last. */
#define TRAP_CS (REGS_CS - REGS_VECTOR)
#define TRAP_RFLAGS (TRAP_CS + 8)
#define EXCEPTIONS 32

    .macro PUSH_ALL
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    .endm

    .macro POP_ALL
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    .endm

    .text

/* One stub a vector, 16 bytes each: an error code if the CPU pushed none, the vector. */
    .globl trap_stubs
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector != 8) && ((vector < 10) || (vector > 14)) && (vector != 17) && (vector != 21)
    push $0
    .endif
    push $vector
    jmp trap_entry
    .set vector, vector + 1
    .endr

trap_entry:
    testb $3, TRAP_CS(%rsp)
    jz from_kernel
    PUSH_ALL
    cld
    mov %rsp, %rdi
    swapgs
    mov %gs:CPU_STACK, %rsp
    xor %ebp, %ebp
    call trap_user
    /* Not reached: trap_user ends in regs_return. */
    ud2

/*
 * The kernel itself was interrupted: in its idle loop, or it is about to panic. Or by an
 * interrupt while it has them off. There is no such thing; but QEMU 7.2's TCG, which emulates
 * hosts for tests, delivers one that was injected into a VM a second time if it switches to
 * another CPU just then, mostly right before the stub. GS may still be the user's, the
 * stack the end of a process's regs, and the one before is being served: back at once.
 */
from_kernel:
    testl $RFLAGS_IF, TRAP_RFLAGS(%rsp)
    jnz 1f
    cmpl $EXCEPTIONS, (%rsp)
    jae not_again
1:  PUSH_ALL
    cld
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    call trap_kernel
    mov %rbx, %rsp
    POP_ALL
not_again:
    add $16, %rsp
    iretq

/* syscall: rip in rcx, rflags in r11, rsp still the user's; interrupts off by FMASK. */
    .globl syscall_entry
syscall_entry:
    swapgs
    mov %rsp, %gs:CPU_USER_RSP
    mov %gs:CPU_REGS_END, %rsp
    push $SELECTOR_USER_DATA
    push %gs:CPU_USER_RSP
    push %r11
    push $SELECTOR_USER_CODE
    push %rcx
    push $0
    push $VECTOR_SYSCALL
    PUSH_ALL
    cld
    mov %rsp, %rdi
    mov %gs:CPU_STACK, %rsp
    xor %ebp, %ebp
    call trap_user
    ud2

/* regs_return(struct regs *): to user mode as the frame says. */
    .globl regs_return
regs_return:
    mov %rdi, %rsp
    POP_ALL
    cmpl $VECTOR_SYSCALL, (%rsp)
    jne 1f
    mov 16(%rsp), %rcx
    mov 32(%rsp), %r11
    mov 40(%rsp), %rsp
    swapgs
    sysretq
1:  add $16, %rsp
    swapgs
    iretq

/* idle_wait(struct cpu *): sleep until an interrupt was served. */
    .globl idle_wait
idle_wait:
    sti
    .globl idle_halt
idle_halt:
    hlt
    .globl idle_over
idle_over:
    cli
    ret

/*
 * The gate page, mapped into every process at ABI_GATE_VA. At 0 the way into the
 * kernel, its two bytes written when the probe has answered; at 16 the probe, with
 * which init starts.
 */
    .section .data.page, "aw"
    .balign 4096
    .globl gate_page
gate_page:
    ud2
    ret
    .balign 16
    mov $SYS_PROBE_NUMBER, %eax
    syscall
    ud2
    .balign 4096

    .section .note.GNU-stack, "", @progbits
