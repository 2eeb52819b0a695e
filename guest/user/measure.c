/* The measuring program: carries out what the host orders (guest/abi/measure.h). */
#include "guest/lib/lib.h"
#include "guest/measure/order.h"

static struct abi_mailbox mailbox __attribute__((aligned(4096)));

static void *map_pages(size_t bytes, enum abi_page_kind page)
{
    static const uint32_t flags[ABI_PAGE_KINDS] = {
        [ABI_PAGE_2M] = ABI_MAP_HUGE, [ABI_PAGE_1G] = ABI_MAP_GIANT
    };

    if (page >= ABI_PAGE_KINDS)
        return NULL;
    return map(NULL, bytes, ABI_PROT_READ | ABI_PROT_WRITE, flags[page], 0);
}

static int unmap_pages(void *addr, size_t bytes)
{
    return unmap(addr, bytes);
}

/* On the CPU that interrupts of the host's go to. */
static int64_t kernel(enum abi_measure_op op, uint64_t count, uint64_t arg)
{
    syscall(SYS_PIN, 0);
    return syscall(SYS_MEASURE, op, count, arg);
}

int main(int argc, char **argv)
{
    static const struct platform platform = { .map = map_pages,
                                              .unmap = unmap_pages,
                                              .kernel = kernel };
    const uint64_t arg[1] = { (uint64_t)&mailbox };

    (void)argc;
    (void)argv;
    /* The host reads and writes it where it lies: it must be there. */
    memset(&mailbox, 0, sizeof(mailbox));
    while (!checkpoint(ABI_MEASURE, 1, arg, 1))
        order_run(&platform, &mailbox.order, &mailbox.answer);
    return 0;
}
