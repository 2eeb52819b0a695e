/* Sorts figures: one of three programs that share a library. */
#include "guest/dynamic/member.h"
#include "guest/figures/figures.h"

int main(void);
int main(void)
{
    uint64_t figure[50], digest = 0;
    bool right = true;

    member_step(ABI_LIBRARY_BOUND);
    for (uint64_t i = 0; i < 50; i++)
        figure[i] = i * 37 % 50;
    figures_sort(figure, 50);
    for (uint64_t i = 0; i < 50; i++)
        right = right && figure[i] == i;
    digest = figures_digest(figure, 50);
    for (uint64_t i = member_calls(); i; i--)
        right = right && figures_apply("digest", figure, 50) == digest;
    member_step(ABI_LIBRARY_WRITTEN);
    return right ? 0 : 1;
}
