/*
 * The unit tests' suites, one for each module, and what they share.
 */
#ifndef STRATA_TESTS_SUITES_H
#define STRATA_TESTS_SUITES_H

#include <check.h>

/*
 * The tag (tcase_set_tags) of test cases that need a KVM that works. `unit` leaves them out,
 * `unit --kvm` runs them and no others, on whichever host there is one.
 */
#define NEEDS_KVM "kvm"

Suite *acpi_suite(void);
Suite *backend_suite(void);
Suite *balloon_suite(void);
Suite *subprocess_suite(void);
Suite *config_suite(void);
Suite *machine_suite(void);
Suite *console_ports_suite(void);
Suite *blk_suite(void);
Suite *board_suite(void);
Suite *boot_suite(void);
Suite *bus_suite(void);
Suite *irq_suite(void);
Suite *bzimage_suite(void);
Suite *control_suite(void);
Suite *cpuid_mask_suite(void);
Suite *cpuid_suite(void);
Suite *delay_suite(void);
Suite *devices_suite(void);
Suite *disasm_suite(void);
Suite *dma_request_suite(void);
Suite *dma_suite(void);
Suite *dma_report_suite(void);
Suite *elf_suite(void);
Suite *fdt_suite(void);
Suite *file_suite(void);
Suite *guest_suite(void);
Suite *hostile_suite(void);
Suite *html_suite(void);
Suite *iommu_domain_suite(void);
Suite *iommu_model_suite(void);
Suite *inspect_suite(void);
Suite *inspect_kvm_suite(void);
Suite *iommu_state_suite(void);
Suite *iommu_suite(void);
Suite *iopt_suite(void);
Suite *json_suite(void);
Suite *harness_suite(void);
Suite *measure_suite(void);
Suite *walks_suite(void);
Suite *available_memory_suite(void);
Suite *tables_suite(void);
Suite *compare_suite(void);
Suite *measure_files_suite(void);
Suite *exits_suite(void);
Suite *workloads_suite(void);
Suite *legacy_suite(void);
Suite *kernel_suite(void);
Suite *memory_suite(void);
Suite *net_suite(void);
Suite *multiboot_suite(void);
Suite *options_suite(void);
Suite *paging_suite(void);
Suite *memory_map_suite(void);
Suite *policy_suite(void);
Suite *probe_suite(void);
Suite *size_suite(void);
Suite *tour_suite(void);
Suite *library_suite(void);
Suite *translate_suite(void);
Suite *virtio_devices_suite(void);
Suite *virtio_mmio_suite(void);
Suite *virtqueue_suite(void);
Suite *virtio_iommu_events_suite(void);
Suite *virtio_iommu_requests_suite(void);
Suite *vsock_suite(void);
Suite *vcpu_state_suite(void);
Suite *pause_suite(void);
Suite *restore_suite(void);
Suite *vm_suite(void);
Suite *watchdog_suite(void);
Suite *io_thread_suite(void);
Suite *terminal_suite(void);
Suite *peers_suite(void);

#endif
