/*
 * devices/iommu against a model that is too simple to be wrong: an array with an entry
 * for each page of a small address space, and a copy of all RAM. A million random steps.
 * STRATA_SEED=… repeats a run.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "devices/iommu/dma.h"
#include "tests/unit/suites.h"
#include "vmm/machine/memory.h"

#define PAGE  4096ull
#define STEPS 100000
#define RUNS  10

/* 6 MiB around an address where tables of all levels change. */
#define INPUT_LAST  ((1ull << 48) - 1) /* where the configuration says nothing */
#define BASE        ((1ull << 39) - (2ull << 20))
#define NPAGES      1536u

#define RAM_PAGES   2048u /* enough for aligned 2M targets */
#define ENDPOINTS   4u
#define DOMAINS     4u
#define DOMAINS_MAX 3u
#define QUOTA       14u
#define TOTAL       20u
#define FAULTS_MAX  6u

/* The last endpoint's own reserved region, in pages. */
#define RESERVED_FIRST 700u
#define RESERVED_LAST  703u

struct page {
    unsigned gpa; /* page of RAM */
    unsigned prot;
    unsigned first, last; /* of its mapping */
    bool mapped;
};

struct model_domain {
    bool exists, bypass;
    unsigned mappings;
    struct page page[NPAGES];
};

static struct {
    struct memory memory;
    struct iommu *iommu;
    struct dma dma[ENDPOINTS];
    struct dma_window window[ENDPOINTS];
    uint64_t used[ENDPOINTS]; /* an address it had something at, maybe */
    uint8_t *ram;

    /* The model. */
    struct model_domain domain[DOMAINS];
    int attached[ENDPOINTS]; /* domain, or -1 */
    bool bypass;
    uint8_t copy[RAM_PAGES * PAGE];
    struct iommu_fault fault[FAULTS_MAX];
    unsigned nfaults;
    uint64_t faults, dropped;
} t;

static uint64_t rng, seed;
static unsigned step;

/* xorshift64*: the same steps from the same seed everywhere. */
static uint64_t rnd(uint64_t below)
{
    rng ^= rng >> 12;
    rng ^= rng << 25;
    rng ^= rng >> 27;
    return (rng * 2685821657736338717ull >> 11) % below;
}

static bool one_in(unsigned n)
{
    return rnd(n) == 0;
}

#define AGREE(got, want, what)                                      \
    do {                                                            \
        int64_t got_ = (int64_t)(got), want_ = (int64_t)(want);     \
        if (got_ != want_)                                          \
            ck_abort_msg("%s: %" PRId64 ", the model says %" PRId64 \
                         "; step %u of STRATA_SEED=%#" PRIx64,      \
                         what, got_, want_, step, seed);            \
    } while (0)

static void setup(int run)
{
    static const struct iommu_config config = {
        .domains = { 0, DOMAINS - 1 },
        .domains_max = DOMAINS_MAX,
        .mappings_max = TOTAL,
        .mappings_of_domain_max = QUOTA,
        .faults_max = FAULTS_MAX,
    };
    static const struct iommu_reserved own = {
        .range = { BASE + RESERVED_FIRST * PAGE, BASE + RESERVED_LAST * PAGE + PAGE - 1 }
    };
    const char *given = getenv("STRATA_SEED");

    seed = given ? strtoull(given, NULL, 0)
                 : (((uint64_t)time(NULL) << 20 ^ (uint64_t)getpid() << 4) + (unsigned)run) *
                           0x9e3779b97f4a7c15ull |
                       1;
    rng = seed;
    printf("# iommu model: STRATA_SEED=%#" PRIx64 "\n", seed);
    fflush(stdout);

    memset(&t, 0, sizeof(t));
    ck_assert_int_eq(memory_create(&t.memory, -1, RAM_PAGES * PAGE, MEMORY_4K), 0);
    ck_assert_int_eq(iommu_create(&t.iommu, &t.memory, &config), 0);
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        ck_assert_int_eq(dma_create(&t.dma[i], &t.memory, t.iommu, i + 10), 0);
        t.attached[i] = -1;
    }
    ck_assert_int_eq(iommu_add_reserved(t.iommu, ENDPOINTS - 1 + 10, &own), 0);
    t.ram = memory_at(&t.memory, 0, RAM_PAGES * PAGE);
    for (size_t i = 0; i < sizeof(t.copy); i += 8) {
        uint64_t value = i * 0x9e3779b97f4a7c15ull;

        memcpy(t.copy + i, &value, sizeof(value));
    }
    memcpy(t.ram, t.copy, sizeof(t.copy));
}

static void teardown(void)
{
    for (unsigned i = 0; i < ENDPOINTS; i++)
        dma_destroy(&t.dma[i]);
    iommu_destroy(t.iommu);
    memory_destroy(&t.memory);
}

/* Attaching and detaching. */

static unsigned endpoints_of(int domain)
{
    unsigned n = 0;

    for (unsigned i = 0; i < ENDPOINTS; i++)
        n += t.attached[i] == domain;
    return n;
}

static unsigned domains(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < DOMAINS; i++)
        n += t.domain[i].exists;
    return n;
}

static unsigned mappings(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < DOMAINS; i++)
        n += t.domain[i].mappings;
    return n;
}

static void model_leave(unsigned endpoint)
{
    int left = t.attached[endpoint];

    t.attached[endpoint] = -1;
    if (left >= 0 && !endpoints_of(left))
        memset(&t.domain[left], 0, sizeof(t.domain[left]));
}

static int model_attach(unsigned endpoint, unsigned id, bool bypass)
{
    struct model_domain *domain = &t.domain[id % DOMAINS];
    int left;

    if (endpoint >= ENDPOINTS)
        return -ENOENT;
    if (id >= DOMAINS)
        return -ERANGE;
    if (domain->exists && domain->bypass != bypass)
        return -EINVAL;
    if (t.attached[endpoint] == (int)id)
        return 0;
    if (domain->exists && endpoint == ENDPOINTS - 1) {
        for (unsigned i = RESERVED_FIRST; i <= RESERVED_LAST; i++)
            if (domain->page[i].mapped)
                return -EOPNOTSUPP;
    }
    if (!domain->exists) {
        if (domains() == DOMAINS_MAX)
            return -ENOMEM;
        domain->exists = true;
        domain->bypass = bypass;
    }
    left = t.attached[endpoint];
    t.attached[endpoint] = (int)id;
    if (left >= 0 && !endpoints_of(left))
        memset(&t.domain[left], 0, sizeof(t.domain[left]));
    return 0;
}

static void step_attach(void)
{
    unsigned endpoint = (unsigned)rnd(one_in(20) ? ENDPOINTS + 1 : ENDPOINTS);
    unsigned id = one_in(50) ? DOMAINS : (unsigned)rnd(DOMAINS);
    bool bypass = one_in(8);

    AGREE(iommu_attach(t.iommu, endpoint + 10, id, bypass), model_attach(endpoint, id, bypass),
          "attach");
}

static void step_detach(void)
{
    unsigned endpoint = (unsigned)rnd(ENDPOINTS), id = (unsigned)rnd(DOMAINS);
    int want = t.attached[endpoint] == (int)id ? 0 : -EINVAL;

    AGREE(iommu_detach(t.iommu, endpoint + 10, id), want, "detach");
    if (!want)
        model_leave(endpoint);
}

/* Mapping and unmapping. */

static bool reserved(unsigned id, unsigned first, unsigned last)
{
    return t.attached[ENDPOINTS - 1] == (int)id && first <= RESERVED_LAST && last >= RESERVED_FIRST;
}

/* Pages [first, last] of the address space to RAM from gpa on, all aligned. */
static int model_map(unsigned id, unsigned first, unsigned last, unsigned gpa, unsigned prot)
{
    struct model_domain *domain = &t.domain[id];

    if (!domain->exists)
        return -ENOENT;
    if (domain->bypass || first > last || prot > 7)
        return -EINVAL;
    if (reserved(id, first, last) || gpa + (last - first) >= RAM_PAGES)
        return -EINVAL;
    for (unsigned i = first; i <= last; i++)
        if (domain->page[i].mapped)
            return -EINVAL;
    if (mappings() == TOTAL || domain->mappings == QUOTA)
        return -ENOMEM;
    for (unsigned i = first; i <= last; i++)
        domain->page[i] = (struct page){ gpa + (i - first), prot, first, last, true };
    domain->mappings++;
    return 0;
}

static void step_map(void)
{
    unsigned id = (unsigned)rnd(DOMAINS), first = (unsigned)rnd(NPAGES), pages, gpa;
    unsigned prot = one_in(4) ? (unsigned)rnd(9) : IOMMU_READ | IOMMU_WRITE;
    uint64_t iova, end;

    pages = 1 + (unsigned)rnd(one_in(4) ? 100 : 4);
    gpa = (unsigned)rnd(RAM_PAGES);
    if (one_in(12)) { /* where large leaves fit */
        first = first / 512 * 512;
        gpa = gpa / 512 * 512;
        pages = 512u + (one_in(2) ? (unsigned)rnd(512) : 0);
        if (one_in(2))
            first += (unsigned)rnd(3);
    }
    if (pages > NPAGES - first)
        pages = NPAGES - first;
    iova = BASE + first * PAGE;
    end = iova + pages * PAGE - 1;

    switch (rnd(40)) {
    case 0: /* not whole pages */
        AGREE(iommu_map(t.iommu, id, iova + 8, end, gpa * PAGE, prot & 7),
              !t.domain[id].exists || t.domain[id].bypass ? model_map(id, first, first, gpa, 3)
                                                          : -ERANGE,
              "map, first misaligned");
        return;
    case 1:
        AGREE(iommu_map(t.iommu, id, iova, end - 1, gpa * PAGE, prot & 7),
              !t.domain[id].exists || t.domain[id].bypass ? model_map(id, first, first, gpa, 3)
                                                          : -ERANGE,
              "map, last misaligned");
        return;
    case 2:
        AGREE(iommu_map(t.iommu, id, end + 1, iova + PAGE - 1, gpa * PAGE, 3),
              t.domain[id].exists ? -EINVAL : -ENOENT, "map, last before first");
        return;
    case 3: /* a target that wraps around */
        AGREE(iommu_map(t.iommu, id, iova, iova + 2 * PAGE - 1, UINT64_MAX - PAGE + 1, 3),
              t.domain[id].exists ? -EINVAL : -ENOENT, "map, target wraps");
        return;
    }
    AGREE(iommu_map(t.iommu, id, iova, end, gpa * PAGE, prot),
          model_map(id, first, first + pages - 1, gpa, prot), "map");
}

/* Bytes [from, to] of the address space. */
static int model_unmap(unsigned id, uint64_t from, uint64_t to)
{
    struct model_domain *domain = &t.domain[id];
    unsigned first = (unsigned)(from / PAGE), last = (unsigned)(to / PAGE);

    if (!domain->exists)
        return -ENOENT;
    if (domain->bypass || from > to)
        return -EINVAL;
    for (unsigned i = first; i <= last; i++) {
        const struct page *page = &domain->page[i];

        if (page->mapped && (page->first * PAGE < from || page->last * PAGE + PAGE - 1 > to))
            return -ERANGE;
    }
    for (unsigned i = first; i <= last; i++) {
        domain->mappings -= domain->page[i].mapped && domain->page[i].first == i;
        domain->page[i] = (struct page){ 0 };
    }
    return 0;
}

static void step_unmap(void)
{
    unsigned id = (unsigned)rnd(DOMAINS), first = (unsigned)rnd(NPAGES), last;
    const struct page *page = &t.domain[id].page[first];
    uint64_t from, to;

    if (one_in(30)) { /* all there is, empty space up to the last address included */
        AGREE(iommu_unmap(t.iommu, id, 0, UINT64_MAX), model_unmap(id, 0, NPAGES * PAGE - 1),
              "unmap of everything");
        return;
    }
    last = first + (unsigned)rnd(one_in(6) ? NPAGES : 40);
    if (page->mapped && !one_in(4)) { /* a mapping as it is */
        first = page->first;
        last = page->last;
    }
    if (last >= NPAGES)
        last = NPAGES - 1;
    from = first * PAGE;
    to = last * PAGE + PAGE - 1;
    if (one_in(30))
        from += 1 + rnd(PAGE - 1);
    if (one_in(30))
        to -= 1 + rnd(PAGE - 1);
    AGREE(iommu_unmap(t.iommu, id, BASE + from, BASE + to), model_unmap(id, from, to), "unmap");
}

/* Access. */

/* RAM offset of a byte for an endpoint; -1: a fault. `iova` counts from BASE, or is absolute. */
static int64_t model_reach(unsigned endpoint, uint64_t iova, uint32_t need,
                           enum iommu_fault_code *code)
{
    int id = t.attached[endpoint];
    const struct page *page;

    *code = IOMMU_FAULT_TARGET;
    if (id < 0 && !t.bypass) {
        *code = IOMMU_FAULT_NO_DOMAIN;
        return -1;
    }
    if (id < 0 || t.domain[id].bypass)
        return iova < RAM_PAGES * PAGE ? (int64_t)iova : -1;
    *code = iova > INPUT_LAST ? IOMMU_FAULT_ADDRESS_WIDTH : IOMMU_FAULT_NOT_MAPPED;
    if (iova < BASE || iova >= BASE + NPAGES * PAGE)
        return -1;
    page = &t.domain[id].page[(iova - BASE) / PAGE];
    if (!page->mapped)
        return -1;
    *code = IOMMU_FAULT_PERMISSION;
    if (need & ~page->prot)
        return -1;
    return (int64_t)(page->gpa * PAGE + iova % PAGE);
}

static void model_fault(unsigned endpoint, uint64_t iova, uint32_t need, enum iommu_fault_code code)
{
    t.faults++;
    if (t.nfaults == FAULTS_MAX)
        t.dropped++;
    else
        t.fault[t.nfaults++] = (struct iommu_fault){ code, need, endpoint + 10, 0, iova };
}

/* An address that means something to the endpoint more often than not, or did before. */
static uint64_t some_iova(unsigned endpoint)
{
    int id = t.attached[endpoint];

    if (one_in(3))
        return t.used[endpoint] + rnd(64);
    if ((id < 0 && t.bypass) || (id >= 0 && t.domain[id].bypass))
        return rnd(RAM_PAGES * PAGE);
    for (unsigned i = 0; id >= 0 && i < 8; i++) {
        uint64_t offset = rnd(NPAGES * PAGE);

        if (t.domain[id].page[offset / PAGE].mapped)
            return t.used[endpoint] = BASE + offset;
    }
    return one_in(3) ? rnd(UINT64_MAX) : BASE + rnd(NPAGES * PAGE);
}

static void step_translate(void)
{
    unsigned endpoint = (unsigned)rnd(ENDPOINTS), max = 1 + (unsigned)rnd(4);
    enum dma_direction direction = one_in(2) ? DMA_READ : DMA_WRITE;
    uint64_t iova = some_iova(endpoint), len = 1 + rnd(one_in(10) ? 3 * PAGE : 64);
    struct dma *dma = &t.dma[endpoint];
    enum iommu_fault_code code;
    struct iovec piece[4], want[4];
    int got, expected = 0;

    if (one_in(200))
        len = 0;
    if (!len || iova + (len - 1) < iova)
        expected = -EINVAL;
    for (uint64_t at = 0; expected >= 0 && at < len;) {
        int64_t offset = model_reach(endpoint, iova + at, direction, &code);
        uint64_t bytes = PAGE - (iova + at) % PAGE;

        if (bytes > len - at)
            bytes = len - at;
        if (offset < 0) {
            model_fault(endpoint, iova + at, direction, code);
            expected = -EFAULT;
        } else if (expected &&
                   (uint8_t *)want[expected - 1].iov_base + want[expected - 1].iov_len ==
                       t.ram + offset) {
            want[expected - 1].iov_len += bytes;
        } else if (expected == (int)max) {
            expected = -E2BIG;
        } else {
            want[expected++] = (struct iovec){ t.ram + offset, bytes };
        }
        at += bytes;
    }
    dma_lock(dma);
    got = dma_translate(dma, iova, len, direction, piece, max);
    dma_unlock(dma);
    AGREE(got, expected, "translate");
    for (int i = 0; i < expected; i++) {
        AGREE((uintptr_t)piece[i].iov_base, (uintptr_t)want[i].iov_base, "translate: host address");
        AGREE(piece[i].iov_len, want[i].iov_len, "translate: length");
    }
}

static void step_copy(void)
{
    static uint8_t data[3 * PAGE], want[3 * PAGE];
    unsigned endpoint = (unsigned)rnd(ENDPOINTS);
    enum dma_direction direction = one_in(2) ? DMA_READ : DMA_WRITE;
    uint64_t iova = some_iova(endpoint), len = 1 + rnd(one_in(10) ? sizeof(data) : 64), at;
    struct dma *dma = &t.dma[endpoint];
    enum iommu_fault_code code;
    int got, expected = iova + (len - 1) < iova ? -EINVAL : 0;

    for (at = 0; !expected && at < len; at++) {
        int64_t offset = model_reach(endpoint, iova + at, direction, &code);

        if (offset < 0) {
            model_fault(endpoint, iova + at, direction, code);
            expected = -EFAULT;
        } else {
            want[at] = t.copy[offset];
        }
    }
    if (direction == DMA_WRITE)
        memset(data, (int)rnd(256), len);
    for (at = 0; !expected && direction == DMA_WRITE && at < len; at++)
        t.copy[model_reach(endpoint, iova + at, direction, &code)] = data[at];

    dma_lock(dma);
    got = direction == DMA_READ ? dma_read(dma, iova, data, len) : dma_write(dma, iova, data, len);
    dma_unlock(dma);
    AGREE(got, expected, direction == DMA_READ ? "read" : "write");
    if (!expected && direction == DMA_READ)
        AGREE(memcmp(data, want, len), 0, "read: the bytes");
}

/* A ring that a device uses again and again; seldom another. */
static void step_window(void)
{
    unsigned endpoint = (unsigned)rnd(ENDPOINTS);
    struct dma *dma = &t.dma[endpoint];
    struct dma_window *window = &t.window[endpoint];
    enum iommu_fault_code code;
    uint64_t iova = window->iova, len = 16;
    int64_t offset;
    bool fault;
    void *got;

    if (!iova || one_in(16))
        iova = some_iova(endpoint) & ~15ull;
    offset = model_reach(endpoint, iova, DMA_READ, &code);
    if (offset < 0)
        model_fault(endpoint, iova, DMA_READ, code);
    dma_lock(dma);
    got = dma_window(dma, window, iova, len, DMA_READ, &fault);
    dma_unlock(dma);
    AGREE((uintptr_t)got, offset < 0 ? 0 : (uintptr_t)(t.ram + offset), "window");
    AGREE(fault, offset < 0, "window: fault");
    window->iova = iova;
}

static void step_fault(void)
{
    struct iommu_fault fault;
    bool got = iommu_next_fault(t.iommu, &fault);

    AGREE(got, t.nfaults > 0, "a fault record");
    if (!got)
        return;
    AGREE(fault.code, t.fault[0].code, "fault: code");
    AGREE(fault.detail, 0, "fault: detail");
    AGREE(fault.access, t.fault[0].access, "fault: access");
    AGREE(fault.endpoint, t.fault[0].endpoint, "fault: endpoint");
    AGREE(fault.iova, t.fault[0].iova, "fault: address");
    memmove(t.fault, t.fault + 1, --t.nfaults * sizeof(t.fault[0]));
}

static void step_reset(void)
{
    bool bypass_too = one_in(2);

    iommu_reset(t.iommu, bypass_too);
    for (unsigned i = 0; i < ENDPOINTS; i++)
        model_leave(i);
    if (bypass_too)
        t.bypass = false;
    t.nfaults = 0;
}

/* Everything at once. */

struct audit {
    const struct model_domain *domain;
    unsigned seen;
};

static void see(void *owner, const struct iommu_mapping *mapping)
{
    struct iommu_range iova = mapping->iova;
    struct audit *audit = owner;
    const struct page *page = &audit->domain->page[(iova.first - BASE) / PAGE];

    AGREE(page->mapped, true, "a mapping");
    AGREE(page->first, (iova.first - BASE) / PAGE, "a mapping: first");
    AGREE(page->last, (iova.last - BASE) / PAGE, "a mapping: last");
    AGREE(page->gpa, mapping->gpa / PAGE, "a mapping: target");
    AGREE(page->prot, mapping->prot, "a mapping: prot");
    audit->seen++;
}

static void check_all(void)
{
    static bool pinned[RAM_PAGES];
    struct iommu_counts counts;
    unsigned npinned = 0;

    memset(pinned, 0, sizeof(pinned));
    for (unsigned id = 0; id < DOMAINS; id++) {
        for (unsigned i = 0; i < NPAGES; i++)
            if (t.domain[id].page[i].mapped)
                pinned[t.domain[id].page[i].gpa] = true;
    }
    for (unsigned i = 0; i < RAM_PAGES; i++) {
        npinned += pinned[i];
        AGREE(iommu_pinned(t.iommu, i * PAGE + 100, 1), pinned[i], "pinned");
    }
    iommu_count(t.iommu, &counts);
    AGREE(counts.pinned_pages, npinned, "pages pinned");
    AGREE(counts.domains, domains(), "domains");
    AGREE(counts.mappings, mappings(), "mappings");
    AGREE(counts.faults, t.faults, "faults");
    AGREE(counts.faults_dropped, t.dropped, "faults dropped");
    if (!domains())
        AGREE(counts.table_bytes, 0, "bytes of tables");
    AGREE(counts.table_bytes <= (domains() + 3 * mappings() * 3) * PAGE, true, "bytes of tables");
    for (unsigned i = 0; i < ENDPOINTS; i++) {
        int id = t.attached[i];
        struct audit audit = { .domain = id < 0 ? NULL : &t.domain[id] };
        bool bypass;

        AGREE(iommu_each_mapping(t.iommu, i + 10, &bypass, see, &audit), 0, "each mapping");
        AGREE(bypass, id < 0 ? t.bypass : t.domain[id].bypass, "bypass");
        AGREE(audit.seen, id < 0 ? 0 : t.domain[id].mappings, "each mapping: number");
    }
    AGREE(memcmp(t.ram, t.copy, sizeof(t.copy)), 0, "all of RAM");
}

START_TEST(test_model)
{
    setup(_i);
    for (step = 0; step < STEPS; step++) {
        unsigned kind = (unsigned)rnd(1000);

        if (kind < 20)
            step_attach();
        else if (kind < 30)
            step_detach();
        else if (kind < 250)
            step_map();
        else if (kind < 350)
            step_unmap();
        else if (kind < 700)
            step_translate();
        else if (kind < 850)
            step_copy();
        else if (kind < 900)
            step_window();
        else if (kind < 996)
            step_fault();
        else if (kind < 998)
            step_reset();
        else
            iommu_set_bypass(t.iommu, t.bypass = one_in(2));
        if (step % 1000 == 0)
            check_all();
    }
    check_all();
    teardown();
}
END_TEST

Suite *iommu_model_suite(void)
{
    Suite *suite = suite_create("iommu_model");
    TCase *tc = tcase_create("model");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_model, 0, RUNS);
    suite_add_tcase(suite, tc);
    return suite;
}
