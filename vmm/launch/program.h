/*
 * Calls into a program of the bundled guest, which takes its turn with the host: it reaches a
 * checkpoint (guest/abi/machine.h), and the world stands still until the host has looked at
 * guest memory, has maybe written what the program is to do next, and lets it go on.
 *
 * The host looks either on the thread of the vCPU (program_config.look), after which the
 * program goes on at once; or on a thread of its own, with program_wait and program_resume.
 */
#ifndef STRATA_LAUNCH_PROGRAM_H
#define STRATA_LAUNCH_PROGRAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/checkpoint.h"
#include "vmm/inspect/guest.h"

struct program;
struct vcpu;
struct vm;

#define PROGRAM_FAILURE_BYTES 192

/* Which checkpoints are the program's, and what happens at them. Others are refused. */
struct program_config {
    uint32_t exercise;              /* enum abi_exercise */
    uint32_t first_step, last_step; /* of the exercise */
    uint32_t nargs;                 /* at least so many arguments */
    /* Whether this is a checkpoint of the program: 0 or -errno. NULL: all such are. */
    int (*accept)(void *owner, struct program *program);
    /* Looks, with the world stopped, on the thread of this vCPU. NULL: program_wait does. */
    void (*look)(void *owner, struct program *program, struct vcpu *vcpu);
    void *owner;
};

struct program {
    struct vm *vm;
    struct program_config config;
    char failure[PROGRAM_FAILURE_BYTES]; /* why it cannot be called any more; "": it can */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock; while the program waits, the host's side's alone. */
    bool waiting; /* in its checkpoint, the world stopped */
    bool ending;  /* it is waited for no more */
    uint32_t reply;
    struct abi_checkpoint record;
    struct guest_view view;
    uint64_t root; /* of the program's page tables; 0: there is no such process */
};

/* Before the machine starts, which gets program_checkpoint as its callback. */
void program_init(struct program *program, struct vm *vm, const struct program_config *config);

/* After the machine has ended, or program_release. */
void program_destroy(struct program *program);

/* A hypercall_port_callback; the owner is the struct program. */
int program_checkpoint(void *program, struct vcpu *vcpu, uint32_t frame);

/*
 * Waits until the program waits in a checkpoint: 0; -ETIMEDOUT: not yet, and it may be called
 * again; -ESHUTDOWN and program->failure: the machine has ended.
 */
int program_wait(struct program *program, unsigned timeout_ms);

/* Lets it go on, after program_wait: 0, or -EBUSY if it does not wait. */
int program_resume(struct program *program);

/*
 * No checkpoint waits any more. The one that the program is in, if it is in one, answers it with
 * `reply` (struct abi_checkpoint).
 */
void program_release(struct program *program, uint32_t reply);

/* ---- While it waits, or in `look` ---- */

/* The kernel's block anew, as it is now: 0 or -EINVAL. */
int program_read_block(struct program *program);

/* Walks an address of the program. As paging_walk. */
int program_walk(const struct program *program, uint64_t va, struct paging_walk *walk);

/* The host's address of the byte at va; NULL: it is not mapped to RAM. */
void *program_hva(const struct program *program, uint64_t va);

/* Copies the program's memory, page by page: 0 or -EFAULT. */
int program_read(const struct program *program, uint64_t va, void *to, size_t bytes);
int program_write(const struct program *program, uint64_t va, const void *from, size_t bytes);

#endif
