/* Channels: byte pipes through the kernel, one frame of buffer each. */
#ifndef STRATA_KERNEL_PROC_CHANNEL_H
#define STRATA_KERNEL_PROC_CHANNEL_H

#include "guest/kernel/proc/process.h"

/* A channel lives until it is dropped or its owner ends. */
int64_t channel_create(const struct process *owner);
int64_t channel_drop(uint64_t number);
void channel_drop_owned(const struct process *owner);

/* All of len bytes at once, or the caller waits; len at most 4096. */
int64_t channel_send(struct process *p, uint64_t number, uint64_t va, uint64_t len);
int64_t channel_recv(struct process *p, uint64_t number, uint64_t va, uint64_t len);

#endif
