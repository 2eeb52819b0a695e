/*
 * Disks, by SYS_BLOCK:
 *   disk info                         all disks
 *   disk write  N SECTOR BYTES SEED   a pattern that depends on the sector and the seed
 *   disk verify N SECTOR BYTES SEED   reads and compares it
 *   disk zero   N SECTOR BYTES        reads, and expects zeroes
 *   disk fill   N SEED                write, over the whole disk; then verify
 *   disk each   SEED                  fill, for all disks, each with a pattern of its own
 *   disk flush  N
 *   disk discard N SECTOR BYTES
 *   disk many   N BYTES DEPTH COUNT [random] [writes]
 *   disk random BYTES                 from the entropy device, not a disk
 * Exit status 0, 1 when something differs, or the error's number (see guest/abi).
 */
#include "guest/abi/dma.h"
#include "guest/lib/lib.h"

#define SECTOR 512ul
#define CHUNK  (1ul << 20)

static struct abi_block call;

static uint64_t word(uint64_t seed, uint64_t sector, uint64_t i)
{
    uint64_t x = (sector * (SECTOR / 8) + i + 1) * 0x9e3779b97f4a7c15ull ^ seed << 32;

    return x ^ x >> 29;
}

static int failed(const char *what, int64_t error)
{
    printf("disk %s: error %ld\n", what, -error);
    return (int)-error;
}

static char *buffer(uint64_t bytes)
{
    /* Not on a page boundary, so that the driver has to map odd pieces, too. */
    char *memory = map(NULL, bytes + PAGE, ABI_PROT_READ | ABI_PROT_WRITE, 0, 0);

    return memory ? memory + SECTOR : NULL;
}

static int64_t transfer(enum abi_block_op op, uint64_t disk, uint64_t sector, char *at,
                        uint64_t bytes)
{
    call = (struct abi_block){
        .device = (uint32_t)disk, .va = (uint64_t)at, .bytes = bytes, .sector = sector
    };
    return syscall(SYS_BLOCK, op, &call);
}

static int info(void)
{
    uint32_t n = 0;

    for (;; n++) {
        call = (struct abi_block){ .device = n };
        if (syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call))
            break;
        printf("disk %u: %lu sectors%s%s%s, %lu errors, %lu protocol errors\n", n, call.sectors,
               call.flags & ABI_BLOCK_READ_ONLY ? ", read-only" : "",
               call.flags & ABI_BLOCK_DISCARDS ? ", discards" : "",
               call.flags & ABI_BLOCK_FLUSHES ? ", flushes" : "", call.errors,
               call.protocol_errors);
    }
    printf("%u disks\n", n);
    return 0;
}

static int write_pattern(uint64_t disk, uint64_t sector, uint64_t bytes, uint64_t seed)
{
    char *at = buffer(CHUNK);

    if (!at)
        return ABI_ENOMEM;
    while (bytes) {
        uint64_t part = bytes < CHUNK ? bytes : CHUNK;
        int64_t done;

        for (uint64_t i = 0; i < part / 8; i++)
            ((uint64_t *)at)[i] = word(seed, sector, i);
        done = transfer(ABI_BLOCK_WRITE, disk, sector, at, part);
        if (done != (int64_t)part)
            return failed("write", done);
        sector += part / SECTOR;
        bytes -= part;
    }
    return 0;
}

/* seed ~0: zeroes. */
static int verify(uint64_t disk, uint64_t sector, uint64_t bytes, uint64_t seed)
{
    char *at = buffer(CHUNK);

    if (!at)
        return ABI_ENOMEM;
    while (bytes) {
        uint64_t part = bytes < CHUNK ? bytes : CHUNK;
        int64_t done = transfer(ABI_BLOCK_READ, disk, sector, at, part);

        if (done != (int64_t)part)
            return failed("read", done);
        for (uint64_t i = 0; i < part / 8; i++) {
            uint64_t want = seed == ~0ull ? 0 : word(seed, sector, i);

            if (((uint64_t *)at)[i] == want)
                continue;
            printf("disk: sector %lu, word %lu differs: 0x%lx, should be 0x%lx\n",
                   sector + i / (SECTOR / 8), i % (SECTOR / 8), ((uint64_t *)at)[i], want);
            return 1;
        }
        sector += part / SECTOR;
        bytes -= part;
    }
    printf("as it should be\n");
    return 0;
}

/* All are written before any is read, so that a mistake of one for another shows. */
static int each(uint64_t seed)
{
    uint32_t n = 0;
    int status;

    for (;; n++) {
        call = (struct abi_block){ .device = n };
        if (syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call))
            break;
        status = write_pattern(n, 0, call.sectors * SECTOR, seed + n);
        if (status)
            return status;
    }
    for (uint32_t i = 0; i < n; i++) {
        call = (struct abi_block){ .device = i };
        if (syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call))
            return 1;
        status = verify(i, 0, call.sectors * SECTOR, seed + i);
        if (status)
            return status;
    }
    printf("%u disks, each with what is its own\n", n);
    return 0;
}

static int many(uint64_t disk, int argc, char **argv)
{
    static struct abi_sysinfo sysinfo;
    uint64_t bytes = number(argc > 0 ? argv[0] : NULL, PAGE);
    uint64_t depth = number(argc > 1 ? argv[1] : NULL, 1);
    uint64_t count = number(argc > 2 ? argv[2] : NULL, 100);
    uint64_t huge = 2ul << 20, room = (bytes * depth + huge - 1) & ~(huge - 1);
    uint32_t flags = 0;
    uint64_t us;
    char *at;
    int64_t result;

    for (int i = 3; i < argc; i++) {
        if (!strcmp(argv[i], "random"))
            flags |= ABI_BLOCK_RANDOM;
        else if (!strcmp(argv[i], "writes"))
            flags |= ABI_BLOCK_WRITES;
    }
    call = (struct abi_block){ .device = (uint32_t)disk };
    result = syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call);
    /* In 2M pages: one piece for each request, translated or not. */
    at = result ? NULL : map(NULL, room, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_HUGE, 0);
    if (!at)
        return failed("many", result ? result : -ABI_ENOMEM);
    for (uint64_t i = 0; i < room; i += PAGE)
        *(volatile char *)(at + i) = 1;
    call = (struct abi_block){
        .device = (uint32_t)disk,
        .va = (uint64_t)at,
        .bytes = bytes,
        .count = count,
        .depth = depth,
        .step = (count * bytes / SECTOR <= call.sectors) ? bytes / SECTOR : 0,
        .flags = flags,
    };
    result = syscall(SYS_BLOCK, ABI_BLOCK_MANY, &call);
    if (result)
        return failed("many", result);
    syscall(SYS_SYSINFO, &sysinfo);
    us = call.ticks / (sysinfo.tsc_hz ? sysinfo.tsc_hz / 1000000 : 2000);
    printf("%lu requests of %lu bytes, %lu at a time: %lu done, %lu errors, %lu us, %lu a second\n",
           count, bytes, depth, call.done, call.errors, us, us ? call.done * 1000000 / us : 0);
    return call.done == count ? 0 : 1;
}

static int random_bytes(uint64_t bytes)
{
    static uint8_t at[PAGE];
    uint64_t ones = 0;

    for (uint64_t left = bytes; left;) {
        int64_t n = syscall(SYS_RANDOM, at, left < PAGE ? left : PAGE);

        if (n <= 0)
            return failed("random", n);
        for (int64_t i = 0; i < 8 * n; i++)
            ones += at[i / 8] >> i % 8 & 1;
        left -= (uint64_t)n;
    }
    printf("%lu random bytes, %lu %% of the bits set\n", bytes, ones * 100 / (bytes * 8));
    return ones * 100 / (bytes * 8) >= 40 && ones * 100 / (bytes * 8) <= 60 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "info";
    uint64_t disk = number(argc > 2 ? argv[2] : NULL, 0);
    uint64_t sector = number(argc > 3 ? argv[3] : NULL, 0);
    uint64_t bytes = number(argc > 4 ? argv[4] : NULL, PAGE);
    uint64_t seed = number(argc > 5 ? argv[5] : NULL, 1);
    int64_t result;
    int status;

    if (!strcmp(what, "info"))
        return info();
    if (!strcmp(what, "random"))
        return random_bytes(number(argc > 2 ? argv[2] : NULL, 100));
    if (!strcmp(what, "each"))
        return each(number(argc > 2 ? argv[2] : NULL, 1));
    if (!strcmp(what, "many"))
        return many(disk, argc - 3, argv + 3);
    if (!strcmp(what, "write"))
        return write_pattern(disk, sector, bytes, seed);
    if (!strcmp(what, "verify"))
        return verify(disk, sector, bytes, seed);
    if (!strcmp(what, "zero"))
        return verify(disk, sector, bytes, ~0ull);
    if (!strcmp(what, "fill")) {
        call = (struct abi_block){ .device = (uint32_t)disk };
        result = syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call);
        if (result)
            return failed("info", result);
        bytes = call.sectors * SECTOR;
        status = write_pattern(disk, 0, bytes, sector);
        return status ? status : verify(disk, 0, bytes, sector);
    }
    if (!strcmp(what, "flush") || !strcmp(what, "discard")) {
        result = transfer(!strcmp(what, "flush") ? ABI_BLOCK_FLUSH : ABI_BLOCK_DISCARD, disk,
                          sector, NULL, bytes);
        if (result)
            return failed(what, result);
        printf("%s: done\n", what);
        return 0;
    }
    printf("usage: disk info|write|verify|zero|fill|flush|discard|many|random (see its source)\n");
    return 2;
}
