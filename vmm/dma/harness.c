#include "vmm/dma/harness.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "vmm/base/host_cpus.h"
#include "vmm/base/monotonic.h"
#include "vmm/boot/layout.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/measures.h"
#include "vmm/dma/random_requests.h"
#include "vmm/dma/setup.h"
#include "vmm/launch/machine.h"

#define MEMORY_BYTES_MIN (32ull << 20)
#define MEMORY_ROOM      (16ull << 20) /* beyond what a policy names */
#define CPUS_MAX         2
#define DISK_PATH_BYTES  32
#define DISK_BYTES       (1ull << 20)
#define STOP_TIMEOUT_MS  2000
#define TIMEOUT_S        60

/* ---- The cells --------------------------------------------------------------------- */

static bool harness_wanted(const struct harness_options *options, unsigned attack)
{
    return !options->attacks || (options->attacks >> attack & 1);
}

/* Every cell with what the policy promises; with cells NULL only their number. */
static size_t harness_plan_cells(const struct policy *policy, const struct harness_options *options,
                                 struct matrix_cell *cells)
{
    struct attack_plan plan;
    size_t count = 0;

    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        for (unsigned device = 0;
             harness_wanted(options, attack) && device < policy->guest.ndevices; device++) {
            for (unsigned n = 0; attack_table[attack]->expect(policy, device, n, &plan); n++) {
                if (cells) {
                    struct matrix_cell *cell = &cells[count];

                    *cell = (struct matrix_cell){ .device = device,
                                                  .attack = attack,
                                                  .expected = plan.effect };
                    memcpy(cell->region, plan.target, sizeof(cell->region));
                    memcpy(cell->because, plan.because, sizeof(cell->because));
                }
                count++;
            }
        }
    }
    return count;
}

/* The cell is as the policy promises: effect and all checks. */
static void harness_compare_cell(struct matrix_cell *cell)
{
    const struct harness_effect *e = &cell->expected, *o = &cell->observed;

    if (e->applies)
        harness_check(cell,
                      e->succeeds == o->succeeds && e->read_bytes == o->read_bytes &&
                          e->write_bytes == o->write_bytes,
                      "expected %s, %llu bytes read, %llu written; observed %s, %llu, %llu",
                      e->succeeds ? "success" : "nothing", (unsigned long long)e->read_bytes,
                      (unsigned long long)e->write_bytes, o->succeeds ? "success" : "nothing",
                      (unsigned long long)o->read_bytes, (unsigned long long)o->write_bytes);
    cell->ok = cell->failed == 0;
}

static void harness_run_cell(struct harness *harness, struct matrix_cell *cell, unsigned n)
{
    unsigned wrong;

    if (cell->expected.applies) {
        if (!harness->guest.program.failure[0])
            harness_settle(harness);
        /* What is not tried is not stopped. */
        cell->observed.applies = !harness->guest.program.failure[0];
        if (!harness->guest.program.failure[0])
            attack_table[cell->attack]->run(harness, cell, n);
        harness_check(cell, !harness->guest.program.failure[0], "%s",
                      harness->guest.program.failure);
        wrong = harness->guest.program.failure[0] ? 0 : harness_verify(harness);
        harness_check(cell, wrong == 0,
                      "expected no other page of the guest's to change, observed %u that did",
                      wrong);
    }
    harness_compare_cell(cell);
}

static void harness_run_cells(struct harness *harness)
{
    struct harness_result *result = harness->result;
    unsigned n = 0;

    for (size_t i = 0; i < result->ncells; i++) {
        struct matrix_cell *cell = &result->cells[i];
        bool same = i && cell[-1].attack == cell->attack && cell[-1].device == cell->device;

        n = same ? n + 1 : 0;
        harness_run_cell(harness, cell, n);
        result->differing += !cell->ok;
        if (harness->options->progress)
            harness->options->progress(harness->options->owner, (unsigned)i + 1,
                                       (unsigned)result->ncells);
    }
}

/* ---- The machine ------------------------------------------------------------------- */

/*
 * Room for the guest above what the policy places, and above that for what the guest places
 * itself, which takes it from the end of memory.
 */
static uint64_t harness_memory_bytes(const struct policy *policy)
{
    uint64_t end = MEMORY_BYTES_MIN - MEMORY_ROOM, dynamic = 0, bytes;

    for (unsigned i = 0; i < policy->guest.nregions; i++) {
        const struct abi_policy_region *region = &policy->guest.region[i];

        if (region->kind == ABI_REGION_RESERVED_IOVA)
            continue;
        if (!region->gpa)
            dynamic += region->bytes;
        else if (region->gpa + region->bytes > end)
            end = region->gpa + region->bytes;
    }
    bytes = end + MEMORY_ROOM + dynamic;
    bytes = (bytes + MEMORY_HUGE_BYTES - 1) / MEMORY_HUGE_BYTES * MEMORY_HUGE_BYTES;
    /* What is placed so high leaves room below. */
    return bytes < POLICY_MEMORY_BYTES ? bytes : POLICY_MEMORY_BYTES;
}

static unsigned harness_cpus(void)
{
    return host_cpus() < CPUS_MAX ? 1 : CPUS_MAX;
}

static void harness_note_fault(void *owner, const struct iommu_fault *fault)
{
    struct harness *harness = owner;

    pthread_mutex_lock(&harness->faults_lock);
    harness->faults[harness->nfaults++ % HARNESS_FAULTS_MAX] = *fault;
    pthread_mutex_unlock(&harness->faults_lock);
}

/* Before the guest runs: what the platform knows of the policy, and the devices' dma handles. */
static int harness_configure(struct harness *harness, struct error *error)
{
    const struct policy *policy = harness->policy;
    int err = 0;

    harness->iommu = board_iommu(harness->board);
    if (harness->iommu)
        iommu_watch_faults(harness->iommu, harness_note_fault, harness);
    for (unsigned device = 0; device < policy->guest.ndevices && !err; device++) {
        const struct abi_policy_device *d = rules_device(policy, device);

        harness->dma[device] = board_dma(harness->board, device);
        if (!harness->dma[device])
            err = -ENODEV;
        if (!err && harness->iommu)
            err = iommu_allow_vectors(harness->iommu, d->endpoint, policy->device[device].vectors);
        for (unsigned r = 0; r < policy->guest.nregions && !err && harness->iommu; r++) {
            const struct abi_policy_region *region = &policy->guest.region[r];
            const struct iommu_reserved reserved = {
                .range = { region->iova, region->iova + region->bytes - 1 },
                .kind = IOMMU_RESERVED,
            };

            if (region->kind == ABI_REGION_RESERVED_IOVA && (region->endpoints >> device & 1))
                err = iommu_add_reserved(harness->iommu, d->endpoint, &reserved);
        }
        if (err)
            error_set(error, err, "cannot configure the IOMMU for %s: %s", d->name, strerror(-err));
    }
    return err;
}

/* Also where the attacks that want this are not wanted: what the guest sees is the same. */
static void harness_before_attach(struct harness *harness, unsigned device, uint64_t gpa,
                                  bool booted)
{
    for (unsigned i = 0; i < ATTACK_COUNT; i++) {
        if (attack_table[i]->before_attach)
            attack_table[i]->before_attach(harness, device, gpa, booted);
    }
}

/* The guest is up and waits: everything that is to be found out. */
static void harness_run_attacks(struct harness *harness)
{
    struct harness_result *result = harness->result;
    int err = harness_guest_wait_ready(&harness->guest, harness->options->timeout_s
                                                            ? harness->options->timeout_s * 1000
                                                            : TIMEOUT_S * 1000);

    if (!err)
        err = harness_fill_canaries(harness);
    for (unsigned device = 0; device < harness->policy->guest.ndevices && !err; device++) {
        if (rules_device(harness->policy, device)->flags & ABI_DEVICE_EARLY)
            harness_before_attach(harness, device, harness_page(harness, HARNESS_PAGE_SECRET)->gpa,
                                  true);
    }
    if (!err)
        err = harness_set_up(harness);
    if (err && !harness->guest.program.failure[0])
        snprintf(harness->guest.program.failure, sizeof(harness->guest.program.failure),
                 "cannot set the policy up: %s", strerror(-err));
    if (!err)
        measures_exposure(harness);
    for (unsigned i = 0; i < ATTACK_COUNT && !err; i++) {
        if (attack_table[i]->prepare && harness_wanted(harness->options, i))
            attack_table[i]->prepare(harness);
    }
    harness_run_cells(harness);
    if (!harness->guest.program.failure[0] && harness->options->random_seconds)
        random_requests_run(harness);
    result->guest_lives = !harness->guest.program.failure[0];
    snprintf(result->guest_failure, sizeof(result->guest_failure), "%s",
             harness->guest.program.failure);
}

/* What the policy leaves open. */
static void harness_set_quotas(struct iommu_config *config, unsigned domains)
{
    uint64_t share;

    if (!config->mappings_max)
        config->mappings_max = POLICY_MAPPINGS_MAX;
    share = config->mappings_max / (domains ? domains : 1);
    share = share ? share : 1;
    if (!config->mappings_of_domain_max)
        config->mappings_of_domain_max = share < POLICY_MAPPINGS_OF_DOMAIN_MAX
                                             ? share
                                             : POLICY_MAPPINGS_OF_DOMAIN_MAX;
}

/* Boots the machine, wires the harness to it, and lets the guest and the attacks run. */
static int harness_start(struct harness *harness, struct machine *machine, struct error *error)
{
    int err = machine_boot(machine, error);

    if (!err)
        err = harness_configure(harness, error);
    if (err)
        return err;
    for (unsigned device = 0; device < harness->policy->guest.ndevices; device++)
        harness_before_attach(harness, device, LAYOUT_FDT_GPA, false);
    err = machine_start(machine, error);
    if (err)
        return err;
    harness_run_attacks(harness);
    harness_guest_release(&harness->guest);
    machine_wait(machine, harness->guest.program.failure[0] ? 0 : STOP_TIMEOUT_MS);
    return 0;
}

static int harness_run_machine(struct harness *harness, const struct vm_config *config,
                               struct error *error)
{
    struct machine_hooks hooks = MACHINE_NO_HOOKS;
    struct machine *machine = malloc(sizeof(*machine));
    int err;

    if (!machine)
        return error_set(error, -ENOMEM, "out of memory");
    harness->vm = &machine->vm;
    harness->board = &machine->board;
    harness->memory = &machine->vm.memory;
    hooks.checkpoint = program_checkpoint;
    hooks.checkpoint_owner = &harness->guest.program;
    harness_guest_init(&harness->guest, harness->vm);
    err = machine_create(machine, harness->options->kvm, config, &hooks, error);
    if (!err) {
        err = harness_start(harness, machine, error);
        machine_destroy(machine);
    }
    harness_guest_destroy(&harness->guest);
    free(machine);
    return err;
}

/* A file for each disk: what is on it does not matter, but no two may hold it. */
static int harness_open_disk(char path[DISK_PATH_BYTES])
{
    int fd = memfd_create("strata-test-disk", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)DISK_BYTES)) {
        close(fd);
        return -EIO;
    }
    snprintf(path, DISK_PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

static int harness_run_with_disks(struct harness *harness, struct error *error)
{
    const struct abi_policy *guest = &harness->policy->guest;
    char disk[ABI_POLICY_DEVICES_MAX][DISK_PATH_BYTES];
    int disk_fd[ABI_POLICY_DEVICES_MAX];
    struct vm_config config;
    unsigned ready;
    int err = 0;

    config_init(&config);
    config.boot_args = "exec=dma-harness";
    config.memory_bytes = harness_memory_bytes(harness->policy);
    config.vcpu_count = harness_cpus();
    config.huge_pages = MEMORY_4K;
    config.iommu = harness->policy->iommu ? VM_IOMMU_STRICT : VM_IOMMU_OFF;
    config.iommu_config = harness->policy->iommu_config;
    harness_set_quotas(&config.iommu_config, rules_domains(harness->policy));
    config.policy = guest;
    for (ready = 0; ready < guest->ndevices; ready++) {
        bool blk = guest->device[ready].kind == ABI_DEVICE_BLK;
        struct config_device device = { .kind = blk ? DEVICE_BLK : DEVICE_PROBE,
                                        .endpoint = guest->device[ready].endpoint,
                                        .path = blk ? disk[ready] : NULL };

        disk_fd[ready] = blk ? harness_open_disk(disk[ready]) : -1;
        if (blk && disk_fd[ready] < 0) {
            err = error_set(error, disk_fd[ready], "cannot make a disk in memory: %s",
                            strerror(-disk_fd[ready]));
            break;
        }
        err = config_add_device(&config, &device, error);
        if (err)
            break;
    }
    if (!err)
        err = harness_run_machine(harness, &config, error);
    while (ready--) {
        if (disk_fd[ready] >= 0)
            close(disk_fd[ready]);
    }
    return err;
}

int harness_run(struct harness_result *result, const struct policy *policy,
                const struct harness_options *options, char *error, size_t error_bytes)
{
    struct harness *harness = calloc(1, sizeof(*harness));
    uint64_t start = monotonic_ns();
    struct error failure;
    int err = -ENOMEM;

    *result = (struct harness_result){ .policy = policy, .seed = options->seed };
    snprintf(error, error_bytes, "out of memory");
    if (!harness)
        return err;
    harness->policy = policy;
    harness->options = options;
    harness->result = result;
    harness->random = options->seed;
    harness->expected_bytes = malloc(ABI_HARNESS_TEST_PAGES * ATTACK_PAGE_BYTES);
    result->ncells = harness_plan_cells(policy, options, NULL);
    result->cells = calloc(result->ncells + 1, sizeof(result->cells[0]));
    pthread_mutex_init(&harness->faults_lock, NULL);
    if (harness->expected_bytes && result->cells) {
        harness_plan_cells(policy, options, result->cells);
        err = harness_run_with_disks(harness, &failure);
        if (err)
            snprintf(error, error_bytes, "%s", failure.text);
    }
    pthread_mutex_destroy(&harness->faults_lock);
    free(harness->expected_bytes);
    free(harness);
    if (err)
        harness_result_free(result);
    result->elapsed_ns = monotonic_ns() - start;
    return err;
}

void harness_result_free(struct harness_result *result)
{
    free(result->cells);
    result->cells = NULL;
    result->ncells = 0;
}

bool harness_ok(const struct harness_result *result)
{
    return result->ncells && !result->differing && !result->random_failures && result->guest_lives;
}
