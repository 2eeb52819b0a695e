/* The bounded queue of fault records: a full one drops the newest and counts it. */
#include "devices/iommu/faults.h"

#include <errno.h>
#include <stdlib.h>

#include "devices/iommu/unit.h"

int iommu_faults_create(struct iommu_faults *faults, uint32_t max)
{
    *faults = (struct iommu_faults){ .ring = calloc(max, sizeof(*faults->ring)), .size = max };
    if (!faults->ring)
        return -ENOMEM;
    pthread_mutex_init(&faults->lock, NULL);
    return 0;
}

void iommu_faults_destroy(struct iommu_faults *faults)
{
    pthread_mutex_destroy(&faults->lock);
    free(faults->ring);
}

bool iommu_faults_record(struct iommu *iommu, const struct iommu_fault *fault)
{
    struct iommu_faults *faults = &iommu->faults;
    struct iommu_fault record = *fault;
    bool queued = false;

    if (!iommu_checks(iommu, IOMMU_CHECK_RECORD))
        return false;
    if (!iommu_checks(iommu, IOMMU_CHECK_FAULT_ADDRESS))
        record.iova += IOPT_PAGE_BYTES;
    if (!iommu_checks(iommu, IOMMU_CHECK_FAULT_ACCESS))
        record.access = IOMMU_READ;

    pthread_mutex_lock(&faults->lock);
    faults->count++;
    if (faults->used < faults->size) {
        faults->ring[(faults->head + faults->used) % faults->size] = record;
        faults->used++;
        queued = true;
    } else {
        faults->dropped++;
    }
    if (faults->seen)
        faults->seen(faults->seen_owner, &record);
    pthread_mutex_unlock(&faults->lock);
    return queued;
}

void iommu_faults_forget(struct iommu_faults *faults)
{
    pthread_mutex_lock(&faults->lock);
    faults->used = 0;
    pthread_mutex_unlock(&faults->lock);
}

void iommu_faults_wake(struct iommu_faults *faults)
{
    if (faults->wake)
        faults->wake(faults->wake_owner);
}

bool iommu_next_fault(struct iommu *iommu, struct iommu_fault *fault)
{
    struct iommu_faults *faults = &iommu->faults;
    bool any;

    pthread_mutex_lock(&faults->lock);
    any = faults->used;
    if (any) {
        *fault = faults->ring[faults->head];
        faults->head = (faults->head + 1) % faults->size;
        faults->used--;
    }
    pthread_mutex_unlock(&faults->lock);
    return any;
}

void iommu_on_fault(struct iommu *iommu, void (*wake)(void *owner), void *owner)
{
    iommu->faults.wake = wake;
    iommu->faults.wake_owner = owner;
}

void iommu_watch_faults(struct iommu *iommu,
                        void (*seen)(void *owner, const struct iommu_fault *fault), void *owner)
{
    pthread_mutex_lock(&iommu->faults.lock);
    iommu->faults.seen = seen;
    iommu->faults.seen_owner = owner;
    pthread_mutex_unlock(&iommu->faults.lock);
}
