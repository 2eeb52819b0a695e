/*
 * Writes where nothing is mapped, to see a fault reported. Status 139 is expected. With a
 * second argument it has a companion meanwhile, which is to end before it.
 */
#include "guest/lib/lib.h"

static char stack[1024];

static void spin(void)
{
    for (;;)
        __builtin_ia32_pause();
}

int main(int argc, char **argv)
{
    uint64_t va = number(argc > 1 ? argv[1] : NULL, 0x1000);

    stack[sizeof(stack) - 1] = 0;
    if (argc > 2 && syscall(SYS_COMPANION, spin, stack + sizeof(stack), number(argv[2], 1)) < 0)
        return 1;
    *(volatile char *)va = 1;
    printf("nothing happened\n");
    return 0;
}
