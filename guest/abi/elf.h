/* ELF-64 as far as the guest's programs and their dynamic linking go (System V gABI ch. 4, 5;
 * x86-64 psABI 4.4). */
#ifndef STRATA_ABI_ELF_H
#define STRATA_ABI_ELF_H

#include <stdint.h>

struct elf_header {
    uint8_t ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, phoff, shoff;
    uint32_t flags;
    uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_segment {
    uint32_t type, flags;
    uint64_t offset, va, pa, filesz, memsz, align;
};

struct elf_dynamic {
    uint64_t tag, value;
};

struct elf_symbol {
    uint32_t name; /* offset in the string table */
    uint8_t info, other;
    uint16_t section; /* 0: not defined here */
    uint64_t value, size;
};

struct elf_rela {
    uint64_t offset, info; /* type in the lower half of info, symbol in the upper */
    uint64_t addend;
};

/* Magic, 64 bits, little-endian, version 1. */
#define ELF_IDENT       "\177ELF\2\1\1"
#define ELF_IDENT_BYTES 7

enum { ET_DYN = 3, EM_X86_64 = 62 };
enum { PT_LOAD = 1, PT_DYNAMIC = 2, PT_GNU_RELRO = 0x6474e552 };
enum { PF_X = 1, PF_W = 2, PF_R = 4 };
enum { STB_WEAK = 2 };

enum elf_tag {
    DT_NULL = 0,
    DT_NEEDED = 1,
    DT_PLTRELSZ = 2,
    DT_HASH = 4,
    DT_STRTAB = 5,
    DT_SYMTAB = 6,
    DT_RELA = 7,
    DT_RELASZ = 8,
    DT_JMPREL = 23,
};

enum elf_relocation {
    R_X86_64_NONE = 0,
    R_X86_64_64 = 1,
    R_X86_64_COPY = 5,
    R_X86_64_GLOB_DAT = 6,
    R_X86_64_JUMP_SLOT = 7,
    R_X86_64_RELATIVE = 8,
};

#endif
