/*
 * Random mmap, munmap, mprotect, fork and writes, held against a model that this
 * program keeps: what each page must contain and allow. Arguments: operations (default
 * 400), seed. Ends with 0 if nothing differed.
 */
#include "guest/lib/lib.h"

#define ARENA      0x200000000ul
#define PAGES      64
#define PROT_KINDS 4

/* The model of one page of the arena. */
struct page {
    bool mapped;
    uint32_t prot;
    uint64_t word; /* its first word */
};

static struct page model[PAGES];
static uint64_t seed, serial;

static uint64_t next_random(void)
{
    /* xorshift64 (Marsaglia, 2003) */
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static uint64_t address(unsigned page)
{
    return ARENA + page * PAGE;
}

/* A page is what the model says, and refuses what it must. */
static bool check_page(unsigned i)
{
    const struct page *page = &model[i];
    struct abi_user_fault fault;
    bool readable = page->mapped && page->prot != ABI_PROT_NONE;

    if (guarded(address(i), ABI_READ, &fault) != readable) {
        printf("page %u: %s\n", i, readable ? "cannot be read" : "can be read");
        return false;
    }
    if (readable && *(volatile uint64_t *)address(i) != page->word) {
        printf("page %u: holds 0x%lx, not 0x%lx\n", i, *(volatile uint64_t *)address(i),
               page->word);
        return false;
    }
    if (!readable || (page->prot & ABI_PROT_WRITE))
        return true;
    if (guarded(address(i), ABI_WRITE, &fault)) {
        printf("page %u: can be written\n", i);
        return false;
    }
    return true;
}

static bool check_all(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        if (!check_page(i))
            return false;
    }
    return true;
}

static void write_some(unsigned first, unsigned n)
{
    for (unsigned i = first; i < first + n; i++) {
        if (!model[i].mapped || !(model[i].prot & ABI_PROT_WRITE))
            continue;
        model[i].word = ++serial;
        *(volatile uint64_t *)address(i) = serial;
    }
}

/* The range must be free: then it is all there, zero. */
static bool map_range(unsigned first, unsigned n, uint32_t prot)
{
    bool taken = false;

    for (unsigned i = first; i < first + n; i++)
        taken |= model[i].mapped;
    if (!!map((void *)address(first), n * PAGE, prot, ABI_MAP_FIXED, 0) == taken) {
        printf("mmap of pages %u+%u: %s\n", first, n, taken ? "succeeded" : "failed");
        return false;
    }
    for (unsigned i = first; !taken && i < first + n; i++)
        model[i] = (struct page){ .mapped = true, .prot = prot };
    return true;
}

static bool unmap_range(unsigned first, unsigned n)
{
    if (unmap((void *)address(first), n * PAGE)) {
        printf("munmap of pages %u+%u failed\n", first, n);
        return false;
    }
    for (unsigned i = first; i < first + n; i++)
        model[i] = (struct page){ 0 };
    return true;
}

static bool protect_range(unsigned first, unsigned n, uint32_t prot)
{
    bool hole = false;

    for (unsigned i = first; i < first + n; i++)
        hole |= !model[i].mapped;
    if (!protect((void *)address(first), n * PAGE, prot) == hole) {
        printf("mprotect of pages %u+%u: %s\n", first, n, hole ? "succeeded" : "failed");
        return false;
    }
    for (unsigned i = first; !hole && i < first + n; i++)
        model[i].prot = prot;
    return true;
}

/* The child writes its own; neither sees what the other writes. */
static bool fork_once(void)
{
    int64_t pid = syscall(SYS_FORK, next_random() & ABI_FORK_EAGER);

    if (pid == 0) {
        write_some(0, PAGES);
        exit(check_all() ? 0 : 1);
    }
    if (pid < 0) {
        printf("fork: error %ld\n", -pid);
        return false;
    }
    write_some((unsigned)(next_random() % PAGES), 1);
    return wait_for(pid) == 0;
}

static bool operate(void)
{
    static const uint32_t prot[PROT_KINDS] = { ABI_PROT_NONE, ABI_PROT_READ,
                                               ABI_PROT_READ | ABI_PROT_WRITE,
                                               ABI_PROT_READ | ABI_PROT_WRITE };
    unsigned first = (unsigned)(next_random() % PAGES);
    unsigned n = 1 + (unsigned)(next_random() % 12);
    uint32_t how = prot[next_random() % PROT_KINDS];

    if (n > PAGES - first)
        n = PAGES - first;
    switch (next_random() % 8) {
    case 0:
    case 1: return map_range(first, n, how);
    case 2: return unmap_range(first, n);
    case 3:
    case 4: return protect_range(first, n, how);
    case 5: return fork_once();
    default: write_some(first, n); return true;
    }
}

int main(int argc, char **argv)
{
    uint64_t operations = number(argc > 1 ? argv[1] : NULL, 400);

    seed = number(argc > 2 ? argv[2] : NULL, 1) * 0x9e3779b97f4a7c15ull | 1;
    for (uint64_t i = 0; i < operations; i++) {
        if (!operate() || !check_all()) {
            printf("stress: operation %lu of %lu went wrong\n", i, operations);
            return 1;
        }
    }
    if (unmap((void *)ARENA, PAGES * PAGE))
        return 1;
    printf("stress: %lu operations as the model says\n", operations);
    return 0;
}
