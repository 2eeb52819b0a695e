/* Sums figures: one of three programs that share a library. */
#include "guest/dynamic/member.h"
#include "guest/figures/figures.h"

int main(void);
int main(void)
{
    uint64_t figure[100];
    bool right = true;

    member_step(ABI_LIBRARY_BOUND);
    for (uint64_t i = 0; i < 100; i++)
        figure[i] = i + 1;
    for (uint64_t i = member_calls(); i; i--)
        right = right && figures_apply("sum", figure, 100) == 5050;
    member_step(ABI_LIBRARY_WRITTEN);
    return right ? 0 : 1;
}
