/*
 * The runner of all unit tests: TAP on standard output, exit status 1 if one fails.
 * Arguments name suites; without any, all run. `unit` runs the tests that need no KVM,
 * `unit --kvm` those that do. Exit status 3: they cannot run here, because there is no KVM.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/suites.h"
#include "vmm/machine/kvm.h"

static const struct {
    const char *name;
    Suite *(*create)(void);
} suites[] = {
    { "subprocess", subprocess_suite },
    { "config", config_suite },
    { "machine", machine_suite },
    { "measure", measure_suite },
    { "walks", walks_suite },
    { "room", available_memory_suite },
    { "tables", tables_suite },
    { "compare", compare_suite },
    { "measure_files", measure_files_suite },
    { "exits", exits_suite },
    { "workloads", workloads_suite },
    { "memory", memory_suite },
    { "bus", bus_suite },
    { "irq", irq_suite },
    { "cpuid", cpuid_suite },
    { "cpuid_mask", cpuid_mask_suite },
    { "backend", backend_suite },
    { "balloon", balloon_suite },
    { "console_ports", console_ports_suite },
    { "vcpu_state", vcpu_state_suite },
    { "pause", pause_suite },
    { "restore", restore_suite },
    { "vm", vm_suite },
    { "delay", delay_suite },
    { "devices", devices_suite },
    { "legacy", legacy_suite },
    { "virtqueue", virtqueue_suite },
    { "virtio_mmio", virtio_mmio_suite },
    { "virtio_devices", virtio_devices_suite },
    { "board", board_suite },
    { "dma_request", dma_request_suite },
    { "iopt", iopt_suite },
    { "iommu", iommu_suite },
    { "iommu_domain", iommu_domain_suite },
    { "iommu_model", iommu_model_suite },
    { "iommu_state", iommu_state_suite },
    { "dma", dma_suite },
    { "probe", probe_suite },
    { "file", file_suite },
    { "blk", blk_suite },
    { "net", net_suite },
    { "vsock", vsock_suite },
    { "hostile", hostile_suite },
    { "elf", elf_suite },
    { "fdt", fdt_suite },
    { "boot", boot_suite },
    { "bzimage", bzimage_suite },
    { "multiboot", multiboot_suite },
    { "kernel", kernel_suite },
    { "acpi", acpi_suite },
    { "paging", paging_suite },
    { "translate", translate_suite },
    { "inspect", inspect_suite },
    { "inspect_kvm", inspect_kvm_suite },
    { "guest", guest_suite },
    { "disasm", disasm_suite },
    { "policy", policy_suite },
    { "harness", harness_suite },
    { "dma-report", dma_report_suite },
    { "tour", tour_suite },
    { "library", library_suite },
    { "virtio_iommu_requests", virtio_iommu_requests_suite },
    { "virtio_iommu_events", virtio_iommu_events_suite },
    { "options", options_suite },
    { "size", size_suite },
    { "json", json_suite },
    { "html", html_suite },
    { "picture", memory_map_suite },
    { "control", control_suite },
    { "watchdog", watchdog_suite },
    { "io_thread", io_thread_suite },
    { "terminal", terminal_suite },
    { "peers", peers_suite },
};

#define NSUITES (sizeof(suites) / sizeof(suites[0]))

/*
 * Read by AddressSanitizer, in a build with it. Check's runner allocates and frees a message for
 * each assertion, millions in all. A quarantine of the usual 256 MiB would keep them, and the
 * leak check at the end of each test, a fork of the runner, would look at every one.
 */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "quarantine_size_mb=4";
}

static bool wanted(const char *name, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], name) == 0)
            return true;
    }
    return argc == 0;
}

/* 0, or -errno after saying why not. */
static int check_kvm(void)
{
    struct kvm_host host;
    int err = kvm_open(&host);

    if (err)
        printf("Bail out! no usable /dev/kvm (%s); scripts/emuhost any -- build/unit --kvm\n",
               strerror(-err));
    else
        kvm_close(&host);
    return err;
}

int main(int argc, char **argv)
{
    SRunner *runner = NULL;
    bool kvm = argc > 1 && strcmp(argv[1], "--kvm") == 0;
    int first = kvm ? 2 : 1, failed;

    if (kvm && check_kvm())
        return 3;

    /* A test's limit is for one that hangs; none is to reach it because the machine is busy. */
    (void)setenv("CK_TIMEOUT_MULTIPLIER", "10", 0);

    for (size_t i = 0; i < NSUITES; i++) {
        if (!wanted(suites[i].name, argc - first, argv + first))
            continue;
        if (!runner)
            runner = srunner_create(suites[i].create());
        else
            srunner_add_suite(runner, suites[i].create());
    }
    if (!runner) {
        fprintf(stderr, "unit: no such suite; the suites are:");
        for (size_t i = 0; i < NSUITES; i++)
            fprintf(stderr, " %s", suites[i].name);
        fputc('\n', stderr);
        return 2;
    }
    if (!srunner_has_tap(runner))
        srunner_set_tap(runner, "-");
    srunner_run_tagged(runner, NULL, NULL, kvm ? NEEDS_KVM : NULL, kvm ? NULL : NEEDS_KVM,
                       CK_SILENT);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
