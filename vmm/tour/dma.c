/*
 * dma: without an IOMMU the device reads a secret from memory and writes over it; behind
 * one it reaches what its driver mapped and nothing else, in both directions, each refusal
 * recorded and told to the driver; and a page that the device can reach has no other
 * owner, whatever the program does, until the device has lost it.
 *
 * All attacks are made here, with the world stopped, by the device's own functions.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "devices/core/board.h"
#include "guest/abi/dma.h"
#include "guest/abi/exercises.h"
#include "guest/abi/policy.h"
#include "vmm/launch/config.h"
#include "vmm/machine/memory.h"
#include "vmm/tour/check.h"
#include "vmm/tour/dma_attack.h"
#include "vmm/tour/exercises.h"

#define MACHINE_OFF   0 /* without an IOMMU, */
#define MACHINE_ON    1 /* and with one */
#define SPOOFED_BYTES 64
#define WALK_BUDGET   (1u << 22)
#define USER_LAST     (UINT64_MAX / 2)

struct state {
    uint64_t secret, read, write; /* GPAs */
    struct attack_faults faults;
    uint64_t stolen, blocked, told;
};

static const struct config_device devices[] = { { .kind = DEVICE_PROBE,
                                                  .endpoint = ATTACK_ENDPOINT } };

/* The control's: a bypass domain, and a driver that does not hold on to mapped pages. */
static const struct abi_policy broken = {
    .magic = ABI_POLICY_MAGIC,
    .version = ABI_POLICY_VERSION,
    .ndevices = 1,
    .device = { { .name = "dma-probe",
                  .kind = ABI_DEVICE_PROBE,
                  .endpoint = ATTACK_ENDPOINT,
                  .domain = ATTACK_ENDPOINT,
                  .mode = ABI_DMA_IDENTITY,
                  .pool = ~0u,
                  .flags = ABI_DEVICE_NO_PIN } },
};

static void dma_command(const struct tour_host *host, bool control, char *text, size_t bytes)
{
    (void)host;
    snprintf(text, bytes, "dma%s", control ? " break" : "");
}

static void dma_machine(const struct tour_run *run, struct vm_config *config)
{
    memcpy(config->devices, devices, sizeof(devices));
    config->ndevices = sizeof(devices) / sizeof(devices[0]);
    if (run->machine == MACHINE_ON) {
        config->iommu = run->control ? VM_IOMMU_BYPASS : VM_IOMMU_STRICT;
        config->policy = run->control ? &broken : NULL;
    }
}

static void dma_blocked(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                        const struct attack *attack)
{
    struct state *state = run->state;

    state->blocked += attack_expect_blocked(run, view, gpa, &state->faults, attack);
}

static void dma_allowed(struct tour_run *run, const struct guest_view *view, uint64_t gpa,
                        const struct attack *attack)
{
    struct state *state = run->state;

    attack_expect_allowed(run, view, gpa, &state->faults, attack);
}

static uint64_t dma_gpa_of(struct tour_run *run, const struct guest_view *view, uint64_t root,
                           uint64_t va, enum abi_tour_dma_arg which, const char *what)
{
    struct paging_walk walk;
    uint64_t right = 0;
    const uint64_t *word;

    if (guest_walk(view, root, va, &walk)) {
        check_true(run, false, "mapped", paging_status_name(walk.status), "%s", what);
        return 0;
    }
    word = memory_at(view->memory, walk.leaf.gpa, ABI_PAGE_BYTES);
    for (uint64_t i = 0; word && i < ABI_PAGE_BYTES / 8; i++)
        right += word[i] == ABI_TOUR_DMA_WORD(which, i);
    check_equal(run, ABI_PAGE_BYTES / 8, right, "%s: words as the program wrote them", what);
    return walk.leaf.gpa;
}

/* Nothing in between: the device takes the secret, and writes over it. */
static void dma_steal(struct tour_run *run, const struct guest_view *view)
{
    struct state *state = run->state;

    dma_allowed(run, view, state->secret,
                &(struct attack){ "IOMMU off: read of the secret", ABI_PROBE_ACCESS, state->secret,
                                  ABI_PAGE_BYTES, 0, 0 });
    state->stolen = attack_known(run, view, state->secret, ABI_PAGE_BYTES);
    dma_allowed(run, view, state->secret,
                &(struct attack){ "IOMMU off: write over the secret", ABI_PROBE_ACCESS,
                                  state->secret, SPOOFED_BYTES, ABI_PROBE_FLAG_WRITE, 0 });
    check_equal(run, run->host->memory_bytes / ATTACK_SWEEP_STRIDE,
                attack_carry_out(run, &(struct attack){ "sweep", ABI_PROBE_SWEEP, 0,
                                                        run->host->memory_bytes, 0, 0 }),
                "IOMMU off: pages of RAM that answer a sweep, of every 16th");
}

static void dma_attack_secret(struct tour_run *run, const struct guest_view *view, const char *when)
{
    struct state *state = run->state;
    char name[64];

    snprintf(name, sizeof(name), "%s: read of the secret", when);
    dma_blocked(run, view, state->secret,
                &(struct attack){ name, ABI_PROBE_ACCESS, state->secret, ABI_PAGE_BYTES, 0,
                                  state->secret });
    snprintf(name, sizeof(name), "%s: write over the secret", when);
    dma_blocked(run, view, state->secret,
                &(struct attack){ name, ABI_PROBE_ACCESS, state->secret, SPOOFED_BYTES,
                                  ABI_PROBE_FLAG_WRITE, state->secret });
}

static void dma_secret(struct tour_run *run, const struct abi_checkpoint *record,
                       const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;

    state->secret = dma_gpa_of(run, view, root, record->arg[ABI_TOUR_DMA_VA_SECRET],
                               ABI_TOUR_DMA_VA_SECRET, "the secret");
    if (run->machine == MACHINE_OFF) {
        dma_steal(run, view);
        return;
    }
    iommu_watch_faults(board_iommu(run->board), attack_fault, &state->faults);
    dma_attack_secret(run, view, "nothing mapped");
}

/* What the IOMMU's own tables have for the device. */
struct mappings {
    const struct state *state;
    const uint64_t *arg;
    uint64_t right, wrong;
};

static void dma_look_at_mapping(void *owner, const struct iommu_mapping *mapping)
{
    struct mappings *found = owner;
    struct iommu_range iova = mapping->iova;
    bool read = iova.first == found->arg[ABI_TOUR_DMA_IOVA_READ] && mapping->prot == IOMMU_READ &&
                mapping->gpa == found->state->read;
    bool write = iova.first == found->arg[ABI_TOUR_DMA_IOVA_WRITE] &&
                 mapping->prot == IOMMU_WRITE && mapping->gpa == found->state->write;

    if ((read || write) && iova.last - iova.first == ABI_PAGE_BYTES - 1)
        found->right++;
    else
        found->wrong++;
}

static void dma_expect_mappings(struct tour_run *run, const struct abi_checkpoint *record,
                                uint64_t expected, const char *when)
{
    struct mappings found = { .state = run->state, .arg = record->arg };
    bool bypass = false;

    iommu_each_mapping(board_iommu(run->board), ATTACK_ENDPOINT, &bypass, dma_look_at_mapping,
                       &found);
    check_true(run, !bypass, "translated", bypass ? "bypass" : "translated",
               "%s: how the IOMMU treats the device", when);
    check_equal(run, expected, found.right, "%s: the driver's mappings in the IOMMU's tables",
                when);
    check_equal(run, 0, found.wrong, "%s: other mappings there", when);
}

static void dma_expect_pinned(struct tour_run *run, const struct guest_view *view, bool pinned,
                              uint64_t refs, const char *when)
{
    const struct state *state = run->state;
    const uint64_t gpa[] = { state->read, state->write };

    for (unsigned i = 0; i < 2; i++) {
        const char *which = i ? "written" : "read";
        bool held = iommu_pinned(board_iommu(run->board), gpa[i], ABI_PAGE_BYTES);
        struct abi_frame frame = guest_frame(view, gpa[i]);

        check_true(run, held == pinned, pinned ? "pinned" : "not pinned",
                   held ? "pinned" : "not pinned", "%s: the page %s, as the IOMMU has it", when,
                   which);
        check_equal(run, refs, frame.refs, "%s: the page %s, references to its frame", when, which);
        check_true(run, (frame.kind == ABI_FRAME_FREE) == !refs, refs ? "in use" : "free",
                   frame.kind == ABI_FRAME_FREE ? "free" : "in use",
                   "%s: the page %s, as the kernel has its frame", when, which);
    }
}

static void dma_mapped(struct tour_run *run, const struct abi_checkpoint *record,
                       const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    const uint64_t *arg = record->arg;
    uint64_t read = arg[ABI_TOUR_DMA_IOVA_READ], write = arg[ABI_TOUR_DMA_IOVA_WRITE];

    state->read = dma_gpa_of(run, view, root, arg[ABI_TOUR_DMA_VA_READ], ABI_TOUR_DMA_VA_READ,
                             "the page to read");
    state->write = dma_gpa_of(run, view, root, arg[ABI_TOUR_DMA_VA_WRITE], ABI_TOUR_DMA_VA_WRITE,
                              "the page to write");
    check_equal(run, ABI_PAGE_BYTES, attack_known(run, view, state->read, ABI_PAGE_BYTES),
                "bytes that the driver had the device read");
    dma_expect_mappings(run, record, 2, "mapped");
    /* The program's and the device's. */
    dma_expect_pinned(run, view, true, 2, "mapped");
    dma_allowed(
        run, view, state->read,
        &(struct attack){ "read where it may", ABI_PROBE_ACCESS, read, ABI_PAGE_BYTES, 0, 0 });
    dma_allowed(run, view, state->write,
                &(struct attack){ "write where it may", ABI_PROBE_ACCESS, write, ABI_PAGE_BYTES,
                                  ABI_PROBE_FLAG_WRITE, 0 });
    dma_blocked(run, view, state->read,
                &(struct attack){ "write where it may only read", ABI_PROBE_ACCESS, read,
                                  SPOOFED_BYTES, ABI_PROBE_FLAG_WRITE, read });
    dma_blocked(run, view, state->write,
                &(struct attack){ "read where it may only write", ABI_PROBE_ACCESS, write,
                                  ABI_PAGE_BYTES, 0, write });
    /* No page with both rights lies behind, so the second half must fault. */
    dma_blocked(run, view, state->read,
                &(struct attack){ "read across the page's end", ABI_PROBE_ACCESS,
                                  read + ABI_PAGE_BYTES / 2, ABI_PAGE_BYTES, 0,
                                  read + ABI_PAGE_BYTES });
    dma_blocked(run, view, state->secret,
                &(struct attack){ "read that says it is translated", ABI_PROBE_ACCESS,
                                  state->secret, ABI_PAGE_BYTES, ABI_PROBE_FLAG_ATS,
                                  state->secret });
    dma_attack_secret(run, view, "mapped");
    check_equal(run, ABI_PAGE_BYTES,
                attack_carry_out(run, &(struct attack){ "remember", ABI_PROBE_REMEMBER, read,
                                                        ABI_PAGE_BYTES, 0, 0 }),
                "bytes whose translation the device keeps");
}

/* The driver's list of faults against what was seen as it happened. */
static void dma_told(struct tour_run *run, const struct abi_checkpoint *record,
                     const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    struct abi_dma list[ATTACK_FAULTS_MAX];
    uint64_t n = record->arg[1], same = 0;

    if (n > ATTACK_FAULTS_MAX || guest_read(view, root, record->arg[0], list, n * sizeof(list[0])))
        n = 0;
    for (uint64_t i = 0; i < n && i < state->faults.n; i++)
        same += list[i].endpoint == state->faults.fault[i].endpoint &&
                list[i].rights == state->faults.fault[i].access &&
                list[i].iova == state->faults.fault[i].iova;
    check_equal(run, ABI_TOUR_DMA_FAULTS, state->faults.n, "faults so far");
    check_equal(run, state->faults.n, n, "faults that the driver was told");
    check_equal(run, ABI_TOUR_DMA_FAULTS, same, "told with endpoint, direction and address");
    state->told = same;
}

/* How often a frame is mapped in the address spaces of the child that reached its checkpoint and
 * its parent. */
struct count {
    uint64_t gpa, pages, found;
};

static int dma_count_leaf(void *owner, const struct paging_leaf *leaf)
{
    struct count *count = owner;

    count->pages++;
    count->found += leaf->gpa == count->gpa;
    return 0;
}

static uint64_t dma_mapped_by_processes(struct tour_run *run, const struct abi_checkpoint *record,
                                        const struct guest_view *view, uint64_t gpa)
{
    const uint64_t pids[] = { record->pid, record->arg[ABI_TOUR_DMA_PARENT] };
    struct count count = { .gpa = gpa };
    const struct paging_visitor visitor = { .owner = &count, .leaf = dma_count_leaf };

    for (unsigned i = 0; i < 2; i++) {
        struct abi_process process = { 0 };
        uint64_t before = count.pages;

        guest_process(view, pids[i], &process);
        paging_each(&paging_x86_4level, &view->reader, process.root,
                    (struct paging_range){ 0, USER_LAST }, WALK_BUDGET, &visitor);
        if (count.pages == before)
            check_true(run, false, "some pages", "none", "address space of pid %" PRIu64, pids[i]);
        if (i == 0 && process.cow_copies < ABI_TOUR_DMA_COPIES)
            check_equal(run, ABI_TOUR_DMA_COPIES, process.cow_copies, "frames the child took");
    }
    return count.found;
}

/* The program has given both pages back, the device has them still. */
static void dma_freed(struct tour_run *run, const struct abi_checkpoint *record,
                      const struct guest_view *view, uint64_t root)
{
    struct state *state = run->state;
    const uint64_t *arg = record->arg;
    struct paging_walk walk;
    uint64_t reachable = !guest_walk(view, root, arg[ABI_TOUR_DMA_VA_READ], &walk) +
                         !guest_walk(view, root, arg[ABI_TOUR_DMA_VA_WRITE], &walk);
    uint64_t right = 0;
    const uint64_t *word = memory_at(view->memory, state->read, ABI_PAGE_BYTES);

    check_equal(run, 0, reachable, "freed: pages still in the program's address space");
    dma_expect_mappings(run, record, 2, "freed");
    dma_expect_pinned(run, view, true, 1, "freed");
    check_equal(run, 0,
                dma_mapped_by_processes(run, record, view, state->read) +
                    dma_mapped_by_processes(run, record, view, state->write),
                "freed: mappings of the two frames in any process");
    for (uint64_t i = 0; word && i < ABI_PAGE_BYTES / 8; i++)
        right += word[i] == ABI_TOUR_DMA_WORD(ABI_TOUR_DMA_VA_READ, i);
    check_equal(run, ABI_PAGE_BYTES / 8, right, "freed: words of the page as they were");
    dma_allowed(run, view, state->read,
                &(struct attack){ "freed: read by the device", ABI_PROBE_ACCESS,
                                  arg[ABI_TOUR_DMA_IOVA_READ], ABI_PAGE_BYTES, 0, 0 });
    dma_allowed(run, view, state->write,
                &(struct attack){ "freed: write by the device", ABI_PROBE_ACCESS,
                                  arg[ABI_TOUR_DMA_IOVA_WRITE], ABI_PAGE_BYTES,
                                  ABI_PROBE_FLAG_WRITE, 0 });
}

static void dma_revoked(struct tour_run *run, const struct abi_checkpoint *record,
                        const struct guest_view *view)
{
    struct state *state = run->state;
    uint64_t read = record->arg[ABI_TOUR_DMA_IOVA_READ];
    uint64_t write = record->arg[ABI_TOUR_DMA_IOVA_WRITE];

    dma_expect_mappings(run, record, 0, "revoked");
    dma_expect_pinned(run, view, false, 0, "revoked");
    dma_blocked(
        run, view, state->read,
        &(struct attack){ "revoked: read", ABI_PROBE_ACCESS, read, ABI_PAGE_BYTES, 0, read });
    dma_blocked(run, view, state->write,
                &(struct attack){ "revoked: write", ABI_PROBE_ACCESS, write, SPOOFED_BYTES,
                                  ABI_PROBE_FLAG_WRITE, write });
    dma_blocked(run, view, state->read,
                &(struct attack){ "revoked: replay of what it kept", ABI_PROBE_REPLAY, read,
                                  ABI_PAGE_BYTES, 0, read });
    check_equal(run, 0,
                attack_carry_out(run, &(struct attack){ "sweep", ABI_PROBE_SWEEP, 0,
                                                        run->host->memory_bytes, 0, 0 }),
                "revoked: pages of RAM that answer a sweep, of every 16th");
}

static void dma_reused(struct tour_run *run, const struct abi_checkpoint *record,
                       const struct guest_view *view)
{
    struct state *state = run->state;

    check_equal(run, 1, dma_mapped_by_processes(run, record, view, state->read),
                "reused: mappings of the frame that the device read");
    check_equal(run, 1, dma_mapped_by_processes(run, record, view, state->write),
                "reused: mappings of the frame that the device wrote");
}

static void dma_checkpoint(struct tour_run *run, const struct abi_checkpoint *record,
                           const struct guest_view *view)
{
    uint64_t root = check_vcpu_root(run, record->vcpu);

    if (!board_model(run->board, ATTACK_DEVICE, &probe_ops) ||
        (run->machine == MACHINE_ON && !board_iommu(run->board))) {
        check_true(run, false, "a probe", "none", "the machine");
        return;
    }
    switch (record->step) {
    case ABI_TOUR_DMA_SECRET: dma_secret(run, record, view, root); break;
    case ABI_TOUR_DMA_MAPPED: dma_mapped(run, record, view, root); break;
    case ABI_TOUR_DMA_TOLD: dma_told(run, record, view, root); break;
    case ABI_TOUR_DMA_FREED: dma_freed(run, record, view, root); break;
    case ABI_TOUR_DMA_REVOKED: dma_revoked(run, record, view); break;
    case ABI_TOUR_DMA_REUSED: dma_reused(run, record, view); break;
    default: break;
    }
}

static void dma_conclude(struct tour_run *run, char *key, size_t bytes)
{
    const struct state *state = run->state;

    check_add_figure(run, (double)state->stolen, "stolen_bytes");
    check_add_figure(run, (double)state->blocked, "blocked_accesses");
    check_add_figure(run, (double)state->told, "told_faults");
    snprintf(key, bytes,
             "%" PRIu64 " bytes stolen without IOMMU, %" PRIu64 " attacks blocked with it",
             state->stolen, state->blocked);
}

const struct tour_exercise tour_dma = {
    .name = "dma",
    .shows = "a secret stolen, then kept; pages pinned while mapped",
    .breaks = "the IOMMU lets the device through, pages are not pinned",
    .id = ABI_DMA,
    .steps = ABI_TOUR_DMA_STEPS,
    .machines = 2,
    .machine = dma_machine,
    .command = dma_command,
    .checkpoint = dma_checkpoint,
    .memory_map = { ABI_TOUR_DMA_MAPPED, 1, "two pages are mapped for a device" },
    .conclude = dma_conclude,
    .state_bytes = sizeof(struct state),
};
