#include "guest/dynamic/member.h"

#include "guest/dynamic/loader.h"
#include "guest/figures/figures.h"
#include "guest/lib/lib.h"

static struct members *members;
static uint64_t self;

void member_step(enum abi_library_step step)
{
    if (step == ABI_LIBRARY_BOUND)
        members->member[self].calls_va = (uint64_t)&figures_calls;
    members->member[self].step = step;
    while (members->go < step)
        yield();
}

uint64_t member_calls(void)
{
    return ABI_LIBRARY_CALLS(self);
}

/* Reads each page of the library, and writes to none. Arguments: object, number. */
void loader_mapped(int argc, char **argv, const struct linked *linked, unsigned n)
{
    self = number(argc > 2 ? argv[2] : NULL, 0);
    members = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_SHARED,
                  number(argc > 1 ? argv[1] : NULL, 0));
    if (n != 2 || !members || self >= ABI_LIBRARY_MEMBERS)
        exit(2);
    for (uint64_t at = 0; at < linked[1].filled; at += PAGE)
        (void)*(volatile char *)(linked[1].base + at);
    members->member[self].bytes = linked[1].filled;
    members->member[self].base = linked[1].base;
    member_step(ABI_LIBRARY_MAPPED);
}
