/*
 * Where commands are carried out (guest/abi/measure.h): in ring 3 of the bundled guest, on a
 * machine of its own, or in this process, by the same source.
 *
 * While no command is out, the program waits (vmm/launch/program.h), and the host may do with
 * the guest's memory what the experiment wants.
 */
#ifndef STRATA_MEASURE_SESSION_H
#define STRATA_MEASURE_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi/measure.h"
#include "vmm/launch/machine.h"
#include "vmm/launch/program.h"

struct session;

struct session_params {
    uint64_t memory_bytes; /* of the guest */
    unsigned cpus;
    enum memory_backing backing;
    uint32_t dirty_ring_bytes;           /* as in struct vm_config */
    unsigned timeout_s;                  /* for the start, and for one command; 0: 60 */
    const struct config_device *devices; /* NULL: none */
    unsigned ndevices;
    /* What else the machine is to have, before it starts: 0 or -errno. NULL: nothing. */
    int (*prepare)(void *owner, struct session *session);
    void *prepare_owner;
};

struct session {
    struct vm_config config;
    struct machine machine;
    unsigned timeout_s;
    uint64_t tsc_hz;
    struct program program; /* with a failure nothing can be commanded any more */
};

/*
 * Starts a machine with the measuring program in it, which waits for commands. 0; or -errno
 * and one line, with nothing left behind.
 */
int session_open(struct session *session, const struct kvm_host *host,
                 const struct session_params *params, char *error, size_t error_bytes);
void session_close(struct session *session);

/*
 * Has a command carried out and waits for the answer, whose status is the command's own. -errno
 * where there is none: the guest ended, or took too long; session->program.failure says it, and no
 * later command is taken.
 */
int session_command(struct session *session, const struct abi_command *command,
                    struct abi_reply *reply);

#endif
