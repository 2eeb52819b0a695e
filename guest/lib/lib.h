/* The small C library of the guest's programs. */
#ifndef STRATA_GUEST_LIB_H
#define STRATA_GUEST_LIB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "guest/abi/exercises.h"
#include "guest/abi/syscall.h"
#include "guest/lib/printf.h"

#define PAGE 4096ul

int main(int argc, char **argv);

/* Any system call: a result, or -ABI_E*. */
int64_t syscall(uint64_t number, ...);

void exit(int status) __attribute__((noreturn));
int64_t write(const void *buf, size_t len);
int64_t read(void *buf, size_t len);
int64_t fork(void);
int64_t exec(const char *command_line);
/* Waits for a child (0: any); its exit status, or -ABI_E*. */
int64_t wait_for(int64_t pid);
/* Starts a program; its pid or -ABI_ENOENT, which only shows as exit status 127. */
int64_t spawn(const char *command_line);
void yield(void);
/* mmap of fresh zero memory; NULL on failure. addr NULL chooses. */
void *map(void *addr, size_t bytes, uint32_t prot, uint32_t flags, uint64_t object);
int unmap(void *addr, size_t bytes);
int protect(void *addr, size_t bytes, uint32_t prot);
int checkpoint(enum abi_exercise exercise, uint32_t step, const uint64_t *arg, size_t nargs);

/*
 * Tries an access of one byte (a fetch calls code at va, which must be a `ret`):
 * true if it went through, else *fault says what came.
 */
bool guarded(uint64_t va, enum abi_access access, struct abi_user_fault *fault);

size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memset(void *to, int byte, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);
/* A decimal number; `otherwise` if the text is NULL or none. */
uint64_t number(const char *text, uint64_t otherwise);

/* Sorts, and returns the middle one. */
uint64_t median(uint64_t *value, size_t n);

static inline uint64_t ticks(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

#endif
