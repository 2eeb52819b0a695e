/* Ends with the status it is given. */
#include "guest/lib/lib.h"

int main(int argc, char **argv)
{
    return (int)number(argc > 1 ? argv[1] : NULL, 0);
}
