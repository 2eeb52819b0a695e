/*
 * Calls from the test harness into its program in the guest (guest/abi/harness.h). Between calls
 * the world stands still, held by the checkpoint that the program reached its checkpoint.
 */
#ifndef STRATA_DMA_HARNESS_GUEST_H
#define STRATA_DMA_HARNESS_GUEST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/harness.h"
#include "vmm/inspect/guest.h"

struct vcpu;
struct vm;

struct harness_guest {
    struct vm *vm;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached; /* the program waits in its checkpoint, the world is stopped */
    bool ending;  /* nobody waits in a checkpoint any more */
    bool quit;    /* the program shall end */
    struct abi_checkpoint record;
    struct guest_view view;
    uint64_t root;            /* of the program's page tables */
    struct abi_harness *page; /* in guest memory */
    uint64_t challenge;
    uint64_t calls;
    char failure[160]; /* why it cannot be called any more; empty: it can */
};

void harness_guest_init(struct harness_guest *guest, struct vm *vm);
void harness_guest_destroy(struct harness_guest *guest);

/* The board's checkpoint callback; the owner is the struct harness_guest. */
int harness_guest_checkpoint(void *owner, struct vcpu *vcpu, uint32_t frame);

/* Waits for the program's first checkpoint: 0, or -errno with guest->failure. */
int harness_guest_wait_ready(struct harness_guest *guest, unsigned timeout_ms);

/*
 * Lets the program carry out n commands: post starts, collect waits for its end and takes
 * the results. -ETIMEDOUT: not yet, may be called again (guest->failure stays empty).
 */
int harness_guest_post(struct harness_guest *guest, const struct abi_harness_command *commands,
                       unsigned n);
int harness_guest_collect(struct harness_guest *guest, struct abi_harness_command *commands,
                          unsigned n, unsigned timeout_ms);

/* The flag of the program's page; also while the program runs. */
uint64_t harness_guest_flag(const struct harness_guest *guest);
void harness_guest_set_flag(struct harness_guest *guest, uint64_t flag);

/* The kernel's block anew, as it is now. */
int harness_guest_read_block(struct harness_guest *guest);

/* Where the program's byte at va lies: 0 if it is not mapped. */
uint64_t harness_guest_gpa(const struct harness_guest *guest, uint64_t va);

/* The program ends, if it can; then nobody waits in a checkpoint any more. */
void harness_guest_release(struct harness_guest *guest);

#endif
