/* A program's first instructions, its way into the kernel, and guarded accesses. */
    .text
    .globl _start
_start:
    xor %ebp, %ebp
    call lib_start
    ud2

/* int64_t syscall(number, a, b, c, d, e), through the gate page. */
    .globl syscall
syscall:
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    movabs $0x7ffffffe0000, %r11 /* ABI_GATE_VA */
    jmp *%r11

/*
 * guarded_read/write/fetch(va): one access that may fault. The fault handler puts
 * rip at guarded_end and rsp at what guarded_stack holds.
 */
    .globl guarded_read, guarded_write, guarded_fetch, guarded_end
guarded_read:
    mov %rsp, guarded_stack
    mov (%rdi), %al
    ret
guarded_write:
    mov %rsp, guarded_stack
    movb $1, (%rdi)
    ret
guarded_fetch:
    mov %rsp, guarded_stack
    jmp *%rdi
guarded_end:
    ret

    .bss
    .balign 8
    .globl guarded_stack
guarded_stack:
    .quad 0

    .section .note.GNU-stack, "", @progbits
