/* The bundled programs: ELF images inside the kernel's, mapped page by page. */
#ifndef STRATA_KERNEL_PROC_PROGRAM_H
#define STRATA_KERNEL_PROC_PROGRAM_H

#include <stdint.h>

#include "guest/kernel/proc/process.h"

struct program {
    const char *name;
    const char *image; /* page-aligned */
    uint64_t bytes;
};

/* What else is bundled: shared libraries. */
struct file {
    const char *name;
    const char *image; /* page-aligned */
    uint64_t bytes;
};

/* The file of this name; NULL if there is none. */
const struct file *file_of(const char *name);

/* The program that the first word of a command line names; NULL if there is none. */
const struct program *program_of(const char *command_line);

/* The index-th program, NULL behind the last. */
const struct program *program_at(uint64_t index);

uint64_t program_entry(const struct program *program);

/* Maps segments, stack and gate page into an empty address space. */
int program_map(struct process *p, const struct program *program);

#endif
