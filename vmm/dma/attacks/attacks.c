/* The table of attack classes, of the rows in attacks.h. */
#include "vmm/dma/attacks/attack.h"

#define ATTACK_ROW(constant, file, what, does, stops, described) \
    [ATTACK_##constant] = { .name = (what),                      \
                            .mechanism = (does),                 \
                            .stopped_by = (stops),               \
                            .source = (described),               \
                            .attack = &attack_##file },

const struct lab_attack lab_attacks[LAB_ATTACKS] = { ATTACKS(ATTACK_ROW) };

/* struct lab_options has a bit for each. */
_Static_assert(LAB_ATTACKS <= 32, "attacks");
