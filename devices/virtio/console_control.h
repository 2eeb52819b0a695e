/*
 * Messages of the control queues of a virtio-console with ports (virtio 1.2, 5.3.6.2). With the
 * lock of the device's dma handle held.
 */
#ifndef STRATA_VIRTIO_CONSOLE_CONTROL_H
#define STRATA_VIRTIO_CONSOLE_CONTROL_H

#include <stdbool.h>

struct virtio_console;

/* Takes messages of the driver, a turn of them: true if there may be more. */
bool console_control_take(struct virtio_console *console);
/* Sends what there is to tell, as far as the driver has buffers for it. */
void console_control_send(struct virtio_console *console);

#endif
