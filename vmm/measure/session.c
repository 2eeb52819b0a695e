#include "vmm/measure/session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TIMEOUT_S 60

/* Waits for the program: 0, or -errno with its failure. */
static int session_wait(struct session *session)
{
    int err = program_wait(&session->program, session->timeout_s * 1000);

    if (err == -ETIMEDOUT)
        snprintf(session->program.failure, sizeof(session->program.failure),
                 "no answer within %u s", session->timeout_s);
    return err;
}

/* Ends the run, whoever waits for whom. */
static void session_end_run(struct session *session)
{
    machine_stop(&session->machine, VM_END_HOST_STOP, 0);
    program_release(&session->program, 0);
    machine_wait(&session->machine, -1);
}

/* The machine that the parameters ask for: 0 or -errno. */
static int session_configure(struct session *session, const struct session_params *params,
                             struct error *error)
{
    struct vm_config *config = &session->config;
    int err = 0;

    config_init(config);
    config->boot_args = "exec=measure";
    config->memory_bytes = params->memory_bytes;
    config->vcpu_count = params->cpus;
    config->huge_pages = (int)params->backing;
    config->dirty_ring_bytes = params->dirty_ring_bytes;
    for (unsigned i = 0; i < params->ndevices && !err; i++)
        err = config_add_device(config, &params->devices[i], error);
    return err;
}

/* Boots the machine and waits for its program. */
static int session_start(struct session *session, struct error *error)
{
    int err = machine_boot(&session->machine, error);

    if (!err)
        err = machine_start(&session->machine, error);
    if (err)
        return err;
    err = session_wait(session);
    if (err) {
        error_set(error, err, "the measuring program did not start: %s", session->program.failure);
        session_end_run(session);
    }
    return err;
}

int session_open(struct session *session, const struct kvm_host *host,
                 const struct session_params *params, char *text, size_t text_bytes)
{
    static const struct program_config program_config = { .exercise = ABI_MEASURE,
                                                          .last_step = UINT32_MAX,
                                                          .nargs = 1 };
    struct machine_hooks hooks = MACHINE_NO_HOOKS;
    struct error error;
    int err;

    memset(session, 0, sizeof(*session));
    session->timeout_s = params->timeout_s ? params->timeout_s : TIMEOUT_S;
    program_init(&session->program, &session->machine.vm, &program_config);
    hooks.checkpoint = program_checkpoint;
    hooks.checkpoint_owner = &session->program;
    err = session_configure(session, params, &error);
    if (!err)
        err = machine_create(&session->machine, host, &session->config, &hooks, &error);
    if (err)
        goto destroy_program;
    session->tsc_hz = vcpu_tsc_hz(&session->machine.vm.vcpus[0]);
    err = params->prepare ? params->prepare(params->prepare_owner, session) : 0;
    if (err)
        error_set(&error, err, "cannot prepare the machine: %s", strerror(-err));
    else
        err = session_start(session, &error);
    if (!err)
        return 0;
    machine_destroy(&session->machine);

destroy_program:
    snprintf(text, text_bytes, "%s", error.text);
    program_destroy(&session->program);
    return err;
}

void session_close(struct session *session)
{
    session_end_run(session);
    machine_destroy(&session->machine);
    program_destroy(&session->program);
}

int session_command(struct session *session, const struct abi_command *command,
                    struct abi_reply *reply)
{
    struct program *program = &session->program;
    uint64_t page = program->record.arg[0];
    int err;

    if (program->failure[0])
        return -ESHUTDOWN;
    err = program_write(program, page + offsetof(struct abi_shared_page, command), command,
                        sizeof(*command));
    if (!err)
        err = program_resume(program);
    if (!err)
        err = session_wait(session);
    if (!err)
        err = program_read(program,
                           program->record.arg[0] + offsetof(struct abi_shared_page, reply), reply,
                           sizeof(*reply));
    if (err && !program->failure[0])
        snprintf(program->failure, sizeof(program->failure), "the program's shared page is gone");
    return err;
}
