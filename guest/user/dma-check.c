/*
 * Checks the kernel's DMA API with every DMA probe there is: data arrives, in both
 * directions and at odd places; what is not mapped, not any more, or not for that
 * direction, is out of reach and reported, where an IOMMU translates. Exit status 1 if a
 * check fails, 2 if there is no probe. With the argument `strict` it expects translation
 * even where there is none, and must fail; with `unchecked` that the IOMMU does not look
 * at permissions.
 */
#include "guest/abi/dma.h"
#include "guest/abi/policy.h"
#include "guest/lib/lib.h"

#define FROM_MEMORY 1u
#define TO_MEMORY   2u
#define GIVE_UP     20000000000ul /* ticks */

static struct abi_dma dma; /* of the device in work */
static unsigned checks, failures;
static bool demanding, bounced, unchecked, quarantined, unpinned;

static void check(bool good, const char *what, int64_t observed)
{
    checks++;
    if (good)
        return;
    failures++;
    printf("not ok: %s (%ld)\n", what, observed);
}

static int64_t call(enum abi_dma_op op)
{
    return syscall(SYS_DMA, op, &dma);
}

static int64_t map_dma(const void *va, uint64_t bytes, uint32_t rights, uint64_t *iova)
{
    int64_t result;

    dma.va = (uint64_t)va;
    dma.bytes = bytes;
    dma.rights = rights;
    result = call(ABI_DMA_MAP);
    *iova = dma.iova;
    return result;
}

static int64_t unmap_dma(uint64_t iova)
{
    dma.iova = iova;
    return call(ABI_DMA_UNMAP);
}

static int64_t transfer(uint64_t iova, uint64_t bytes, uint32_t rights)
{
    dma.iova = iova;
    dma.bytes = bytes;
    dma.rights = rights;
    return call(ABI_DMA_TRANSFER);
}

static uint64_t held(void)
{
    call(ABI_DMA_STATE);
    return dma.value;
}

static bool translated(void)
{
    return demanding || dma.mode == ABI_DMA_STRICT || dma.mode == ABI_DMA_LAZY;
}

static void forget_faults(void)
{
    struct abi_dma fault = { 0 };

    while (!syscall(SYS_DMA, ABI_DMA_FAULT, &fault))
        ;
}

/* An access that must fail, and the record of it. */
static void must_fail(uint64_t iova, uint64_t bytes, uint32_t rights, const char *what)
{
    struct abi_dma fault = { 0 };
    int64_t result;

    forget_faults();
    if (quarantined)
        return;
    result = transfer(iova, bytes, rights);
    check(result == -ABI_EIO, what, result);
    result = syscall(SYS_DMA, ABI_DMA_FAULT, &fault);
    check(result == 0, "the fault is reported", result);
    check(fault.endpoint == dma.endpoint, "the fault's endpoint", fault.endpoint);
    check(fault.rights == rights, "the fault's direction", fault.rights);
    check(fault.iova >= iova && fault.iova < iova + bytes, "the fault's address",
          (int64_t)fault.iova);
}

static void fill(uint8_t *at, uint64_t bytes, uint64_t seed)
{
    for (uint64_t i = 0; i < bytes; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        at[i] = (uint8_t)(seed >> 56);
    }
}

/* From `from` to the device and back to `to`, each `bytes` long. */
static void round_trip(const uint8_t *from, uint8_t *to, uint64_t bytes)
{
    uint64_t out, in;
    int64_t result = map_dma(from, bytes, FROM_MEMORY, &out);

    check(result == 0, "map for reading", result);
    if (result)
        return;
    result = transfer(out, bytes, FROM_MEMORY);
    check(result == 0, "transfer from memory", result);
    check(unmap_dma(out) == 0, "unmap", 0);
    result = map_dma(to, bytes, TO_MEMORY, &in);
    check(result == 0, "map for writing", result);
    if (result)
        return;
    result = transfer(in, bytes, TO_MEMORY);
    check(result == 0, "transfer to memory", result);
    check(unmap_dma(in) == 0, "unmap", 0);
    check(!memcmp(from, to, bytes), "the data comes back", (int64_t)bytes);
}

static void check_data(uint8_t *memory)
{
    static const struct {
        uint64_t at, bytes;
    } part[] = { { 0, PAGE }, { 60, 100 }, { 2040, 16 }, { 1, 1 }, { PAGE - 100, 90 } };
    uint64_t before = held();

    for (unsigned i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        uint8_t *from = memory + part[i].at, *to = memory + 4 * PAGE + part[i].at;

        fill(from, part[i].bytes, i + 1);
        memset(memory + 4 * PAGE, 0xa5, 2 * PAGE);
        round_trip(from, to, part[i].bytes);
        check(part[i].at == 0 || to[-1] == 0xa5, "the byte before is left alone", to[-1]);
        check(to[part[i].bytes] == 0xa5, "the byte behind is left alone", to[part[i].bytes]);
    }
    /* Without translation the pages need not follow each other. */
    if (translated()) {
        fill(memory + 2048, PAGE, 77);
        round_trip(memory + 2048, memory + 5 * PAGE + 3000, PAGE);
    }
    check(held() == before, "nothing is left mapped", (int64_t)held());
}

static void check_reach(uint8_t *memory)
{
    uint64_t iova;
    int64_t result;

    check(map_dma(memory, PAGE, FROM_MEMORY, &iova) == 0, "map", 0);
    if (translated()) {
        /* Of a pool all is mapped, always and for both. */
        if (!bounced && !unchecked)
            must_fail(iova, 64, TO_MEMORY, "writing where reading is allowed");
        if (!bounced)
            must_fail(iova + PAGE, 64, FROM_MEMORY, "reading behind the end");
        dma.va = (uint64_t)memory;
        call(ABI_DMA_WHERE);
        must_fail(dma.gpa, 64, FROM_MEMORY, "reading at the physical address");
    }
    check(unmap_dma(iova) == 0, "unmap", 0);
    if (dma.mode == ABI_DMA_LAZY)
        call(ABI_DMA_FLUSH);
    if (translated() && !bounced) {
        must_fail(iova, 64, FROM_MEMORY, "reading after unmap");
    } else {
        result = transfer(iova, 64, FROM_MEMORY);
        check(result == 0, "reading after unmap, which nothing hinders", result);
    }
    check(unmap_dma(iova) == -ABI_ENOENT, "unmapping twice", 0);
    check(map_dma(NULL, PAGE, FROM_MEMORY, &iova) == -ABI_EFAULT, "mapping what is not there", 0);
    check(map_dma(memory, 0, FROM_MEMORY, &iova) == -ABI_EINVAL, "mapping nothing", 0);
    check(map_dma(memory, ~0ull, FROM_MEMORY, &iova) == -ABI_EINVAL, "mapping everything", 0);
    check(map_dma((void *)-PAGE, 2 * PAGE, FROM_MEMORY, &iova) == -ABI_EFAULT,
          "mapping around the end", 0);
    check(map_dma((void *)ABI_GATE_VA, 16, TO_MEMORY, &iova) == -ABI_EFAULT,
          "mapping for writing what may only be read", 0);
}

/* A lazy unmap takes effect by itself, without another call to the kernel's DMA API. */
static void check_lazy(uint8_t *memory)
{
    uint64_t iova, start;

    if (dma.mode != ABI_DMA_LAZY || bounced || quarantined)
        return;
    check(map_dma(memory, PAGE, FROM_MEMORY, &iova) == 0, "map", 0);
    check(unmap_dma(iova) == 0, "unmap", 0);
    start = ticks();
    while (!transfer(iova, 64, FROM_MEMORY) && ticks() - start < GIVE_UP)
        yield();
    must_fail(iova, 64, FROM_MEMORY, "reading long after a lazy unmap");
}

static void check_attach(uint8_t *memory)
{
    uint64_t iova;

    if (dma.mode == ABI_DMA_OFF && !demanding)
        return;
    check(map_dma(memory, PAGE, FROM_MEMORY, &iova) == 0, "map", 0);
    check(call(ABI_DMA_DETACH) == 0, "detach", 0);
    must_fail(iova, 64, FROM_MEMORY, "reading while detached");
    check(map_dma(memory, PAGE, FROM_MEMORY, &iova) == -ABI_ENODEV, "mapping while detached", 0);
    check(call(ABI_DMA_ATTACH) == 0, "attach", 0);
    round_trip(memory, memory + 4 * PAGE, PAGE);
}

static void check_alias(uint8_t *memory)
{
    uint64_t first, second;

    if (!translated())
        return;
    check(map_dma(memory, PAGE, FROM_MEMORY, &first) == 0, "map", 0);
    check(call(ABI_DMA_ALIAS) == 0, "alias", 0);
    second = dma.iova;
    check(second != first, "an alias has an address of its own", 0);
    check(transfer(second, PAGE, FROM_MEMORY) == 0, "reading through the alias", 0);
    check(unmap_dma(first) == 0, "unmap", 0);
    call(ABI_DMA_FLUSH);
    /* The policy may want aliases to stay. */
    if (unmap_dma(second) == -ABI_ENOENT)
        must_fail(second, 64, FROM_MEMORY, "reading through the alias after unmap");
}

/* A fault costs the device its domain, until it is attached anew. */
static void check_quarantine(uint8_t *memory)
{
    struct abi_dma fault = { 0 };
    uint64_t iova;
    int64_t result;

    check(map_dma(memory, PAGE, FROM_MEMORY, &iova) == 0, "map", 0);
    forget_faults();
    result = transfer(iova + PAGE, 64, FROM_MEMORY);
    check(result == -ABI_EIO, "reading behind the end", result);
    result = syscall(SYS_DMA, ABI_DMA_FAULT, &fault);
    check(result == 0 && fault.iova == iova + PAGE, "the fault is reported", result);
    result = transfer(iova, 64, FROM_MEMORY);
    check(result == -ABI_EIO, "reading where it could, after a fault", result);
    result = map_dma(memory, PAGE, FROM_MEMORY, &iova);
    check(result == -ABI_ENODEV, "mapping after a fault", result);
    check(call(ABI_DMA_ATTACH) == 0, "attach", 0);
    round_trip(memory, memory + 4 * PAGE, PAGE);
}

static void check_ends(uint8_t *memory)
{
    uint8_t *page = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    uint64_t before = held(), iova;
    int64_t pid;

    /* The page stays the device's while it is mapped, whatever becomes of it here. */
    fill(page, PAGE, 5);
    check(map_dma(page, PAGE, FROM_MEMORY | TO_MEMORY, &iova) == 0, "map", 0);
    check(unmap(page, PAGE) == 0, "munmap of a mapped page", 0);
    check(transfer(iova, PAGE, TO_MEMORY) == 0, "writing to it", 0);
    check(unmap_dma(iova) == 0, "unmap", 0);

    /* After a fork the device and the program still mean the same page. */
    page = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    fill(page, PAGE, 6);
    check(map_dma(page, PAGE, FROM_MEMORY | TO_MEMORY, &iova) == 0, "map", 0);
    check(transfer(iova, PAGE, FROM_MEMORY) == 0, "transfer from memory", 0);
    pid = fork();
    if (pid == 0)
        exit(page[0] == page[PAGE - 1]);
    memset(page, 0, PAGE);
    check(transfer(iova, PAGE, TO_MEMORY) == 0, "transfer to memory", 0);
    wait_for(pid);
    check(unmap_dma(iova) == 0, "unmap", 0);
    fill(memory, PAGE, 6);
    check(unpinned || !memcmp(page, memory, PAGE), "the data of a page that was forked", 0);

    pid = fork();
    if (pid == 0) {
        page = map(NULL, PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
        exit(page && map_dma(page, PAGE, FROM_MEMORY, &iova) == 0 ? (int)(held() - before) : 0);
    }
    check(wait_for(pid) >= 1, "a process maps, and ends", 0);
    check(held() == before, "its mapping ended with it", (int64_t)held());
}

int main(int argc, char **argv)
{
    static const char *const mode[] = { "off", "identity", "strict", "lazy" };
    uint8_t *memory = map(NULL, 8 * PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);
    unsigned probes = 0;

    demanding = argc > 1 && !strcmp(argv[1], "strict");
    unchecked = argc > 1 && !strcmp(argv[1], "unchecked");
    memset(memory, 0, 8 * PAGE);
    for (uint32_t i = 0;; i++) {
        dma = (struct abi_dma){ .device = i };
        if (call(ABI_DMA_DEVICE))
            break;
        printf("device %u: %s, kind %u, endpoint %u, mode %s\n", i, dma.name, dma.kind,
               dma.endpoint, mode[dma.mode % 4]);
        if (dma.kind != ABI_DEVICE_PROBE)
            continue;
        probes++;
        bounced = dma.value == ABI_DMA_BOUNCE;
        unpinned = dma.bytes & ABI_DEVICE_NO_PIN;
        /* A fault costs the device its domain: one check provokes one, the others none. */
        quarantined = dma.last != ABI_FAULT_REPORT;
        check(call(ABI_DMA_ATTACH) == 0, "attach", 0);
        check_data(memory);
        check_reach(memory);
        check_lazy(memory);
        check_alias(memory);
        check_attach(memory);
        check_ends(memory);
        if (quarantined)
            check_quarantine(memory);
    }
    if (!probes) {
        printf("no DMA probe\n");
        return 2;
    }
    printf("%u checks, %u failed\n", checks, failures);
    return failures ? 1 : 0;
}
