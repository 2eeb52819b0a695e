/*
 * The symbol table of an ELF64 image in memory (System V ABI, "Symbol Table"), for
 * names in what people type and see. The image stays the caller's and outlives it; it is
 * not trusted: what does not lie inside it is passed over.
 */
#ifndef STRATA_INSPECT_SYMBOLS_H
#define STRATA_INSPECT_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

struct symbols {
    const unsigned char *image;
    size_t image_bytes;
    size_t table, n; /* offset of the symbols, and how many */
    size_t names, names_bytes;
};

/* 0, or -ENOENT if the image has no symbols or is no ELF64 file; `symbols` is empty then. */
int symbols_open(struct symbols *symbols, const void *image, size_t bytes);

/* The address of a function or variable: 0, or -ENOENT. */
int symbols_find(const struct symbols *symbols, const char *name, uint64_t *va);

/*
 * The function or variable that va lies in, and how far behind its start; NULL if in
 * none. A symbol without a size reaches up to the next one.
 */
const char *symbols_at(const struct symbols *symbols, uint64_t va, uint64_t *offset);

#endif
