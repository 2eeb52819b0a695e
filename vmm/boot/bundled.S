#ifndef BUNDLED_KERNEL
#define BUNDLED_KERNEL "build/guest/kernel.elf"
#endif
/* The bundled guest's kernel as it was built, on pages of its own (bundled.h). */
	.section .rodata
	.balign 4096
	.globl bundled_kernel, bundled_kernel_end
bundled_kernel:
	.incbin BUNDLED_KERNEL
bundled_kernel_end:
	.balign 4096
	.byte 0
	.section .note.GNU-stack, "", @progbits
