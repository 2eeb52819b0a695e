/*
 * The bundled guest: build/guest/kernel.elf, embedded by bundled.S.
 */
#ifndef STRATA_BOOT_BUNDLED_H
#define STRATA_BOOT_BUNDLED_H

extern const unsigned char bundled_kernel[];
extern const unsigned char bundled_kernel_end[];

#endif
