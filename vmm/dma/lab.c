#include "vmm/dma/lab.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/core/board.h"
#include "vmm/base/host_cpus.h"
#include "vmm/base/monotonic.h"
#include "vmm/boot/boot.h"
#include "vmm/boot/layout.h"
#include "vmm/dma/attacks/attack.h"
#include "vmm/dma/engine.h"
#include "vmm/dma/measures.h"
#include "vmm/dma/random_requests.h"
#include "vmm/dma/setup.h"
#include "vmm/machine/vm.h"

#define MEMORY_BYTES_MIN (32ull << 20)
#define MEMORY_ROOM      (16ull << 20) /* beyond what a policy names */
#define CPUS_MAX         2
#define DISK_PATH_BYTES  32
#define DISK_BYTES       (1ull << 20)
#define STOP_TIMEOUT_MS  2000
#define TIMEOUT_S        60

/* ---- The cells --------------------------------------------------------------------- */

static bool lab_wanted(const struct lab_options *options, unsigned attack)
{
    return !options->attacks || (options->attacks >> attack & 1);
}

/* Every cell with what the policy promises; with cells NULL only their number. */
static size_t lab_plan_cells(const struct policy *policy, const struct lab_options *options,
                             struct lab_cell *cells)
{
    struct attack_plan plan;
    size_t count = 0;

    for (unsigned attack = 0; attack < ATTACK_COUNT; attack++) {
        for (unsigned device = 0; lab_wanted(options, attack) && device < policy->guest.ndevices;
             device++) {
            for (unsigned n = 0; attack_table[attack]->expect(policy, device, n, &plan); n++) {
                if (cells) {
                    struct lab_cell *cell = &cells[count];

                    *cell = (struct lab_cell){ .device = device,
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
static void lab_compare_cell(struct lab_cell *cell)
{
    const struct lab_effect *e = &cell->expected, *o = &cell->observed;

    if (e->applies)
        lab_check(cell,
                  e->succeeds == o->succeeds && e->read_bytes == o->read_bytes &&
                      e->write_bytes == o->write_bytes,
                  "expected %s, %llu bytes read, %llu written; observed %s, %llu, %llu",
                  e->succeeds ? "success" : "nothing", (unsigned long long)e->read_bytes,
                  (unsigned long long)e->write_bytes, o->succeeds ? "success" : "nothing",
                  (unsigned long long)o->read_bytes, (unsigned long long)o->write_bytes);
    cell->ok = cell->failed == 0;
}

static void lab_run_cell(struct lab *lab, struct lab_cell *cell, unsigned n)
{
    unsigned wrong;

    if (cell->expected.applies) {
        if (!lab->guest.failure[0])
            lab_settle(lab);
        /* What is not tried is not stopped. */
        cell->observed.applies = !lab->guest.failure[0];
        if (!lab->guest.failure[0])
            attack_table[cell->attack]->run(lab, cell, n);
        lab_check(cell, !lab->guest.failure[0], "%s", lab->guest.failure);
        wrong = lab->guest.failure[0] ? 0 : lab_verify(lab);
        lab_check(cell, wrong == 0,
                  "expected no other page of the guest's to change, observed %u that did", wrong);
    }
    lab_compare_cell(cell);
}

static void lab_run_cells(struct lab *lab)
{
    struct lab_result *result = lab->result;
    unsigned n = 0;

    for (size_t i = 0; i < result->ncells; i++) {
        struct lab_cell *cell = &result->cells[i];
        bool same = i && cell[-1].attack == cell->attack && cell[-1].device == cell->device;

        n = same ? n + 1 : 0;
        lab_run_cell(lab, cell, n);
        result->differing += !cell->ok;
        if (lab->options->progress)
            lab->options->progress(lab->options->owner, (unsigned)i + 1, (unsigned)result->ncells);
    }
}

/* ---- The machine ------------------------------------------------------------------- */

/*
 * Room for the guest above what the policy places, and above that for what the guest places
 * itself, which takes it from the end of memory.
 */
static uint64_t lab_memory_bytes(const struct policy *policy)
{
    uint64_t end = MEMORY_BYTES_MIN - MEMORY_ROOM, dynamic = 0, bytes;

    for (unsigned i = 0; i < policy->guest.nregions; i++) {
        const struct abi_policy_region *region = &policy->guest.region[i];

        if (region->kind == ABI_REGION_CARVE)
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

static unsigned lab_cpus(void)
{
    return host_cpus() < CPUS_MAX ? 1 : CPUS_MAX;
}

static void lab_note_fault(void *owner, const struct iommu_fault *fault)
{
    struct lab *lab = owner;

    pthread_mutex_lock(&lab->faults_lock);
    lab->faults[lab->nfaults++ % LAB_FAULTS_MAX] = *fault;
    pthread_mutex_unlock(&lab->faults_lock);
}

/* Before the guest runs: what the platform knows of the policy, and the devices' dma handles. */
static int lab_configure(struct lab *lab, char *error, size_t error_bytes)
{
    const struct policy *policy = lab->policy;
    int err = 0;

    lab->iommu = board_iommu(lab->board);
    if (lab->iommu)
        iommu_watch_faults(lab->iommu, lab_note_fault, lab);
    for (unsigned device = 0; device < policy->guest.ndevices && !err; device++) {
        const struct abi_policy_device *d = rules_device(policy, device);

        lab->dma[device] = board_dma(lab->board, device);
        if (!lab->dma[device])
            err = -ENODEV;
        if (!err && lab->iommu)
            err = iommu_allow_vectors(lab->iommu, d->endpoint, policy->device[device].vectors);
        for (unsigned r = 0; r < policy->guest.nregions && !err && lab->iommu; r++) {
            const struct abi_policy_region *region = &policy->guest.region[r];
            const struct iommu_reserved carve = {
                .range = { region->iova, region->iova + region->bytes - 1 },
                .kind = IOMMU_RESERVED,
            };

            if (region->kind == ABI_REGION_CARVE && (region->endpoints >> device & 1))
                err = iommu_add_reserved(lab->iommu, d->endpoint, &carve);
        }
        if (err)
            snprintf(error, error_bytes, "cannot wire %s to the IOMMU: %s", d->name,
                     strerror(-err));
    }
    return err;
}

/* Also where the attacks that want this are not wanted: what the guest sees is the same. */
static void lab_before_attach(struct lab *lab, unsigned device, uint64_t gpa, bool booted)
{
    for (unsigned i = 0; i < ATTACK_COUNT; i++) {
        if (attack_table[i]->before_attach)
            attack_table[i]->before_attach(lab, device, gpa, booted);
    }
}

/* The guest is up and waits: everything that is to be found out. */
static void lab_investigate(struct lab *lab)
{
    struct lab_result *result = lab->result;
    int err = lab_guest_meet(&lab->guest, lab->options->timeout_s ? lab->options->timeout_s * 1000
                                                                  : TIMEOUT_S * 1000);

    if (!err)
        err = lab_plant(lab);
    for (unsigned device = 0; device < lab->policy->guest.ndevices && !err; device++) {
        if (rules_device(lab->policy, device)->flags & ABI_DEVICE_EARLY)
            lab_before_attach(lab, device, lab_page(lab, LAB_PAGE_SECRET)->gpa, true);
    }
    if (!err)
        err = lab_set_up(lab);
    if (err && !lab->guest.failure[0])
        snprintf(lab->guest.failure, sizeof(lab->guest.failure), "cannot set the policy up: %s",
                 strerror(-err));
    if (!err)
        measures_exposure(lab);
    for (unsigned i = 0; i < ATTACK_COUNT && !err; i++) {
        if (attack_table[i]->prepare && lab_wanted(lab->options, i))
            attack_table[i]->prepare(lab);
    }
    lab_run_cells(lab);
    if (!lab->guest.failure[0] && lab->options->random_seconds)
        random_requests_run(lab);
    result->guest_lives = !lab->guest.failure[0];
    snprintf(result->guest_failure, sizeof(result->guest_failure), "%s", lab->guest.failure);
}

/* What the policy leaves open. */
static void lab_set_quotas(struct iommu_config *config, unsigned domains)
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

static int lab_run_machine(struct lab *lab, const struct vm_config *config, char *error,
                           size_t error_bytes)
{
    const struct vm_shape shape = boot_shape(config);
    struct board_config board_config = boot_board(config);
    struct boot_error boot_error;
    struct board *board = lab->board;
    struct vm *vm = lab->vm;
    int err;

    board_config.iommu = lab->policy->iommu;
    board_config.iommu_config = lab->policy->iommu_config;
    lab_set_quotas(&board_config.iommu_config, rules_domains(lab->policy));
    board_config.checkpoint = lab_guest_checkpoint;
    board_config.checkpoint_owner = &lab->guest;
    err = vm_create(vm, lab->options->kvm, &shape);
    if (err) {
        snprintf(error, error_bytes, "cannot create a virtual machine: %s", strerror(-err));
        return err;
    }
    err = board_create(board, vm, &board_config);
    if (err) {
        snprintf(error, error_bytes, "cannot create the devices: %s", strerror(-err));
        goto destroy_vm;
    }
    lab_guest_init(&lab->guest, vm);
    err = boot(vm, board, config, &boot_error);
    if (err) {
        snprintf(error, error_bytes, "%s", boot_error.text);
        goto destroy_board;
    }
    err = lab_configure(lab, error, error_bytes);
    if (err)
        goto destroy_board;
    for (unsigned device = 0; device < lab->policy->guest.ndevices; device++)
        lab_before_attach(lab, device, LAYOUT_FDT_GPA, false);
    err = vm_start(vm);
    if (err) {
        snprintf(error, error_bytes, "cannot start the CPUs' threads: %s", strerror(-err));
        goto destroy_board;
    }
    lab_investigate(lab);
    lab_guest_release(&lab->guest);
    vm_wait(vm, lab->guest.failure[0] ? 0 : STOP_TIMEOUT_MS);

destroy_board:
    vm_stop(vm, VM_END_HOST_STOP, 0);
    vm_wait(vm, -1);
    board_destroy(board);
    lab_guest_destroy(&lab->guest);
destroy_vm:
    vm_destroy(vm);
    return err;
}

/* A file for each disk: what is on it does not matter, but no two may hold it. */
static int lab_open_disk(char path[DISK_PATH_BYTES])
{
    int fd = memfd_create("strata-lab-disk", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)DISK_BYTES)) {
        close(fd);
        return -EIO;
    }
    snprintf(path, DISK_PATH_BYTES, "/proc/self/fd/%d", fd);
    return fd;
}

static int lab_run_with_disks(struct lab *lab, char *error, size_t error_bytes)
{
    struct board_device devices[ABI_POLICY_DEVICES_MAX];
    const struct abi_policy *guest = &lab->policy->guest;
    char disk[ABI_POLICY_DEVICES_MAX][DISK_PATH_BYTES];
    int disk_fd[ABI_POLICY_DEVICES_MAX];
    const struct vm_config config = {
        .boot_args = "exec=dma-lab",
        .memory_bytes = lab_memory_bytes(lab->policy),
        .vcpu_count = lab_cpus(),
        .huge_pages = MEMORY_4K,
        .devices = devices,
        .ndevices = guest->ndevices,
        .dma_mode = lab->policy->iommu ? "DMA" : "off",
        .policy = guest,
    };
    struct board board;
    struct vm vm;
    unsigned ready;
    int err = 0;

    lab->vm = &vm;
    lab->board = &board;
    lab->memory = &vm.memory;
    for (ready = 0; ready < guest->ndevices; ready++) {
        bool blk = guest->device[ready].kind == ABI_DEVICE_BLK;

        disk_fd[ready] = blk ? lab_open_disk(disk[ready]) : -1;
        if (blk && disk_fd[ready] < 0) {
            err = disk_fd[ready];
            snprintf(error, error_bytes, "cannot make a disk in memory: %s", strerror(-err));
            break;
        }
        devices[ready] = (struct board_device){
            .kind = blk ? BOARD_BLK : BOARD_PROBE,
            .endpoint = guest->device[ready].endpoint,
            .path = blk ? disk[ready] : NULL,
        };
    }
    if (!err)
        err = lab_run_machine(lab, &config, error, error_bytes);
    while (ready--) {
        if (disk_fd[ready] >= 0)
            close(disk_fd[ready]);
    }
    return err;
}

int lab_run(struct lab_result *result, const struct policy *policy,
            const struct lab_options *options, char *error, size_t error_bytes)
{
    struct lab *lab = calloc(1, sizeof(*lab));
    uint64_t start = monotonic_ns();
    int err = -ENOMEM;

    *result = (struct lab_result){ .policy = policy, .seed = options->seed };
    snprintf(error, error_bytes, "out of memory");
    if (!lab)
        return err;
    lab->policy = policy;
    lab->options = options;
    lab->result = result;
    lab->random = options->seed;
    lab->truth = malloc(ABI_LAB_ARENA_PAGES * ATTACK_PAGE_BYTES);
    result->ncells = lab_plan_cells(policy, options, NULL);
    result->cells = calloc(result->ncells + 1, sizeof(result->cells[0]));
    pthread_mutex_init(&lab->faults_lock, NULL);
    if (lab->truth && result->cells) {
        lab_plan_cells(policy, options, result->cells);
        err = lab_run_with_disks(lab, error, error_bytes);
    }
    pthread_mutex_destroy(&lab->faults_lock);
    free(lab->truth);
    free(lab);
    if (err)
        lab_result_free(result);
    result->elapsed_ns = monotonic_ns() - start;
    return err;
}

void lab_result_free(struct lab_result *result)
{
    free(result->cells);
    result->cells = NULL;
    result->ncells = 0;
}

bool lab_ok(const struct lab_result *result)
{
    return result->ncells && !result->differing && !result->random_failures && result->guest_lives;
}
