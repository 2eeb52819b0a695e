/* The few string functions the kernel needs. */
#ifndef STRATA_KERNEL_KSTRING_H
#define STRATA_KERNEL_KSTRING_H

#include <stddef.h>
#include <stdint.h>

void *memset(void *to, int byte, size_t bytes);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
int strcmp(const char *a, const char *b);
size_t strlen(const char *s);

/* Copies at most room - 1 characters, and always ends with a 0. */
void copy_name(char *to, size_t room, const char *from);

#endif
