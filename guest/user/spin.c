/* Burns CPU time for so many million turns (default 100), to watch preemption by. */
#include "guest/lib/lib.h"

int main(int argc, char **argv)
{
    uint64_t turns = number(argc > 1 ? argv[1] : NULL, 100) * 1000000;

    for (volatile uint64_t i = 0; i < turns; i++)
        ;
    return 0;
}
