#include "devices/hostile/probe_command.h"

#include <errno.h>
#include <string.h>

#define SWEEP_BYTES 8
#define FILL_BYTES  4096 /* of one request of FILL */

/* What a command was told and what came of it: the request's own copy. */
struct job {
    uint64_t address, length, stride, value, flags;
    bool claims;
    uint32_t requester;
    uint64_t result, first;
    int error;
};

/* ---- Interrupts: with the dma handle's lock held -------------------------------- */

void probe_set_line(struct probe *probe)
{
    irq_source_set(&probe->irq, probe->state.irq_status != 0);
}

void probe_raise(struct probe *probe, uint32_t bits)
{
    probe->state.irq_status |= bits;
    probe_set_line(probe);
}

/* ---- Requests: without the lock, while `busy` keeps others out ------------ */

bool probe_begin(struct probe *probe)
{
    return !atomic_exchange(&probe->busy, true);
}

static void end(struct probe *probe)
{
    atomic_store(&probe->busy, false);
}

/* One request; false if the device saw an error. */
static bool request(struct probe *probe, struct job *job, uint64_t address, void *data,
                    uint64_t len, enum dma_direction direction)
{
    const struct dma_request request = {
        .iova = address,
        .len = len,
        .direction = direction,
        .data = data,
        .translated = job->flags & ABI_PROBE_FLAG_ATS,
        .claims = job->claims,
        .requester = job->requester,
    };
    struct dma_outcome outcome;

    dma_perform(probe->dma, &request, &outcome);
    job->result += outcome.done;
    if (!job->error)
        job->error = outcome.error;
    return !outcome.error;
}

static enum dma_direction direction_of(const struct job *job)
{
    return job->flags & ABI_PROBE_FLAG_WRITE ? DMA_WRITE : DMA_READ;
}

static void access_memory(struct probe *probe, struct job *job)
{
    if (!job->length || job->length > ABI_PROBE_BUFFER_BYTES)
        job->error = -EINVAL;
    else
        request(probe, job, job->address, probe->state.buffer, job->length, direction_of(job));
}

static void sweep(struct probe *probe, struct job *job)
{
    uint64_t probes = job->stride ? (job->length + job->stride - 1) / job->stride : 0;
    uint64_t answers = 0;

    /* The sum above wraps only for a length that is too much for any stride allowed. */
    if (!job->stride || job->length > UINT64_MAX - job->stride || probes > ABI_PROBE_SWEEP_MAX) {
        job->error = -EINVAL;
        return;
    }
    for (uint64_t i = 0; i < probes; i++) {
        uint64_t at = job->address + i * job->stride, word = job->value;

        if (!request(probe, job, at, &word, SWEEP_BYTES, direction_of(job)))
            continue;
        if (!answers)
            job->first = at;
        memcpy(probe->state.buffer + answers * SWEEP_BYTES % ABI_PROBE_BUFFER_BYTES, &word,
               SWEEP_BYTES);
        answers++;
    }
    job->result = answers;
}

static void fill(struct probe *probe, struct job *job)
{
    uint8_t bytes[FILL_BYTES];

    if (!job->length || job->length > ABI_PROBE_FILL_MAX) {
        job->error = -EINVAL;
        return;
    }
    memset(bytes, (int)(job->value & 0xff), sizeof(bytes));
    for (uint64_t at = 0; at < job->length; at += FILL_BYTES) {
        uint64_t len = job->length - at < FILL_BYTES ? job->length - at : FILL_BYTES;

        if (!request(probe, job, job->address + at, bytes, len, DMA_WRITE))
            break;
    }
}

static void message(struct probe *probe, struct job *job)
{
    uint32_t data = (uint32_t)job->value;

    request(probe, job, job->address, &data, sizeof(data), DMA_WRITE);
}

/*
 * A device with a translation cache of its own (or a model of one that keeps a host
 * pointer): what it kept is good only as long as the dma handle's generation says so.
 */
static void remember(struct probe *probe, struct job *job)
{
    struct dma_window *window = &probe->remembered;
    bool fault = false;

    *window = (struct dma_window){ 0 };
    if (!job->length || job->length > ABI_PROBE_BUFFER_BYTES) {
        job->error = -EINVAL;
        return;
    }
    dma_lock(probe->dma);
    if (dma_window(probe->dma, window, job->address, job->length, direction_of(job), &fault))
        job->result = job->length;
    else
        job->error = fault ? -EFAULT : -EINVAL;
    dma_unlock(probe->dma);
}

static void replay(struct probe *probe, struct job *job)
{
    struct dma_window *window = &probe->remembered;
    bool fault = false;
    void *host;

    if (!window->len) {
        job->error = -ENOENT;
        return;
    }
    dma_lock(probe->dma);
    host = dma_window(probe->dma, window, window->iova, window->len, window->direction, &fault);
    if (!host) {
        job->error = fault ? -EFAULT : -EINVAL;
    } else {
        if (window->direction == DMA_WRITE)
            memcpy(host, probe->state.buffer, window->len);
        else
            memcpy(probe->state.buffer, host, window->len);
        job->result = window->len;
    }
    dma_unlock(probe->dma);
}

/* The result of a command, with the lock held. */
static void publish(struct probe *probe, const struct job *job)
{
    probe->state.result = job->result;
    probe->state.error = (uint64_t)-job->error;
    probe->state.first = job->first;
}

/* ---- The DMA engine that edu has ------------------------------------------ */

/* With the lock held. */
static void complete_dma(struct probe *probe)
{
    uint64_t command = probe->state.dma_command;

    probe->state.withheld = false;
    probe->state.dma_command &= ~(uint64_t)ABI_PROBE_DMA_START;
    if (command & ABI_PROBE_DMA_IRQ)
        probe_raise(probe, ABI_PROBE_IRQ_DMA);
}

void probe_run_dma(struct probe *probe)
{
    struct probe_state *state = &probe->state;
    struct job job = { 0 };
    uint64_t inside, outside;
    bool to_ram;

    dma_lock(probe->dma);
    to_ram = state->dma_command & ABI_PROBE_DMA_TO_RAM;
    inside = (to_ram ? state->dma_source : state->dma_target) - ABI_PROBE_BUFFER;
    outside = to_ram ? state->dma_target : state->dma_source;
    job.length = state->dma_count;
    dma_unlock(probe->dma);

    if (job.length > ABI_PROBE_BUFFER_BYTES || inside > ABI_PROBE_BUFFER_BYTES - job.length)
        job.error = -EINVAL;
    else if (job.length)
        request(probe, &job, outside, state->buffer + inside, job.length,
                to_ram ? DMA_WRITE : DMA_READ);

    dma_lock(probe->dma);
    /* A reset meanwhile has taken the command back: then nothing completes. */
    if (state->dma_command & ABI_PROBE_DMA_START) {
        publish(probe, &job);
        if (state->withholding)
            state->withheld = true;
        else
            complete_dma(probe);
    }
    end(probe);
    dma_unlock(probe->dma);
}

/* ---- Attack functions ----------------------------------------------------- */

void probe_run_attack(struct probe *probe, uint64_t attack)
{
    struct probe_state *state = &probe->state;
    struct job job;

    dma_lock(probe->dma);
    job = (struct job){
        .address = state->address,
        .length = state->length,
        .stride = state->stride,
        .value = state->value,
        .flags = state->flags,
        .claims = attack == ABI_PROBE_SPOOF,
        .requester = (uint32_t)state->requester,
    };
    state->attack = (uint32_t)attack;
    dma_unlock(probe->dma);

    switch (attack) {
    case ABI_PROBE_ACCESS:
    case ABI_PROBE_SPOOF: access_memory(probe, &job); break;
    case ABI_PROBE_SWEEP: sweep(probe, &job); break;
    case ABI_PROBE_REMEMBER: remember(probe, &job); break;
    case ABI_PROBE_REPLAY: replay(probe, &job); break;
    case ABI_PROBE_MESSAGE: message(probe, &job); break;
    case ABI_PROBE_FILL: fill(probe, &job); break;
    case ABI_PROBE_WITHHOLD:
    case ABI_PROBE_RELEASE: break;
    default: job.error = -EINVAL; break;
    }

    dma_lock(probe->dma);
    if (attack == ABI_PROBE_WITHHOLD || attack == ABI_PROBE_RELEASE)
        state->withholding = attack == ABI_PROBE_WITHHOLD;
    if (attack == ABI_PROBE_RELEASE && state->withheld)
        complete_dma(probe);
    publish(probe, &job);
    state->attack = ABI_PROBE_IDLE;
    end(probe);
    dma_unlock(probe->dma);
}

void probe_attack(struct probe *probe, enum abi_probe_attack attack)
{
    if (attack != ABI_PROBE_IDLE && probe_begin(probe))
        probe_run_attack(probe, attack);
}
