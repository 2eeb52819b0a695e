#include "vmm/inspect/disasm.h"

#include <capstone/capstone.h>
#include <errno.h>
#include <stdio.h>

int disasm_one(const uint8_t *code, size_t bytes, uint64_t rip, unsigned mode_bits, char *text,
               size_t text_bytes)
{
    cs_mode mode = mode_bits == 64 ? CS_MODE_64 : mode_bits == 32 ? CS_MODE_32 : CS_MODE_16;
    cs_insn *instruction;
    csh handle;
    int length = 0;

    if (mode_bits != 64 && mode_bits != 32 && mode_bits != 16)
        return -EINVAL;
    if (cs_open(CS_ARCH_X86, mode, &handle) != CS_ERR_OK)
        return -ENOMEM;
    snprintf(text, text_bytes, "(bad)");
    if (bytes && cs_disasm(handle, code, bytes, rip, 1, &instruction) == 1) {
        length = instruction->size;
        snprintf(text, text_bytes, "%s%s%s", instruction->mnemonic,
                 instruction->op_str[0] ? " " : "", instruction->op_str);
        cs_free(instruction, 1);
    }
    cs_close(&handle);
    return length;
}
