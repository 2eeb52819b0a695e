/*
 * Records of faults on their way from the unit to a driver or a watcher. With no lock but its own.
 */
#ifndef STRATA_IOMMU_FAULTS_H
#define STRATA_IOMMU_FAULTS_H

#include <stdbool.h>
#include <stdint.h>

struct iommu;
struct iommu_fault;
struct iommu_faults;

/* Room for `max` records: 0 or -ENOMEM. record: whether it was queued, and a reader is to be woken.
 */
int iommu_faults_create(struct iommu_faults *faults, uint32_t max);
void iommu_faults_destroy(struct iommu_faults *faults);
bool iommu_faults_record(struct iommu *iommu, const struct iommu_fault *fault);
void iommu_faults_forget(struct iommu_faults *faults);
void iommu_faults_wake(struct iommu_faults *faults);

#endif
