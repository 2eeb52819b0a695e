/*
 * The tour: each exercise is a program of the bundled guest that sets something up
 * and reaches checkpoints, and a host side here that stops the world at each of them
 * and finds out for itself whether it is so.
 *
 * A run of an exercise is a VM of its own, or several one after the other. A control is the same
 * run with the exercise's mechanism broken on purpose: its checks must fail.
 */
#ifndef STRATA_TOUR_TOUR_H
#define STRATA_TOUR_TOUR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/inspect/guest.h"
#include "vmm/machine/kvm.h"

#define TOUR_CHECKS_MAX  192
#define TOUR_FIGURES_MAX 96
#define TOUR_STEPS_MAX   16
#define TOUR_TEXT_BYTES  192

struct board;
struct vcpu;
struct vm;
struct vm_config;
struct tour_run;

/* One thing that must be so, and what was found. */
struct tour_check {
    char name[80];
    bool ok;
    bool course; /* of how the run went, not of what the exercise shows */
    char expected[TOUR_TEXT_BYTES];
    char observed[TOUR_TEXT_BYTES];
};

/* A figure; the unit is the end of its name. */
struct tour_figure {
    char name[64];
    double value;
};

struct tour_host {
    const struct kvm_host *kvm;
    unsigned cpus;      /* of the host, that this process may use */
    bool interprets;    /* kernel code is interpreted: smaller sizes */
    unsigned timeout_s; /* for one run */
    uint64_t memory_bytes;
    /* The world is stopped where the exercise's memory map is to be taken; once in a run that
     * is no control. May be NULL. */
    void (*memory_map)(void *owner, const struct tour_run *run);
    void *memory_map_owner;
};

/* The moment of an exercise whose memory map is drawn: the n-th time that a step is reached. */
struct tour_memory_map {
    uint32_t step; /* 0: none */
    uint64_t ring;
    const char *shows; /* in words that follow a colon */
};

struct tour_exercise {
    const char *name;
    const char *shows;  /* what a passed row has shown, for people */
    const char *breaks; /* what its control breaks */
    enum abi_exercise id;
    uint32_t steps; /* steps 1 to steps - 1 must be reached, in one of the run's machines */
    /* How many machines the run takes, 0 is 1, and what each has besides CPUs and memory. */
    unsigned machines;
    void (*machine)(const struct tour_run *run, struct vm_config *config); /* may be NULL */
    /* The guest's command for this host; control: with the mechanism broken. */
    void (*command)(const struct tour_host *host, bool control, char *text, size_t bytes);
    /* A checkpoint of this exercise, the world stopped. */
    void (*checkpoint)(struct tour_run *run, const struct abi_checkpoint *record,
                       const struct guest_view *view);
    /* After the run: figures from several steps, and the row's key figures. May be NULL. */
    void (*conclude)(struct tour_run *run, char *key, size_t bytes);
    /* Last: gives back what `machine` took. May be NULL. */
    void (*end)(struct tour_run *run);
    struct tour_memory_map memory_map;
    size_t state_bytes; /* of what the exercise remembers from step to step */
};

/* All of them, in the order of the tour (exercises.h). */
extern const struct tour_exercise *const tour_exercises[];
extern const size_t tour_exercises_count;

struct tour_run {
    const struct tour_exercise *exercise;
    const struct tour_host *host;
    bool control;
    unsigned machine;    /* which of the exercise's machines runs, from 0 */
    struct vm *vm;       /* while it runs */
    struct board *board; /* its devices */
    struct vcpu *vcpu;   /* the one that reached its checkpoint */
    void *state;         /* exercise->state_bytes, zero at first */

    uint64_t reached[TOUR_STEPS_MAX]; /* how often each step was */
    size_t nchecks, nfigures;
    struct tour_check checks[TOUR_CHECKS_MAX];
    struct tour_figure figures[TOUR_FIGURES_MAX];
    size_t dropped; /* checks that had no room: a failure */
    char command[128];
    char key[TOUR_TEXT_BYTES];
    char console[512]; /* the guest's last output, where the run went wrong */
    uint64_t tsc_hz;   /* of the guest's time stamp counter; 0: not known */
    uint64_t elapsed_ns;
};

/*
 * Runs the exercise once; the checks say how it went. 0; or -errno and one line where
 * no VM could be made. The caller frees nothing.
 */
int tour_run(struct tour_run *run, const struct tour_exercise *exercise,
             const struct tour_host *host, bool control, char *error, size_t error_bytes);

#endif
