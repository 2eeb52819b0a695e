/*
 * vmm/inspect: address spaces, maps, frames, shared, find and symbols over hand-made and
 * random page tables. Guest memory is read-only to this process during every look, so
 * that a write to it, an accessed bit for one, ends the test.
 */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/suites.h"
#include "vmm/inspect/find.h"
#include "vmm/inspect/find_bytes.h"
#include "vmm/inspect/frames.h"
#include "vmm/inspect/maps.h"
#include "vmm/inspect/resident.h"
#include "vmm/inspect/shared_list.h"
#include "vmm/inspect/spaces.h"
#include "vmm/inspect/symbols.h"
#include "vmm/machine/guest_memory.h"
#include "vmm/machine/memory.h"

#define MIB   (1ull << 20)
#define GIB   (1ull << 30)
#define PWU   (PAGING_P | PAGING_W | PAGING_U)
#define CR0   0x80000011ull
#define CR4   0x20ull
#define LA57  0x1000ull
#define EFER  0xd00ull
#define UPPER 0xffff800000000000ull

static struct memory memory;
static uint64_t next_table; /* where the next page-table page comes from */

static void setup_bytes(uint64_t bytes)
{
    ck_assert_int_eq(memory_create(&memory, -1, bytes, MEMORY_4K), 0);
    next_table = 0x1000;
}

static void setup(void)
{
    setup_bytes(16 * MIB);
}

static void teardown(void)
{
    memory_destroy(&memory);
}

static void read_only(bool on)
{
    for (unsigned i = 0; i < memory.nslots; i++)
        ck_assert_int_eq(mprotect(memory.slots[i].hva, memory.slots[i].bytes,
                                  on ? PROT_READ : PROT_READ | PROT_WRITE),
                         0);
}

static uint64_t *entry_at(uint64_t table, uint64_t index)
{
    return memory_at(&memory, table + 8 * index, 8);
}

static uint64_t new_table(void)
{
    uint64_t table = next_table;

    next_table += 0x1000;
    ck_assert_ptr_nonnull(entry_at(table, 511));
    return table;
}

/* Maps a page at `level` (1: 4K) in tables of nlevels; false if something is in the way. */
static bool map_at(uint64_t root, unsigned nlevels, uint64_t va, unsigned level, uint64_t entry)
{
    uint64_t table = root, *at;

    for (unsigned l = nlevels; l > level; l--) {
        at = entry_at(table, va >> (12 + 9 * (l - 1)) & 511);
        if (!(*at & PAGING_P))
            *at = new_table() | PWU;
        else if (l <= 3 && *at & PAGING_PS)
            return false;
        table = *at & PAGING_ADDR;
    }
    at = entry_at(table, va >> (12 + 9 * (level - 1)) & 511);
    if (*at & PAGING_P)
        return false;
    *at = entry | PAGING_P | (level > 1 ? PAGING_PS : 0);
    return true;
}

static struct space_cpu cpu_with(uint64_t root, bool five)
{
    return (
        struct space_cpu){ .cr0 = CR0, .cr3 = root, .cr4 = CR4 | (five ? LA57 : 0), .efer = EFER };
}

/* Everything that `maps` needs, in one go. */
struct world {
    struct spaces spaces;
    struct frame_map frames;
    struct maps maps;
    uint64_t budget;
};

static void look(struct world *w, const struct space_cpu *cpus, unsigned ncpus, uint64_t kernel_va)
{
    w->budget = SPACES_BUDGET;
    ck_assert_int_eq(frame_map_create(&w->frames, &memory), 0);
    read_only(true);
    spaces_find(&w->spaces, &memory, cpus, ncpus, kernel_va);
    frame_map_count(&w->frames, &w->spaces, NULL, &w->budget);
    ck_assert_int_eq(maps_make(&w->maps, &w->spaces, &w->frames, &w->budget), 0);
    read_only(false);
}

static void forget(struct world *w)
{
    maps_destroy(&w->maps);
    frame_map_destroy(&w->frames);
}

/* ---- A dump in the style of Linux's ptdump, which shares no code with the walker ---- */

struct dumped {
    uint64_t va, gpa, bytes;
    bool writable, user, nx;
};

static struct dumped *dump;
static size_t ndumped;

/* `above` is where the table's range begins, and what the entries that lead to it allow. */
static void dump_table(uint64_t table, unsigned level, unsigned nlevels, const struct dumped *above)
{
    for (uint64_t i = 0; i < 512; i++) {
        uint64_t entry = *entry_at(table, i);
        unsigned shift = 12 + 9 * (level - 1);
        struct dumped here = { .va = above->va + (i << shift),
                               .gpa = entry & 0x000ffffffffff000ull & ~((1ull << shift) - 1),
                               .bytes = 1ull << shift,
                               .writable = above->writable && entry & 2,
                               .user = above->user && entry & 4,
                               .nx = above->nx || entry >> 63 };

        if (level == nlevels && i >= 256)
            here.va |= ~0ull << (12 + 9 * nlevels);
        if (!(entry & 1))
            continue;
        if (level == 1 || entry & 0x80)
            dump[ndumped++] = here;
        else
            dump_table(entry & 0x000ffffffffff000ull, level - 1, nlevels, &here);
    }
}

static const struct dumped *dumped_at(uint64_t va)
{
    for (size_t i = 0; i < ndumped; i++) {
        if (va - dump[i].va < dump[i].bytes)
            return &dump[i];
    }
    return NULL;
}

static uint64_t random_bits(void)
{
    return (uint64_t)random() << 42 ^ (uint64_t)random() << 21 ^ (uint64_t)random();
}

/* Pages of all sizes, in clusters, so that there are neighbours to fold. */
static uint64_t random_tables(unsigned nlevels, unsigned seed)
{
    uint64_t root = new_table(), cluster = 0;

    srandom(seed);
    dump = calloc(4000, sizeof(*dump));
    ndumped = 0;
    for (unsigned i = 0; i < 3000; i++) {
        unsigned level = random() % 16 == 0 ? 2 + (unsigned)random() % 2 : 1;
        uint64_t flags = (random() % 4 ? PAGING_W : 0) | (random() % 4 ? PAGING_U : 0) |
                         (random() % 3 ? 0 : PAGING_NX);
        uint64_t gpa = random() % 8 ? random_bits() % (64 * MIB) : random_bits() % (1ull << 40);

        if (i % 64 == 0)
            cluster = random_bits() & ~(GIB - 1);
        map_at(root, nlevels, cluster + random_bits() % (4 * MIB), level,
               (gpa & ~((1ull << (12 + 9 * (level - 1))) - 1)) | flags);
    }
    dump_table(root, nlevels, nlevels, &(struct dumped){ .writable = true, .user = true });
    ck_assert_uint_gt(ndumped, 1000);
    return root;
}

/* 10,000 addresses, half of them near what is mapped: `walk` and the dump say the same. */
static void compare_walks(unsigned nlevels)
{
    const struct paging_format *format = nlevels == 5 ? &paging_x86_5level : &paging_x86_4level;
    uint64_t root = random_tables(nlevels, nlevels);
    struct paging_reader reader = guest_memory_reader(&memory);
    unsigned mapped = 0;

    read_only(true);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t va = i % 2 ? dump[random_bits() % ndumped].va + random_bits() % 0x3000
                            : random_bits();
        const struct dumped *found;
        struct paging_walk walk;

        if (i % 3 == 0)
            va = (uint64_t)((int64_t)(va << (64 - format->va_bits)) >> (64 - format->va_bits));
        found = dumped_at(va);
        ck_assert_int_eq(paging_walk(format, &reader, root, va, &walk), found ? 0 : -EFAULT);
        if (!found)
            continue;
        mapped++;
        ck_assert_uint_eq(walk.gpa, found->gpa + (va - found->va));
        ck_assert_uint_eq(walk.leaf.page_bytes, found->bytes);
        ck_assert(walk.leaf.writable == found->writable && walk.leaf.user == found->user &&
                  walk.leaf.nx == found->nx);
    }
    read_only(false);
    ck_assert_uint_gt(mapped, 500);
    free(dump);
}

START_TEST(walk_agrees_with_dump)
{
    teardown();
    setup_bytes(64 * MIB);
    compare_walks(_i ? 5 : 4);
}
END_TEST

/* The ranges of `maps` are exactly the dump's pages, in order, and could be no fewer. */
START_TEST(maps_agree_with_dump)
{
    unsigned nlevels = _i ? 5 : 4;
    struct space_cpu cpu;
    struct world w;
    size_t range = 0;
    uint64_t pages = 0;

    teardown();
    setup_bytes(64 * MIB);
    cpu = cpu_with(random_tables(nlevels, 7), _i);
    look(&w, &cpu, 1, 0);
    ck_assert_uint_eq(w.spaces.n, 1);
    ck_assert(w.maps.complete && !w.spaces.bundled);
    for (size_t i = 0; i < ndumped; i++) {
        while (dump[i].va > w.maps.range[range].last)
            range++;
        const struct map_range *r = &w.maps.range[range];

        ck_assert_uint_lt(range, w.maps.n);
        ck_assert(r->first <= dump[i].va && dump[i].va + dump[i].bytes - 1 <= r->last);
        ck_assert_uint_eq(r->page_bytes, dump[i].bytes);
        ck_assert(r->writable == dump[i].writable && r->user == dump[i].user &&
                  r->nx == dump[i].nx);
        if (r->contiguous)
            ck_assert_uint_eq(r->gpa + (dump[i].va - r->first), dump[i].gpa);
    }
    for (size_t i = 0; i < w.maps.n; i++) {
        const struct map_range *r = &w.maps.range[i];

        pages += r->pages;
        ck_assert_uint_eq(r->last - r->first + 1, r->pages * r->page_bytes);
        if (i && r[-1].last + 1 == r->first)
            ck_assert(r[-1].page_bytes != r->page_bytes || r[-1].writable != r->writable ||
                      r[-1].user != r->user || r[-1].nx != r->nx || r[-1].sharing != r->sharing);
    }
    ck_assert_uint_eq(pages, ndumped);
    forget(&w);
    free(dump);
}
END_TEST

/* ---- Two processes -------------------------------------------------------- */

/* A root each for two CPUs: a private, a shared and a COW-looking page, kernel half alike. */
static void two_spaces(struct space_cpu cpus[2])
{
    uint64_t kernel = new_table();

    *entry_at(kernel, 0) = 0x800000 | PAGING_P | PAGING_W | PAGING_PS;
    for (unsigned i = 0; i < 2; i++) {
        uint64_t root = new_table(), upper;

        map_at(root, 4, 0x400000, 1, (0xa00000 + i * 0x1000) | PWU | PAGING_NX);
        map_at(root, 4, 0x401000, 1, 0xa10000 | PAGING_U);
        map_at(root, 4, 0x402000, 1, 0xa11000 | PAGING_U);
        if (i)
            map_at(root, 4, 0x500000, 1, 0xa11000 | PWU | PAGING_NX);
        upper = i ? 0 : new_table();
        *entry_at(root, 256) = i ? (*entry_at(cpus[0].cr3, 256) & ~PAGING_A)
                                 : (upper | PAGING_P | PAGING_W | PAGING_A);
        if (!i)
            *entry_at(upper, 0) = kernel | PAGING_P | PAGING_W;
        cpus[i] = cpu_with(root, false);
    }
}

START_TEST(shared_and_private)
{
    struct frame_totals totals;
    struct shared_list list;
    struct space_cpu cpus[2];
    struct world w;

    two_spaces(cpus);
    look(&w, cpus, 2, 0);
    ck_assert_uint_eq(w.spaces.n, 2);
    ck_assert_uint_eq(w.spaces.space[1].upper_as, 0); /* an accessed bit is no difference */
    /* First space: private, shared x2 folded, kernel; second: the same and one more. */
    ck_assert_uint_eq(w.maps.end[0], 3);
    ck_assert_uint_eq(w.maps.end[1], 6);
    ck_assert_int_eq(w.maps.range[0].sharing, MAPS_PRIVATE);
    ck_assert_int_eq(w.maps.range[1].sharing, MAPS_SHARED);
    ck_assert_uint_eq(w.maps.range[1].pages, 2);
    ck_assert_int_eq(w.maps.range[2].sharing, MAPS_KERNEL);
    ck_assert_uint_eq(w.maps.range[2].first, UPPER);
    ck_assert_uint_eq(w.maps.range[2].page_bytes, 2 * MIB);
    ck_assert_int_eq(w.maps.range[5].sharing, MAPS_SHARED);

    frame_map_total(&w.frames, &w.spaces, &totals);
    ck_assert_uint_eq(totals.ram, 4096);
    ck_assert_uint_eq(totals.mapped_by[1], 2);
    ck_assert_uint_eq(totals.mapped_by[2], 1);
    ck_assert_uint_eq(totals.mapped_by[3], 1);
    ck_assert_uint_eq(totals.kind[FRAME_USER], 4);
    ck_assert_uint_eq(totals.kind[FRAME_TABLE], 10);
    ck_assert_uint_eq(totals.saved_bytes, 3 * 4096);
    ck_assert_uint_eq(w.frames.user_tables, 8);
    ck_assert_uint_eq(w.frames.kernel_tables, 2);

    read_only(true);
    ck_assert_int_eq(shared_list_make(&list, &w.frames, &w.spaces, 2, &w.budget), 0);
    read_only(false);
    ck_assert(list.complete);
    ck_assert_uint_eq(list.n, 2);
    ck_assert_uint_eq(list.run[0].gpa, 0xa10000);
    ck_assert_uint_eq(list.run[0].mappings, 2);
    ck_assert_uint_eq(list.run[1].gpa, 0xa11000);
    ck_assert_uint_eq(list.run[1].mappings, 3);
    ck_assert_uint_eq(list.run[1].sharer[2].space, 1);
    ck_assert_uint_eq(list.run[1].sharer[2].va, 0x500000);
    ck_assert(list.run[1].sharer[2].writable && !list.run[1].sharer[0].writable);
    shared_list_destroy(&list);
    forget(&w);
}
END_TEST

/* The bundled guest's contract, as little of it as there can be, at kernel VA UPPER. */
START_TEST(bundled_guest)
{
    struct abi_kernel *kernel = memory_at(&memory, 0x800000, sizeof(*kernel));
    struct abi_process *process = memory_at(&memory, 0x801000, 2 * sizeof(*process));
    struct abi_frame *frame = memory_at(&memory, 0x802000, 4096 * sizeof(*frame));
    struct frame_totals totals;
    struct space_cpu cpus[2];
    struct world w;

    two_spaces(cpus);
    *kernel = (struct abi_kernel){ .magic = ABI_KERNEL_MAGIC,
                                   .version = ABI_KERNEL_VERSION,
                                   .frames = 0x802000,
                                   .nframes = 4096,
                                   .first_frame = 1,
                                   .processes = 0x801000,
                                   .nprocesses = 2,
                                   .process_stride = sizeof(*process) };
    for (unsigned i = 0; i < 2; i++)
        process[i] = (struct abi_process){
            .pid = 7 + i, .state = ABI_PROCESS_RUNNABLE, .root = cpus[i].cr3, .name = "one\033[2J"
        };
    for (uint64_t at = 0x1000; at < next_table; at += 0x1000)
        frame[at / 4096] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_TABLE };
    frame[0xa00] = frame[0xa01] = (struct abi_frame){ .refs = 1, .kind = ABI_FRAME_USER };
    frame[0xa10] = (struct abi_frame){ .refs = 2, .kind = ABI_FRAME_USER };
    frame[0xa11] = (struct abi_frame){ .refs = 3, .kind = ABI_FRAME_USER };

    look(&w, cpus, 2, UPPER);
    ck_assert(w.spaces.bundled);
    ck_assert_uint_eq(w.spaces.n, 2);
    ck_assert_ptr_eq(spaces_of_pid(&w.spaces, 8), &w.spaces.space[1]);
    ck_assert_ptr_null(spaces_of_pid(&w.spaces, 9));
    ck_assert_str_eq(w.spaces.space[0].name, "one?[2J"); /* no terminal obeys it */
    frame_map_total(&w.frames, &w.spaces, &totals);
    ck_assert_uint_eq(totals.free_but_mapped + totals.table_not_seen + totals.seen_not_table +
                          totals.refs_unlike,
                      0);
    ck_assert_uint_eq(totals.kind[FRAME_USER], 4);
    ck_assert_uint_eq(totals.kind[FRAME_IMAGE], 1);
    ck_assert_uint_eq(totals.kind[FRAME_TABLE], 10);
    forget(&w);

    /* Each lie of the frame table shows. */
    frame[0xa00].kind = ABI_FRAME_FREE;
    frame[0xa11].refs = 2;
    frame[0xb00].kind = ABI_FRAME_TABLE;
    frame[1].kind = ABI_FRAME_KERNEL;
    look(&w, cpus, 2, UPPER);
    frame_map_total(&w.frames, &w.spaces, &totals);
    ck_assert_uint_eq(totals.free_but_mapped, 1);
    ck_assert_uint_eq(totals.refs_unlike, 1);
    ck_assert_uint_eq(totals.table_not_seen, 1);
    ck_assert_uint_eq(totals.seen_not_table, 1);
    forget(&w);

    /* And a block that does not hold together makes it any guest. */
    kernel->nframes = 1ull << 40;
    look(&w, cpus, 2, UPPER);
    ck_assert(!w.spaces.bundled);
    ck_assert_uint_eq(w.spaces.n, 2);
    forget(&w);
}
END_TEST

/* Tables that lead to themselves: the budget ends it, and it says so. */
START_TEST(tables_without_end)
{
    uint64_t root = new_table();
    struct space_cpu cpu = cpu_with(root, false);
    struct world w;

    for (unsigned i = 0; i < 512; i++)
        *entry_at(root, i) = root | PWU;
    look(&w, &cpu, 1, 0);
    ck_assert(!w.maps.complete && !w.frames.complete);
    forget(&w);
}
END_TEST

START_TEST(cpus_without_walkable_paging)
{
    struct space_cpu cpus[3] = { { .cr0 = 0x11 }, { .cr0 = CR0 }, { .cr0 = CR0, .cr4 = CR4 } };
    struct world w;

    look(&w, cpus, 3, UPPER);
    ck_assert_uint_eq(w.spaces.n, 0);
    ck_assert_uint_eq(w.spaces.unpaged_cpus, 1);
    ck_assert_uint_eq(w.spaces.unwalked_cpus, 2);
    ck_assert_uint_eq(w.maps.n, 0);
    forget(&w);
}
END_TEST

/* ---- find ----------------------------------------------------------------- */

/* Against memmem, on bytes so few that nearly everything looks alike. */
START_TEST(find_bytes_is_memmem)
{
    uint8_t hay[3000], pattern[40];

    srandom((unsigned)_i);
    for (unsigned round = 0; round < 300; round++) {
        size_t n = random_bits() % sizeof(hay), bytes = 1 + random_bits() % sizeof(pattern);
        unsigned kinds = 1 + (unsigned)random() % 3;

        for (size_t i = 0; i < n; i++)
            hay[i] = (uint8_t)(random() % 32 ? 0 : (unsigned)random() % kinds);
        for (size_t i = 0; i < bytes; i++)
            pattern[i] = (uint8_t)(random() % 16 ? 0 : (unsigned)random() % kinds);
        if (round % 2 && n > bytes)
            memcpy(hay + random_bits() % (n - bytes), pattern, bytes);
        ck_assert_ptr_eq(find_bytes(hay, n, pattern, bytes), memmem(hay, n, pattern, bytes));
    }
}
END_TEST

static bool at_once(void *owner)
{
    (void)owner;
    return true;
}

START_TEST(find_in_memory)
{
    static const char secret[] = "a secret of some length";
    struct space_cpu cpus[2];
    struct spaces spaces;
    struct find find;
    uint64_t budget = SPACES_BUDGET;

    two_spaces(cpus);
    memcpy(memory_at(&memory, 0xa11010, sizeof(secret)), secret, sizeof(secret));
    /* Across a page border, and up to the very end; the pages between were never touched. */
    memcpy(memory_at(&memory, 0xc00ff8, sizeof(secret)), secret, sizeof(secret));
    memcpy(memory_at(&memory, 16 * MIB - sizeof(secret), sizeof(secret)), secret, sizeof(secret));

    ck_assert_int_eq(find_create(&find, &memory, secret, sizeof(secret)), 0);
    read_only(true);
    find_scan(&find, NULL, NULL);
    read_only(false);
    ck_assert_uint_eq(find.n, 3);
    if (find.untouched_too)
        printf(
            "# SKIP inspect: what was searched: not available here, because pagemap is closed\n");
    else
        ck_assert_uint_lt(find.searched_bytes, MIB);

    /* One is gone by the time somebody looks. */
    memset(memory_at(&memory, 0xc01000, 4), 'x', 4);
    read_only(true);
    find_check(&find);
    ck_assert_uint_eq(find.n, 2);
    spaces_find(&spaces, &memory, cpus, 2, 0);
    ck_assert_int_eq(find_places(&find, &spaces, &budget), 0);
    read_only(false);
    ck_assert_uint_eq(find.hit[0].gpa, 0xa11010);
    ck_assert_uint_eq(find.hit[0].nplaces, 3);
    ck_assert_uint_eq(find.hit[0].place[0].va, 0x402010);
    ck_assert_uint_eq(find.hit[0].place[2].va, 0x500010);
    ck_assert_uint_eq(find.hit[0].place[2].space, 1);
    ck_assert_uint_eq(find.hit[1].nplaces, 0);
    find_destroy(&find);

    ck_assert_int_eq(find_create(&find, &memory, secret, sizeof(secret)), 0);
    find_scan(&find, at_once, NULL);
    ck_assert(find.stopped && !find.n);
    find_destroy(&find);

    /* Found everywhere: it stops, and says so. */
    memset(memory_at(&memory, 0xd00000, MIB), 'z', MIB);
    ck_assert_int_eq(find_create(&find, &memory, "zz", 2), 0);
    find_scan(&find, NULL, NULL);
    ck_assert(find.stopped);
    ck_assert_uint_eq(find.n, FIND_HITS_MAX);
    ck_assert_uint_eq(find.searched_bytes % MEMORY_PAGE_BYTES, FIND_HITS_MAX);
    find_destroy(&find);
    ck_assert_int_eq(find_create(&find, &memory, "", 0), -EINVAL);
}
END_TEST

START_TEST(find_patterns)
{
    char text[2 * FIND_PATTERN_MAX + 8] = "0x";
    uint8_t pattern[FIND_PATTERN_MAX];

    ck_assert_int_eq(find_parse("abc", pattern), 3);
    ck_assert_int_eq(memcmp(pattern, "abc", 3), 0);
    ck_assert_int_eq(find_parse("0x00fFa1", pattern), 3);
    ck_assert_int_eq(memcmp(pattern, "\x00\xff\xa1", 3), 0);
    ck_assert_int_eq(find_parse("0", pattern), 1);
    ck_assert_int_eq(find_parse("", pattern), -EINVAL);
    ck_assert_int_eq(find_parse("0x", pattern), -EINVAL);
    ck_assert_int_eq(find_parse("0x123", pattern), -EINVAL);
    ck_assert_int_eq(find_parse("0x12g4", pattern), -EINVAL);
    memset(text + 2, 'a', 2 * FIND_PATTERN_MAX + 2);
    ck_assert_int_eq(find_parse(text, pattern), -E2BIG);
    ck_assert_int_eq(find_parse(text + 2, pattern), -E2BIG);
}
END_TEST

/* ---- symbols, resident ---------------------------------------------------- */

START_TEST(symbol_table)
{
    static const char names[] = "\0start\0data\0";
    struct {
        Elf64_Ehdr header;
        Elf64_Shdr section[3];
        Elf64_Sym symbol[4];
        char names[sizeof(names) - 1];
    } image = { .header = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64 },
                            .e_shentsize = sizeof(Elf64_Shdr),
                            .e_shnum = 3 } };
    struct symbols symbols;
    uint64_t va, offset;

    image.header.e_shoff = offsetof(__typeof__(image), section);
    image.section[1] = (Elf64_Shdr){ .sh_type = SHT_SYMTAB,
                                     .sh_offset = offsetof(__typeof__(image), symbol),
                                     .sh_size = sizeof(image.symbol),
                                     .sh_link = 2 };
    image.section[2] = (Elf64_Shdr){ .sh_type = SHT_STRTAB,
                                     .sh_offset = offsetof(__typeof__(image), names),
                                     .sh_size = sizeof(image.names) };
    image.symbol[1] = (Elf64_Sym){
        .st_name = 1, .st_info = STT_FUNC, .st_shndx = 1, .st_value = 0x1000, .st_size = 0x20
    };
    image.symbol[2] = (Elf64_Sym){
        .st_name = 7, .st_info = STT_OBJECT, .st_shndx = 1, .st_value = 0x2000, .st_size = 8
    };
    image.symbol[3] = (Elf64_Sym){ .st_name = 9999, .st_info = STT_FUNC, .st_shndx = 1 };
    memcpy(image.names, names, sizeof(image.names));

    ck_assert_int_eq(symbols_open(&symbols, &image, sizeof(image)), 0);
    ck_assert_int_eq(symbols_find(&symbols, "data", &va), 0);
    ck_assert_uint_eq(va, 0x2000);
    ck_assert_int_eq(symbols_find(&symbols, "dat", &va), -ENOENT);
    ck_assert_int_eq(symbols_find(&symbols, "", &va), -ENOENT);
    ck_assert_str_eq(symbols_at(&symbols, 0x101f, &offset), "start");
    ck_assert_uint_eq(offset, 0x1f);
    ck_assert_ptr_null(symbols_at(&symbols, 0x1020, &offset));
    ck_assert_ptr_null(symbols_at(&symbols, 0xfff, &offset));

    /* Cut off anywhere, it is an image without symbols. */
    for (size_t n = 0; n < offsetof(__typeof__(image), names) + sizeof(image.names); n += 7)
        ck_assert_int_eq(symbols_open(&symbols, &image, n), -ENOENT);
    ck_assert_int_eq(symbols_find(&symbols, "data", &va), -ENOENT);
}
END_TEST

START_TEST(resident_memory)
{
    struct resident before, after;

    ck_assert_int_eq(resident_read(&memory, &before), 0);
    memset(memory_at(&memory, 4 * MIB, 2 * MIB), 1, 2 * MIB);
    ck_assert_int_eq(resident_read(&memory, &after), 0);
    ck_assert_uint_eq(after.rss_bytes + after.swap_bytes,
                      before.rss_bytes + before.swap_bytes + 2 * MIB);
    ck_assert_uint_gt(after.table_bytes, 0);
}
END_TEST

Suite *inspect_suite(void)
{
    Suite *suite = suite_create("inspect");
    TCase *tcase = tcase_create("inspect");

    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, walk_agrees_with_dump, 0, 2);
    tcase_add_loop_test(tcase, maps_agree_with_dump, 0, 2);
    tcase_add_test(tcase, shared_and_private);
    tcase_add_test(tcase, bundled_guest);
    tcase_add_test(tcase, tables_without_end);
    tcase_add_test(tcase, cpus_without_walkable_paging);
    tcase_add_loop_test(tcase, find_bytes_is_memmem, 0, 4);
    tcase_add_test(tcase, find_in_memory);
    tcase_add_test(tcase, find_patterns);
    tcase_add_test(tcase, symbol_table);
    tcase_add_test(tcase, resident_memory);
    suite_add_tcase(suite, tcase);
    return suite;
}
