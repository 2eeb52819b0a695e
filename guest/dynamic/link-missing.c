/* Built for a newer library: it calls what the bundled one has not. */
#include <stdint.h>

uint64_t figures_missing(void);
int main(void);
int main(void)
{
    return (int)figures_missing();
}
