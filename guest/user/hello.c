/* Says hello, and what it was given. */
#include "guest/lib/lib.h"

int main(int argc, char **argv)
{
    printf("hello from pid %ld", syscall(SYS_GETPID));
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf("\n");
    return 0;
}
