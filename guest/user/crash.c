/* Writes where nothing is mapped, to see a fault reported. Status 139 is expected. */
#include "guest/lib/lib.h"

int main(int argc, char **argv)
{
    uint64_t va = number(argc > 1 ? argv[1] : NULL, 0x1000);

    *(volatile char *)va = 1;
    printf("nothing happened\n");
    return 0;
}
