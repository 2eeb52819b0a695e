/*
 * Disassembly of guest code, by capstone.
 */
#ifndef STRATA_INSPECT_DISASM_H
#define STRATA_INSPECT_DISASM_H

#include <stddef.h>
#include <stdint.h>

#define DISASM_TEXT_BYTES 96
#define DISASM_CODE_BYTES 15 /* longest x86 instruction */

/*
 * The first instruction in `code` (`bytes` of it, at address `rip`, in 16-, 32- or
 * 64-bit mode) as text: "mov rax, cr3". Its length; 0 and "(bad)" where the bytes are
 * no instruction; -EINVAL another mode, -ENOMEM.
 */
int disasm_one(const uint8_t *code, size_t bytes, uint64_t rip, unsigned mode_bits, char *text,
               size_t text_bytes);

#endif
