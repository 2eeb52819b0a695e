#include "vmm/dma/attacks/attacks.h"

#include "vmm/dma/attacks/attack.h"

#define ATTACK_ROW(constant, file) [ATTACK_##constant] = &attack_##file,

const struct attack *const attack_table[ATTACK_COUNT] = { ATTACKS(ATTACK_ROW) };

/* struct harness_options has a bit for each. */
_Static_assert(ATTACK_COUNT <= 32, "attacks");
