/*
 * The guest's half of the disk bench (tests/bench/blk.c). Each line of input asks for one
 * batch of reads: BYTES DEPTH COUNT, random for 4K, else one after another. The answer is
 * a line "batch DONE TICKS". An empty line ends it.
 */
#include "guest/abi/dma.h"
#include "guest/lib/lib.h"

#define SECTOR 512ul
#define ROOM   (32ul << 20) /* 32 requests of 1 MiB */

/* The number at *text, which is moved behind it. */
static uint64_t take_number(const char **text)
{
    uint64_t value = 0;

    while (**text == ' ')
        ++*text;
    while (**text >= '0' && **text <= '9')
        value = value * 10 + (uint64_t)(*(*text)++ - '0');
    return value;
}

static int batch(const char *line, char *room, uint64_t sectors)
{
    uint64_t bytes = take_number(&line), depth = take_number(&line), count = take_number(&line);
    struct abi_block call = {
        .va = (uint64_t)room, .bytes = bytes, .depth = depth, .count = count, .sectors = sectors
    };
    int64_t result;

    if (!bytes || bytes * depth > ROOM || count > sectors / (bytes / SECTOR))
        return 2;
    if (bytes == PAGE)
        call.flags = ABI_BLOCK_RANDOM;
    else
        call.step = bytes / SECTOR;
    result = syscall(SYS_BLOCK, ABI_BLOCK_MANY, &call);
    if (result || call.done != count) {
        printf("failed %ld %lu\n", result, call.errors);
        return 1;
    }
    printf("batch %lu %lu\n", call.done, call.ticks);
    return 0;
}

int main(int argc, char **argv)
{
    struct abi_block call = { 0 };
    char line[64], *room;
    int64_t n;
    int status = 0;

    (void)argc;
    (void)argv;
    /* In 2M pages, as a driver's own buffers would lie: one piece for each request. */
    room = map(NULL, ROOM, ABI_PROT_READ | ABI_PROT_WRITE, ABI_MAP_HUGE, 0);
    if (!room || syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call))
        return 1;
    for (uint64_t i = 0; i < ROOM; i += PAGE)
        *(volatile char *)(room + i) = 1;
    printf("ready\n");
    while (!status && (n = read(line, sizeof(line) - 1)) > 1) {
        line[n] = 0;
        status = batch(line, room, call.sectors);
    }
    return status;
}
