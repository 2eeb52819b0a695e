/* Devices and their domains: what the policy gives each, at every attach. */
#ifndef STRATA_KERNEL_DMA_DMA_ATTACH_H
#define STRATA_KERNEL_DMA_DMA_ATTACH_H

struct device;

/* As the device's mode says; nothing to do where it is not translated. 0 or -ABI_E*. */
int dma_attach(struct device *device);

/* Off its domain; its mappings are gone, but those of drivers come back with an attach. */
void dma_detach(struct device *device);

#endif
