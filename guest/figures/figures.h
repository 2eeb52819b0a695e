/*
 * libfigures.so: a shared library of the guest, small but built as any other. It shows
 * what a library is made of: text and constants that nobody writes, variables, a table
 * of offsets and pointers that the dynamic loader must fill in.
 */
#ifndef STRATA_GUEST_FIGURES_H
#define STRATA_GUEST_FIGURES_H

#include <stddef.h>
#include <stdint.h>

/* Weights of figures_weighted, 1 unless a program changes them. Nobody here does. */
#define FIGURES_WEIGHTS 2048
extern uint64_t figures_weights[FIGURES_WEIGHTS];

/* How often figures_apply was called; it begins with ABI_LIBRARY_FIRST_COUNT. */
extern uint64_t figures_calls;

uint64_t figures_sum(const uint64_t *figure, size_t n);
uint64_t figures_largest(const uint64_t *figure, size_t n);
uint64_t figures_divisor(const uint64_t *figure, size_t n); /* the greatest common one */
uint64_t figures_digest(const uint64_t *figure, size_t n);
uint64_t figures_weighted(const uint64_t *figure, size_t n);
void figures_sort(uint64_t *figure, size_t n);

/* The function of this name ("sum", "largest", …) over the figures; 0 if there is none. */
uint64_t figures_apply(const char *name, const uint64_t *figure, size_t n);

#endif
