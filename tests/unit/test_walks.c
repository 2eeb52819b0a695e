/* Pointer chains, and how many references a walk takes by the sizes of pages. */
#include <check.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>

#include "guest/measure/chain.h"
#include "tests/unit/suites.h"
#include "vmm/measure/chains.h"
#include "vmm/measure/references.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* ---- Chains -------------------------------------------------------------------- */

#define SETS_MAX 8192

static int by_count(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* How many lines of n places each set of a cache gets, in order of that number. */
static void occupancy(uint64_t n, unsigned sets, uint64_t (*place)(uint64_t i, uint64_t n),
                      int count[SETS_MAX])
{
    memset(count, 0, SETS_MAX * sizeof(*count));
    for (uint64_t i = 0; i < n; i++)
        count[place(i, n) / 64 % sets]++;
    qsort(count, sets, sizeof(*count), by_count);
}

static uint64_t spread(uint64_t i, uint64_t n)
{
    return chain_place(i, n, false);
}

static uint64_t packed(uint64_t i, uint64_t n)
{
    return chain_place(i, n, true);
}

/* What one would do first: the place goes up with each page. */
static uint64_t staggered(uint64_t i, uint64_t n)
{
    (void)n;
    return i * CHAIN_PAGE_BYTES + i % CHAIN_IN_PAGE * CHAIN_NODE_BYTES;
}

static uint64_t aligned(uint64_t i, uint64_t n)
{
    (void)n;
    return i * CHAIN_PAGE_BYTES;
}

/* Every set of every cache gets as many lines of the one chain as of the other. */
START_TEST(same_footprint)
{
    static int one[SETS_MAX], other[SETS_MAX];
    bool staggered_differs = false, aligned_differs = false;

    for (uint64_t n = 16; n <= GIB / CHAIN_PAGE_BYTES; n *= 2) {
        for (unsigned sets = 32; sets <= SETS_MAX; sets *= 2) {
            occupancy(n, sets, packed, one);
            occupancy(n, sets, spread, other);
            ck_assert_mem_eq(one, other, sets * sizeof(one[0]));
            occupancy(n, sets, staggered, other);
            staggered_differs |= memcmp(one, other, sets * sizeof(one[0])) != 0;
            occupancy(n, sets, aligned, other);
            aligned_differs |= memcmp(one, other, sets * sizeof(one[0])) != 0;
        }
    }
    /* The control: this test can fail, and would for what is simpler. */
    ck_assert(staggered_differs);
    ck_assert(aligned_differs);
}
END_TEST

START_TEST(places)
{
    for (uint64_t n = 1; n <= 4096; n *= 2) {
        for (uint64_t i = 0; i < n; i++) {
            ck_assert_uint_eq(spread(i, n) / CHAIN_PAGE_BYTES, i);
            ck_assert_uint_eq(spread(i, n) % CHAIN_NODE_BYTES, 0);
            ck_assert_uint_le(spread(i, n) + CHAIN_NODE_BYTES, chain_bytes(n, false));
            ck_assert_uint_le(packed(i, n) + CHAIN_NODE_BYTES, chain_bytes(n, true));
        }
    }
}
END_TEST

#define NODES 4096

/* The order of the pages that a chain visits; how long until it is back. */
static unsigned follow(uint64_t start, unsigned command[NODES])
{
    uint64_t at = start;
    unsigned n = 0;

    do {
        command[n++] = (unsigned)((at - start) / CHAIN_PAGE_BYTES);
        at = *(uint64_t *)at;
    } while (at != start && n < NODES);
    return at == start ? n : 0;
}

/*
 * Whether an order of all pages looks random: runs up and down are of the number that chance
 * gives (Wald and Wolfowitz 1940: (2n - 1) / 3, variance (16n - 29) / 90), within 5 of its
 * deviations; neighbours follow each other about twice (Poisson), and the
 * bits of the steps say nothing.
 */
static bool looks_random(const unsigned command[NODES])
{
    double runs = 1, expected = (2.0 * NODES - 1) / 3, deviation = (16.0 * NODES - 29) / 90;
    unsigned neighbours = 0, odd = 0;

    for (unsigned i = 1; i < NODES; i++) {
        int step = (int)command[i] - (int)command[i - 1];

        neighbours += step == 1 || step == -1;
        odd += step & 1;
        if (i > 1)
            runs += (step > 0) != (command[i - 1] > command[i - 2]);
    }
    return (runs - expected) * (runs - expected) < 25 * deviation && neighbours < 15 &&
           odd > NODES / 2 - 200 && odd < NODES / 2 + 200;
}

START_TEST(random_cycle)
{
    static unsigned command[NODES], again[NODES];
    static bool seen[NODES];
    struct chain_place place = { .bytes = NODES * CHAIN_PAGE_BYTES,
                                 .packed_bytes = NODES * CHAIN_NODE_BYTES };

    ck_assert_int_eq(chain_map(&place, ABI_PAGE_4K, place.bytes, &place.spread), 0);
    ck_assert_int_eq(chain_map(&place, ABI_PAGE_4K, place.packed_bytes, &place.packed), 0);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        ck_assert_int_eq(chain_make(&place, place.bytes, seed), 0);
        ck_assert_uint_eq(follow(place.spread, again), NODES);
        ck_assert(looks_random(again));
        ck_assert_mem_ne(command, again, sizeof(command));
        memcpy(command, again, sizeof(command));
    }
    memset(seen, 0, sizeof(seen));
    for (unsigned i = 0; i < NODES; i++) {
        ck_assert(!seen[command[i]]);
        seen[command[i]] = true;
    }
    /* The same seed gives the same order. */
    ck_assert_int_eq(chain_make(&place, place.bytes, 20), 0);
    ck_assert_uint_eq(follow(place.spread, again), NODES);
    ck_assert_mem_eq(command, again, sizeof(command));
    /* And what is not random does not look so: in order, and by a fixed step. */
    for (unsigned i = 0; i < NODES; i++)
        command[i] = i, again[i] = i * 1663 % NODES;
    ck_assert(!looks_random(command));
    ck_assert(!looks_random(again));
}
END_TEST

START_TEST(chain_orders)
{
    struct chain_place place = { .bytes = MIB, .packed_bytes = 64 << 10 };
    static struct chain_series series;
    struct abi_command command = {
        .kind = ABI_COMMAND_CHAIN_MAKE, .bytes = MIB, .count = 3, .seed = 1
    };
    struct abi_reply reply;

    ck_assert_int_eq(chain_map(&place, ABI_PAGE_4K, MIB, &place.spread), 0);
    ck_assert_int_eq(chain_map(&place, ABI_PAGE_4K, 64 << 10, &place.packed), 0);
    command.va = place.spread;
    ck_assert_int_lt(chain_order(&place, &command, &reply), 0);
    command.count = 512;
    ck_assert_int_lt(chain_order(&place, &command, &reply), 0);
    command.count = 256;
    command.seed = 0;
    ck_assert_int_lt(chain_order(&place, &command, &reply), 0);
    command.seed = 1;
    ck_assert_int_eq(chain_order(&place, &command, &reply), 0);
    ck_assert_int_eq(chain_make(&place, MIB, 7), 0);
    for (unsigned i = 0; i < CHAIN_SAMPLES + 2; i++)
        ck_assert_int_eq(chain_follow(&place, MIB, 1, &series), 0);
    ck_assert_uint_eq(series.n, CHAIN_SAMPLES);
    ck_assert_double_gt(series.spread[0], 0);
    /* A chain that someone else has changed. */
    *(uint64_t *)place.spread = place.spread + 2 * CHAIN_PAGE_BYTES;
    *(uint64_t *)(place.spread + 2 * CHAIN_PAGE_BYTES) = place.spread + 2 * CHAIN_PAGE_BYTES;
    ck_assert_int_eq(chain_follow(&place, MIB, 1, &series), -EIO);
}
END_TEST

/* ---- References ------------------------------------------------------------------ */

#define P4K 4096ull
#define P2M (2 * MIB)

START_TEST(numbers)
{
    const uint64_t small[5] = { P4K, P4K, P4K, P4K, P4K }, large[5] = { P2M, P2M, P2M, P2M, P2M };
    const uint64_t giant[5] = { GIB, GIB, GIB, GIB, GIB }, mixed[4] = { P2M, P4K, P2M, GIB };

    ck_assert_uint_eq(references_down_to(4, P4K), 4);
    ck_assert_uint_eq(references_down_to(4, P2M), 3);
    ck_assert_uint_eq(references_down_to(4, GIB), 2);
    ck_assert_uint_eq(references_nested(small, 4, P4K, 4), 24);
    ck_assert_uint_eq(references_nested(large, 4, P2M, 4), 19);
    ck_assert_uint_eq(references_nested(large, 3, P2M, 4), 15);
    ck_assert_uint_eq(references_nested(giant, 2, GIB, 4), 8);
    ck_assert_uint_eq(references_nested(small, 4, P4K, 5), 29);
    ck_assert_uint_eq(references_nested(small, 5, P4K, 5), 35);
    ck_assert_uint_eq(references_nested(mixed, 4, P4K, 4), 4 + 5 + 4 + 3 + 4);
}
END_TEST

/* Of hugetlb memory the size is known without looking: what KVM makes of it. */
START_TEST(alignment)
{
    struct kvm_host host = { .fd = -1, .backend = KVM_BACKEND_NPT };
    struct memory memory = { .vm_fd = -1, .backing = MEMORY_HUGETLB_1G, .nslots = 4 };
    static struct references references;

    /* Addresses where nothing is. */
    memory.slots[0] = (struct memory_slot){ .gpa = 0,
                                            .bytes = 2 * GIB,
                                            .hva = (void *)(1024 * GIB) };
    memory.slots[1] = (struct memory_slot){ .gpa = 4 * GIB,
                                            .bytes = GIB,
                                            .hva = (void *)(2048 * GIB + P2M) };
    memory.slots[2] = (struct memory_slot){ .gpa = 8 * GIB,
                                            .bytes = GIB,
                                            .hva = (void *)(3072 * GIB + P4K) };
    memory.slots[3] = (struct memory_slot){
        .gpa = 16 * GIB, .bytes = GIB, .hva = (void *)(4096 * GIB), .flags = KVM_MEM_LOG_DIRTY_PAGES
    };
    references_open(&references, &host, &memory);
    ck_assert_uint_eq(references_second_stage_page(&references, 0), GIB);
    ck_assert_uint_eq(references_second_stage_page(&references, 2 * GIB - 1), GIB);
    ck_assert_uint_eq(references_second_stage_page(&references, 2 * GIB), 0);
    ck_assert_uint_eq(references_second_stage_page(&references, 4 * GIB + 5), P2M);
    ck_assert_uint_eq(references_second_stage_page(&references, 8 * GIB + 5), P4K);
    ck_assert_uint_eq(references_second_stage_page(&references, 16 * GIB), P4K);
    /* A slot that ends within what would be one page. */
    memory.slots[0].bytes = GIB + P2M + P4K;
    ck_assert_uint_eq(references_second_stage_page(&references, GIB), P2M);
    ck_assert_uint_eq(references_second_stage_page(&references, GIB + P2M), P4K);
    memory.backing = MEMORY_THP;
    references_forget(&references);
    ck_assert_uint_eq(references_second_stage_page(&references, 0), 0);
    ck_assert_ptr_nonnull(references.unknown);
    references_close(&references);
}
END_TEST

/* This process: 4K pages, and where the host gives them 2M. */
START_TEST(of_this_process)
{
    struct kvm_host host = { .fd = -1, .backend = KVM_BACKEND_SOFTWARE };
    struct chain_place place = { .bytes = 4 * MIB };
    static struct references references;
    struct reference_range range;
    unsigned levels = references_host_levels();
    int err;

    ck_assert(levels == 4 || levels == 5);
    references_open(&references, &host, NULL);
    ck_assert_int_eq(chain_map(&place, ABI_PAGE_4K, 4 * MIB, &place.spread), 0);
    err = references_of_process(&references, (void *)place.spread, 4 * MIB, &range);
    if (err == -ENODATA) {
        ck_assert_ptr_nonnull(references.unknown); /* not root */
    } else {
        ck_assert_int_eq(err, 0);
        ck_assert_uint_eq(range.pages, 1024);
        ck_assert_uint_eq(range.least, levels);
        ck_assert_uint_eq(range.most, levels);
        ck_assert_double_eq(range.mean, levels);
    }
    references_close(&references);
}
END_TEST

/* A machine's: what is forced on the host's side is what is found. */
START_TEST(of_a_guest)
{
    static const enum memory_backing backings[] = { MEMORY_4K, MEMORY_THP };
    const struct session_params params = { .memory_bytes = 128 * MIB,
                                           .cpus = 1,
                                           .backing = backings[_i] };
    static struct references references;
    static struct session session;
    struct chain_place place = { .session = &session };
    struct reference_range range[2];
    struct kvm_host host;
    char error[256];
    bool nested;

    ck_assert_int_eq(kvm_open(&host), 0);
    nested = host.backend <= KVM_BACKEND_NPT;
    ck_assert_msg(session_open(&session, &host, &params, error, sizeof(error)) == 0, "%s", error);
    references_open(&references, &host, &session.machine.vm.memory);
    for (unsigned page = ABI_PAGE_4K; page <= ABI_PAGE_2M; page++) {
        uint64_t va;
        int err;

        ck_assert_int_eq(chain_map(&place, page, 4 * MIB, &va), 0);
        err = references_of_guest(&references, &session, va, 4 * MIB, &range[page]);
        ck_assert_msg(err == 0 || (err == -ENODATA && references.unknown), "%d", err);
        if (err)
            goto close;
        ck_assert_uint_eq(range[page].pages, 1024);
    }
    if (backings[_i] == MEMORY_4K) {
        ck_assert_uint_eq(range[0].least, nested ? 24 : 4);
        ck_assert_uint_eq(range[0].most, nested ? 24 : 4);
        ck_assert_uint_eq(range[1].most, nested ? 19 : 4);
    } else {
        /* As far as the host found large pages. */
        ck_assert_uint_ge(range[0].least, nested ? 19 : 4);
        ck_assert_uint_ge(range[1].least, nested ? 15 : 3);
    }
    ck_assert_int_eq(references_of_guest(&references, &session, 0x1000, 4096, &range[0]), -EFAULT);
close:
    references_close(&references);
    session_close(&session);
    kvm_close(&host);
}
END_TEST

Suite *walks_suite(void)
{
    Suite *suite = suite_create("walks");
    TCase *chains = tcase_create("chains"), *count = tcase_create("references");
    TCase *guest = tcase_create("references of a guest");

    tcase_set_timeout(chains, 60);
    tcase_add_test(chains, same_footprint);
    tcase_add_test(chains, places);
    tcase_add_test(chains, random_cycle);
    tcase_add_test(chains, chain_orders);
    suite_add_tcase(suite, chains);
    tcase_set_timeout(count, 60);
    tcase_add_test(count, numbers);
    tcase_add_test(count, alignment);
    tcase_add_test(count, of_this_process);
    suite_add_tcase(suite, count);
    tcase_set_tags(guest, NEEDS_KVM);
    tcase_set_timeout(guest, 60);
    tcase_add_loop_test(guest, of_a_guest, 0, 2);
    suite_add_tcase(suite, guest);
    return suite;
}
