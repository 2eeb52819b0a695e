/*
 * The measuring program's commands (guest/abi/measure.h), compiled for ring 3 of the bundled
 * guest and for a process of the host: what differs between the two is in struct platform.
 */
#ifndef STRATA_MEASURE_COMMAND_H
#define STRATA_MEASURE_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "guest/abi/syscall.h"

struct platform {
    /* Fresh zero memory by pages of that kind, not touched yet. NULL: cannot be had. */
    void *(*map)(size_t bytes, enum abi_page_kind page);
    int (*unmap)(void *addr, size_t bytes); /* 0 or -ABI_E* */
    /* SYS_MEASURE, on CPU 0; NULL: there is no kernel to ask. */
    int64_t (*kernel)(enum abi_measure_op op, uint64_t count, uint64_t arg);
    int (*discard)(void *addr, size_t bytes);
    int (*read_only)(void *addr, size_t bytes);
    /* When frames are zeroed; the policy before. NULL: not ours to say. */
    int64_t (*zeroing)(uint64_t policy);
    /* A child's number, 0 in the child, -ABI_E*. With ABI_FORK_EAGER where there is that. */
    int64_t (*fork)(uint32_t flags);
    void (*leave)(void); /* ends the child */
    int (*reap)(int64_t child);
    /* Memory of ABI_SHARED_BYTES that parent and child both see. NULL: none. */
    void *(*shared)(void);
    /* So many other CPUs spin in this address space from now on; 0: none any more. */
    int (*companions)(unsigned count);
};

#define ABI_SHARED_BYTES ((sizeof(struct abi_reply) + 4095) & ~4095ul)

/* Carries one command out; the answer is cleared first. */
void command_run(const struct platform *platform, const struct abi_command *command,
                 struct abi_reply *reply);

/* ---- One function for each kind; 0 or -ABI_E* ---- */

int command_clock(const struct abi_command *command, struct abi_reply *reply);
int command_touch(const struct abi_command *command, struct abi_reply *reply);
int command_wait(const struct abi_command *command, struct abi_reply *reply);
int command_chain_make(const struct abi_command *command, struct abi_reply *reply);
int command_chain_follow(const struct abi_command *command, struct abi_reply *reply);
int command_workload(const struct abi_command *command, struct abi_reply *reply);

/* Those about faults, copies and forgotten translations (fault.c, fork.c, change.c). */
int command_fault(const struct platform *platform, const struct abi_command *command,
                  struct abi_reply *reply);
int command_fork(const struct platform *platform, const struct abi_command *command,
                 struct abi_reply *reply);
int command_change(const struct platform *platform, const struct abi_command *command,
                   struct abi_reply *reply);

/*
 * The time stamp counter before and after what is measured (Intel SDM vol. 2, RDTSC and
 * RDTSCP): everything before has happened, nothing after has begun.
 */
static inline uint64_t clock_begin(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence; rdtsc; lfence" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

static inline uint64_t clock_end(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtscp; lfence" : "=a"(lo), "=d"(hi) : : "rcx", "memory");
    return (uint64_t)hi << 32 | lo;
}

/* A random number and the next state (xorshift64*, Vigna 2016); the state is not 0. */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1dull;
}

#endif
