/*
 * Checks disks as memory on the first disk, which is to be writable, of 64 pages and a part
 * of one: what is mapped is what SYS_BLOCK has written; writing it is private; whatever
 * meets a page that is not there waits for it, system calls included. Exit status 1 if a
 * check fails, 2 if there is no such disk. With the argument `wrong` it expects another
 * pattern than it writes, and must fail; with `lost` it touches the last page once somebody
 * has typed a line.
 */
#include "guest/abi/dma.h"
#include "guest/lib/lib.h"

#define SECTOR     512ul
#define PAGES      64ul
#define WORDS      (PAGE / 8)
#define READ_WRITE (ABI_PROT_READ | ABI_PROT_WRITE)
#define TEXT       "said by pages of a disk\n"
#define ROUNDS     8

static unsigned checks, failures;
static uint64_t bytes; /* of the disk */
static uint64_t seed;  /* of the pattern that is expected */
static struct abi_process self;
static struct abi_sysinfo info;
static struct abi_block call;

static void check(bool good, const char *what, int64_t observed)
{
    checks++;
    if (good)
        return;
    failures++;
    printf("not ok: %s (%ld)\n", what, observed);
}

static uint64_t word(uint64_t page, uint64_t i)
{
    return (page * WORDS + i + 1) * 0x9e3779b97f4a7c15ull ^ seed;
}

static int64_t block(enum abi_block_op op, const void *va, uint64_t n, uint64_t sector)
{
    call = (struct abi_block){ .va = (uint64_t)va, .bytes = n, .sector = sector };
    return syscall(SYS_BLOCK, op, &call);
}

static void look_at_self(void)
{
    int64_t pid = syscall(SYS_GETPID);

    for (uint64_t slot = 0; slot < info.nprocesses; slot++) {
        if (syscall(SYS_PROCESS_INFO, slot, &self) == 1 && self.pid == pid)
            return;
    }
}

static int64_t map_at(uint64_t disk, uint64_t offset, uint64_t n, uint64_t prot, uint64_t va)
{
    return syscall(SYS_MAP_DISK, disk, offset, n, prot, va);
}

/* All of the disk, nothing read ahead. */
static char *map_all(uint64_t prot)
{
    int64_t va = map_at(0, 0, bytes, prot, 0);

    if (va < 0 || syscall(SYS_MADVISE, va, bytes, (uint64_t)ABI_MADV_RANDOM)) {
        printf("not ok: map (%ld)\n", va);
        exit(1);
    }
    return (char *)va;
}

static uint64_t wrong_words(const char *at, uint64_t page, uint64_t pages)
{
    uint64_t wrong = 0;

    for (uint64_t i = 0; i < pages * WORDS; i++)
        wrong += ((const volatile uint64_t *)at)[i] != word(page, i);
    return wrong;
}

static void check_arguments(void)
{
    check(map_at(7, 0, PAGE, 1, 0) == -ABI_ENOENT, "a disk that is not there", 0);
    check(map_at(0, 0, 0, 1, 0) == -ABI_EINVAL, "no bytes", 0);
    check(map_at(0, 1, PAGE, 1, 0) == -ABI_EINVAL, "an odd offset", 0);
    check(map_at(0, 0, PAGE, 8, 0) == -ABI_EINVAL, "unknown rights", 0);
    check(map_at(0, 0, (PAGES + 2) * PAGE, 1, 0) == -ABI_EINVAL, "more than there is", 0);
    check(map_at(0, ~0ul & ~(PAGE - 1), PAGE, 1, 0) == -ABI_EINVAL, "far behind the end", 0);
    check(map_at(0, PAGE, ~0ul, 1, 0) == -ABI_EINVAL, "as much as there are numbers", 0);
    check(map_at(0, 0, PAGE, 1, (uint64_t)check_arguments & ~(PAGE - 1)) == -ABI_EEXIST,
          "where something is", 0);
    check(map_at(0, 0, PAGE, 1, 1ul << 63) == -ABI_ENOMEM, "in the kernel's half", 0);
}

static void check_contents(void)
{
    int64_t va = map_at(0, 0, bytes, READ_WRITE, 0);
    char *at = (char *)va, *other = map_all(ABI_PROT_READ);
    uint64_t major, tail = 0;
    int64_t result;

    look_at_self();
    major = self.major_faults;
    check(va > 0 && wrong_words(at, 0, PAGES) == 0, "what was written", va);
    for (uint64_t i = bytes % PAGE; i < PAGE; i++)
        tail += at[PAGES * PAGE + i] != 0;
    check(tail == 0, "zeroes behind the end", (int64_t)tail);
    look_at_self();
    check(self.major_faults - major == PAGES / 16 + 1, "a read for 16 pages",
          (int64_t)(self.major_faults - major));
    check(wrong_words(other, 0, PAGES) == 0, "through another mapping", 0);
    look_at_self();
    check(self.major_faults - major == PAGES / 16 + 1, "from the page cache", 0);

    *(volatile uint64_t *)at = 1;
    check(*(volatile uint64_t *)other == word(0, 0), "a write is private", 0);
    check(block(ABI_BLOCK_READ, at + PAGE, PAGE, 0) == PAGE && wrong_words(at + PAGE, 0, 1) == 0,
          "and does not reach the disk", 0);
    result = syscall(SYS_MADVISE, at, 2 * PAGE, (uint64_t)ABI_MADV_DONTNEED);
    check(!result && wrong_words(at, 0, 2) == 0, "given back, it is the disk's again", result);
    look_at_self();
    check(self.major_faults - major == PAGES / 16 + 1, "which was still there", 0);
    unmap(at, bytes);
    unmap(other, bytes);
}

/* Pages that nobody has read, as arguments. */
static void check_calls(void)
{
    char *at = map_all(READ_WRITE), *text = at + (PAGES - 1) * PAGE - 8;
    int64_t channel = syscall(SYS_CHANNEL_CREATE), result;
    struct abi_block *info_call = (struct abi_block *)(at + 40 * PAGE - 16);
    uint64_t major;

    /* TEXT lies on both sides of a page's end. */
    check(syscall(SYS_WRITE, text, sizeof(TEXT) - 1) == sizeof(TEXT) - 1, "write", 0);
    check(syscall(SYS_SEND, channel, at + 3 * PAGE - 64, 128ul) == 128, "send", 0);
    check(syscall(SYS_RECV, channel, at + 5 * PAGE - 64, 128ul) == 128, "receive", 0);
    check(!memcmp(at + 3 * PAGE - 64, at + 5 * PAGE - 64, 128), "what was sent", 0);
    check(wrong_words(at + 4 * PAGE, 4, 1) == 8 && wrong_words(at + 6 * PAGE, 6, 1) == 0,
          "and nothing else", 0);
    check(syscall(SYS_CHECKPOINT, 0ul, 0ul, at + 8 * PAGE - 8, 4ul) <= 0, "checkpoint", 0);
    check(syscall(SYS_CHANNEL_DROP, channel) == 0, "drop", 0);
    check(syscall(SYS_SYSINFO, at + 10 * PAGE - 24) == 0, "sysinfo", 0);
    memset(info_call, 0, sizeof(*info_call));
    result = syscall(SYS_BLOCK, ABI_BLOCK_INFO, info_call);
    check(!result && info_call->sectors == bytes / SECTOR, "a structure", result);
    unmap(at, bytes);

    /* A transfer of several requests, mapped in part by interrupt. */
    at = map_all(READ_WRITE);
    result = block(ABI_BLOCK_READ, at + 8, 40 * PAGE, 0);
    check(result == 40 * PAGE && wrong_words(at + 8, 0, 40) == 0, "read to missing pages", result);
    check(wrong_words(at + 41 * PAGE, 41, 20) == 0, "and nothing else there", 0);
    unmap(at, bytes);
    at = map_all(ABI_PROT_READ);
    look_at_self();
    major = self.major_faults;
    result = block(ABI_BLOCK_WRITE, at, 40 * PAGE, 0);
    check(result == 40 * PAGE && wrong_words(at, 0, 40) == 0, "write from missing pages", result);
    look_at_self();
    check(self.major_faults == major, "by reads of many", (int64_t)(self.major_faults - major));
    unmap(at, bytes);
}

static void check_advice(void)
{
    uint64_t faults;
    char *at;

    /* Unmapped while it is being read, and mapped again at once. */
    for (unsigned i = 0; i < ROUNDS; i++) {
        at = map_all(ABI_PROT_READ);
        check(syscall(SYS_MADVISE, at, bytes, (uint64_t)ABI_MADV_WILLNEED) == 0, "will need", i);
        if (i % 2)
            check(*(volatile uint64_t *)(at + i * PAGE) == word(i, 0), "a page of those", i);
        unmap(at, bytes);
    }
    at = map_all(ABI_PROT_READ);
    syscall(SYS_MADVISE, at, bytes, (uint64_t)ABI_MADV_WILLNEED);
    look_at_self();
    faults = self.major_faults;
    check(wrong_words(at, 0, PAGES) == 0, "needed", 0);
    look_at_self();
    check(self.major_faults == faults, "without a read of its own", 0);
    unmap(at, bytes);
}

static void check_locks(void)
{
    char *at = map_all(ABI_PROT_READ), *zero = map(NULL, 8 * PAGE, READ_WRITE, 0, 0);
    uint64_t rss, faults;
    int64_t result;

    look_at_self();
    rss = self.rss_frames;
    result = syscall(SYS_LOCK, at, bytes, 1ul);
    check(result == 0, "lock", result);
    check(syscall(SYS_LOCK, zero, 8 * PAGE, 1ul) == 0, "lock memory that was never touched", 0);
    look_at_self();
    check(self.rss_frames - rss == PAGES + 1 + 8, "what is there then",
          (int64_t)(self.rss_frames - rss));
    faults = self.faults;
    check(wrong_words(at, 0, PAGES) == 0, "locked", 0);
    *(volatile char *)zero = 1;
    look_at_self();
    check(self.faults == faults, "without a fault", (int64_t)(self.faults - faults));
    result = syscall(SYS_MADVISE, at, PAGE, (uint64_t)ABI_MADV_DONTNEED);
    check(result == -ABI_EINVAL, "locked pages stay", result);
    check(syscall(SYS_LOCK, at, PAGE, 0ul) == 0, "unlock one", 0);
    result = syscall(SYS_MADVISE, at, PAGE, (uint64_t)ABI_MADV_DONTNEED);
    check(result == 0, "which goes", result);
    result = syscall(SYS_MADVISE, at + PAGE, PAGE, (uint64_t)ABI_MADV_DONTNEED);
    check(result == -ABI_EINVAL, "its neighbour does not", result);
    unmap(at + 8 * PAGE, PAGE);
    check(syscall(SYS_LOCK, at, bytes, 1ul) == -ABI_ENOMEM, "lock a hole", 0);
    check(wrong_words(at + 9 * PAGE, 9, PAGES - 9) == 0, "behind the hole", 0);
    unmap(zero, 8 * PAGE);
    unmap(at, bytes);
}

static void check_rights(void)
{
    char *at = map_all(ABI_PROT_READ);
    struct abi_user_fault fault;

    check(!guarded((uint64_t)at, ABI_WRITE, &fault) && fault.vector == 14, "not writable", 0);
    protect(at, bytes, ABI_PROT_NONE);
    check(!guarded((uint64_t)at + PAGE, ABI_READ, &fault) && fault.vector == 14, "closed", 0);
    protect(at, bytes, READ_WRITE);
    at[2 * PAGE]++;
    check(*(volatile uint64_t *)(at + 2 * PAGE) == word(2, 0) + 1, "writable", 0);
    unmap(at + 3 * PAGE, PAGE);
    check(wrong_words(at + 4 * PAGE, 4, 4) == 0, "split, the rest is what it was", 0);
    unmap(at, bytes);
}

static void check_processes(void)
{
    char *at = map_all(READ_WRITE);
    int64_t child;

    *(volatile uint64_t *)at = 1;
    child = fork();
    if (!child) {
        bool good = *(volatile uint64_t *)at == 1 && wrong_words(at + PAGE, 1, PAGES - 1) == 0;

        *(volatile uint64_t *)(at + PAGE) = 2;
        exit(good ? 0 : 1);
    }
    check(wait_for(child) == 0, "a child sees the same", 0);
    check(wrong_words(at + PAGE, 1, 1) == 0, "and writes for itself", 0);
    unmap(at, bytes);

    /* Ended while it waits. */
    at = map_all(ABI_PROT_READ);
    for (unsigned i = 0; i < ROUNDS; i++) {
        child = fork();
        if (!child) {
            (void)*(volatile char *)(at + i * PAGE);
            for (;;)
                yield();
        }
        yield();
        syscall(SYS_KILL, child);
        check(wait_for(child) == ABI_STATUS_KILLED, "killed", i);
    }
    check(wrong_words(at, 0, PAGES) == 0, "after them all", 0);
    unmap(at, bytes);
}

static int touch_last(void)
{
    char *at = map_all(ABI_PROT_READ), line[8];

    printf("ready\n");
    read(line, sizeof(line));
    return *(volatile char *)(at + PAGES * PAGE);
}

static void prepare(void)
{
    uint64_t *pattern = map(NULL, (PAGES + 1) * PAGE, READ_WRITE, 0, 0);

    for (uint64_t i = 0; i < bytes / 8; i++)
        pattern[i] = word(0, i);
    memcpy((char *)pattern + (PAGES - 1) * PAGE - 8, TEXT, sizeof(TEXT) - 1);
    check(block(ABI_BLOCK_WRITE, pattern, bytes, 0) == (int64_t)bytes, "prepare", 0);
    unmap(pattern, (PAGES + 1) * PAGE);
}

int main(int argc, char **argv)
{
    syscall(SYS_SYSINFO, &info);
    if (syscall(SYS_BLOCK, ABI_BLOCK_INFO, &call) || call.sectors * SECTOR <= PAGES * PAGE ||
        call.sectors * SECTOR >= (PAGES + 1) * PAGE) {
        printf("no disk of %lu pages and a part\n", PAGES);
        return 2;
    }
    bytes = call.sectors * SECTOR;
    if (argc > 1 && !strcmp(argv[1], "lost"))
        return touch_last();
    prepare();
    if (argc > 1)
        seed = 1;
    check_arguments();
    check_calls();
    /* Without the text, that is no pattern. */
    {
        uint64_t page[2 * WORDS];

        for (uint64_t i = 0; i < 2 * WORDS; i++)
            page[i] = word(PAGES - 2, i);
        check(block(ABI_BLOCK_WRITE, page, sizeof(page), (PAGES - 2) * PAGE / SECTOR) ==
                  sizeof(page),
              "the pattern again", 0);
    }
    check_contents();
    check_advice();
    check_locks();
    check_rights();
    check_processes();
    printf("%u checks, %u failed\n", checks, failures);
    return failures ? 1 : 0;
}
