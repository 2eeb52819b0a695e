/* Weighs figures: one of three programs that share a library. */
#include "guest/dynamic/member.h"
#include "guest/figures/figures.h"

int main(void);
int main(void)
{
    uint64_t figure[100];
    bool right = true;

    member_step(ABI_LIBRARY_BOUND);
    for (uint64_t i = 0; i < 100; i++)
        figure[i] = 6 * (i + 1);
    for (uint64_t i = 0; i < FIGURES_WEIGHTS; i++)
        right = right && figures_weights[i] == 1;
    right = right && figures_divisor(figure, 100) == 6 && figures_largest(figure, 100) == 600;
    for (uint64_t i = member_calls(); i; i--)
        right = right && figures_apply("weighted", figure, 100) == 6 * 5050;
    member_step(ABI_LIBRARY_WRITTEN);
    return right ? 0 : 1;
}
