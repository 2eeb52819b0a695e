/*
 * The paging exercise: mappings of every kind, touched in a known pattern; every
 * forbidden access; then nothing left. What is claimed here the host checks.
 */
#include "guest/lib/lib.h"

#define READONLY_PAGES 4
#define RETURN_OPCODE  0xc3

static struct abi_attempt attempts[32];
static uint64_t n_attempts;

static void attempt(uint64_t va, enum abi_access access)
{
    struct abi_user_fault fault;

    guarded(va, access, &fault);
    attempts[n_attempts++] = (struct abi_attempt){
        .va = va,
        .access = access,
        .vector = fault.vector,
        .error = fault.error,
        .fault_va = fault.va,
    };
}

/* A region whose first byte of each page is a `ret`, then of the protection wanted. */
static uint64_t region(size_t bytes, uint32_t prot, uint32_t flags)
{
    char *at = map(NULL, bytes, ABI_PROT_READ | ABI_PROT_WRITE, flags, 0);

    if (!at)
        exit(1);
    for (size_t i = 0; i < bytes; i += flags & ABI_MAP_HUGE ? ABI_HUGE_BYTES : PAGE)
        *(volatile char *)(at + i) = (char)RETURN_OPCODE;
    if (protect(at, bytes, prot))
        exit(1);
    return (uint64_t)at;
}

/* Fetch before write, so that code which should not run, but does, is still a `ret`. */
static void forbidden(const uint64_t *arg)
{
    n_attempts = 0;
    attempt(arg[ABI_PAGING_READONLY], ABI_FETCH);
    attempt(arg[ABI_PAGING_READONLY], ABI_WRITE);
    attempt(arg[ABI_PAGING_TOUCHED] + 2 * PAGE, ABI_FETCH);
    attempt(arg[ABI_PAGING_CODE], ABI_WRITE);
    attempt(arg[ABI_PAGING_NONE], ABI_READ);
    attempt(arg[ABI_PAGING_NONE], ABI_FETCH);
    attempt(arg[ABI_PAGING_NONE], ABI_WRITE);
    attempt(arg[ABI_PAGING_HUGE_RW], ABI_FETCH);
    attempt(arg[ABI_PAGING_HUGE_RO] + 321 * PAGE, ABI_WRITE);
    attempt(arg[ABI_PAGING_TEXT], ABI_WRITE);
    attempt(arg[ABI_PAGING_KERNEL], ABI_READ);
    attempt(arg[ABI_PAGING_KERNEL], ABI_FETCH);
    attempt(arg[ABI_PAGING_KERNEL], ABI_WRITE);
    attempt(PAGE, ABI_READ);
    attempt(PAGE, ABI_FETCH);
    attempt(PAGE, ABI_WRITE);
}

/* The same regions once they are gone: every access must find nothing. */
static void gone(const uint64_t *arg)
{
    n_attempts = 0;
    for (enum abi_access access = ABI_READ; access <= ABI_FETCH; access++) {
        for (unsigned i = ABI_PAGING_TOUCHED; i <= ABI_PAGING_HUGE_RO; i++)
            attempt(arg[i] + (access == ABI_READ ? 0 : 2) * PAGE, access);
    }
}

int main(int argc, char **argv)
{
    static uint64_t arg[ABI_PAGING_NARGS];
    uint64_t pages = number(argc > 1 ? argv[1] : NULL, 48);
    uint64_t outcome[2] = { (uint64_t)attempts, 0 };
    volatile char *touched;

    if (pages < 3)
        return 2;
    if (argc > 2 && !strcmp(argv[2], "break"))
        syscall(SYS_BREAK, ABI_BREAK_PROTECTION);
    /* So that the exercise's own data takes no frame between the checkpoints. */
    memset(attempts, 0, sizeof(attempts));
    memset(arg, 0, sizeof(arg));
    attempt((uint64_t)arg, ABI_READ);
    checkpoint(ABI_PAGING, ABI_PAGING_BEFORE, arg, 0);

    arg[ABI_PAGING_PAGES] = pages;
    touched = map(NULL, pages * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    for (uint64_t i = 0; touched && i < pages; i++) {
        if (ABI_PAGING_TOUCH(i) == 1)
            (void)touched[i * PAGE];
        else if (ABI_PAGING_TOUCH(i) == 2)
            touched[i * PAGE] = (char)RETURN_OPCODE;
    }
    arg[ABI_PAGING_TOUCHED] = (uint64_t)touched;
    arg[ABI_PAGING_READONLY] = region(READONLY_PAGES * PAGE, ABI_PROT_READ, 0);
    arg[ABI_PAGING_CODE] = region(PAGE, ABI_PROT_READ | ABI_PROT_EXEC, 0);
    arg[ABI_PAGING_NONE] = region(PAGE, ABI_PROT_NONE, 0);
    arg[ABI_PAGING_HUGE_RW] = region(ABI_HUGE_BYTES, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_HUGE);
    arg[ABI_PAGING_HUGE_RO] = (uint64_t)map(NULL, ABI_HUGE_BYTES, ABI_PROT_READ, ABI_MAP_HUGE, 0);
    (void)*(volatile char *)arg[ABI_PAGING_HUGE_RO];
    arg[ABI_PAGING_TEXT] = (uint64_t)main;
    arg[ABI_PAGING_KERNEL] = 0xffffffff80200000;
    checkpoint(ABI_PAGING, ABI_PAGING_MAPPED, arg, ABI_PAGING_NARGS);

    forbidden(arg);
    outcome[1] = n_attempts;
    checkpoint(ABI_PAGING, ABI_PAGING_FAULTS, outcome, 2);

    unmap((void *)arg[ABI_PAGING_TOUCHED], pages * PAGE);
    unmap((void *)arg[ABI_PAGING_READONLY], READONLY_PAGES * PAGE);
    unmap((void *)arg[ABI_PAGING_CODE], PAGE);
    unmap((void *)arg[ABI_PAGING_NONE], PAGE);
    unmap((void *)arg[ABI_PAGING_HUGE_RW], ABI_HUGE_BYTES);
    unmap((void *)arg[ABI_PAGING_HUGE_RO], ABI_HUGE_BYTES);
    gone(arg);
    outcome[1] = n_attempts;
    checkpoint(ABI_PAGING, ABI_PAGING_UNMAPPED, outcome, 2);
    return 0;
}
