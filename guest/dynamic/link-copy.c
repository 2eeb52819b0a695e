/* Compiled without -fPIC: it wants a copy of the library's variable, which the loader refuses. */
#include "guest/figures/figures.h"

int main(void);
int main(void)
{
    return figures_calls == 0;
}
