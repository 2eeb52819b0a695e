/*
 * A small dynamic loader (System V gABI ch. 5; x86-64 psABI 4.4): it is part of each
 * program that needs shared libraries, and runs before main. It maps the libraries that
 * the program's dynamic section names (DT_NEEDED), privately, and relocates them and the
 * program, all at once (as with DF_BIND_NOW). Whatever it does not know ends the program
 * with a message.
 */
#ifndef STRATA_GUEST_LOADER_H
#define STRATA_GUEST_LOADER_H

#include <stdint.h>

/* What is linked: [0] the program, then its libraries. */
struct linked {
    const char *name;
    uint64_t base;   /* added to all its addresses; 0 of the program */
    uint64_t bytes;  /* of a library: from its first segment to the end of its last */
    uint64_t filled; /* of these: mapped from the file; the rest is fresh zeroes */
    const struct elf_dynamic *dynamic;
};

/* May be in the program: called when all is mapped and nothing relocated. */
void loader_mapped(int argc, char **argv, const struct linked *linked, unsigned n)
    __attribute__((weak));

/* Called by lib_start if the loader is in the program. */
void loader_run(int argc, char **argv) __attribute__((weak));

#endif
