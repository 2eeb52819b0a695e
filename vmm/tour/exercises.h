/*
 * The exercises, in the order of the tour. A row names the file, vmm/tour/FILE.c, which holds
 * everything else of the host's side in its `const struct tour_exercise tour_FILE`:
 *
 *     ROW(FILE)
 *
 * The guest's side is a program, guest/user/, and the exercise's steps in guest/abi/.
 */
#ifndef STRATA_TOUR_EXERCISES_H
#define STRATA_TOUR_EXERCISES_H

#include "vmm/tour/tour.h"

#define EXERCISES(ROW)  \
    ROW(paging)         \
    ROW(fork_cow)       \
    ROW(shared_memory)  \
    ROW(dma)            \
    ROW(shared_library) \
    ROW(reclaim)        \
    ROW(demand)         \
    ROW(leak)           \
    ROW(remanence)      \
    ROW(snapshot)

#define EXERCISE_DECLARATION(file) extern const struct tour_exercise tour_##file;

EXERCISES(EXERCISE_DECLARATION)

#undef EXERCISE_DECLARATION

#endif
