#include "vmm/tour/exercises.h"

#define EXERCISE_ROW(file) &tour_##file,

const struct tour_exercise *const tour_exercises[] = { EXERCISES(EXERCISE_ROW) };
const size_t tour_exercises_count = sizeof(tour_exercises) / sizeof(tour_exercises[0]);
