#include "devices/hostile/probe.h"

#include <errno.h>
#include <string.h>

#include "vmm/machine/irq.h"
#include "vmm/machine/vm.h"

#define WIDE_REGISTERS 0x80 /* from here on a register may have 64 bits */
#define FACTORIAL_LAST 33   /* 2^32 divides n! for every n beyond */
#define SWEEP_BYTES    8
#define FILL_BYTES     4096 /* of one request of FILL */

/* What a command was told and what came of it: the request's own copy. */
struct job {
    uint64_t address, length, stride, value, flags;
    bool claims;
    uint32_t requester;
    uint64_t result, first;
    int error;
};

/* ---- Interrupts: with the door's lock held -------------------------------- */

static void set_line(struct probe *probe)
{
    /* It fails only where the chip has no such line, and then nobody listens there. */
    if (probe->vm)
        irq_line(probe->vm, probe->gsi, probe->state.irq_status != 0);
}

static void raise_irq(struct probe *probe, uint32_t bits)
{
    probe->state.irq_status |= bits;
    set_line(probe);
}

static void acknowledge(struct probe *probe, uint32_t bits)
{
    probe->state.irq_status &= ~bits;
    set_line(probe);
}

/* ---- Requests: without the lock, while `busy` keeps others out ------------ */

static bool begin(struct probe *probe)
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
 * pointer): what it kept is good only as long as the door's generation says so.
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
        raise_irq(probe, ABI_PROBE_IRQ_DMA);
}

/* Carries out what DMA_COMMAND says: busy, without the lock. */
static void run_dma(struct probe *probe)
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

/* Busy, without the lock. */
static void run_attack(struct probe *probe, uint64_t attack)
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
    if (attack != ABI_PROBE_IDLE && begin(probe))
        run_attack(probe, attack);
}

/* ---- Registers: with the lock held ---------------------------------------- */

static bool valid(uint64_t offset, unsigned size)
{
    return (size == 4 || (size == 8 && offset >= WIDE_REGISTERS)) && offset % size == 0;
}

/* The 64-bit register that the guest may write without further effect, or NULL. */
static uint64_t *parameter(struct probe *probe, uint64_t offset)
{
    struct probe_state *state = &probe->state;

    switch (offset & ~7ull) {
    case ABI_PROBE_DMA_SOURCE: return &state->dma_source;
    case ABI_PROBE_DMA_TARGET: return &state->dma_target;
    case ABI_PROBE_DMA_COUNT: return &state->dma_count;
    case ABI_PROBE_ADDRESS: return &state->address;
    case ABI_PROBE_LENGTH: return &state->length;
    case ABI_PROBE_STRIDE: return &state->stride;
    case ABI_PROBE_REQUESTER: return &state->requester;
    case ABI_PROBE_VALUE: return &state->value;
    case ABI_PROBE_FLAGS: return &state->flags;
    default: return NULL;
    }
}

static uint64_t read_wide(struct probe *probe, uint64_t offset)
{
    const struct probe_state *state = &probe->state;
    const uint64_t *at = parameter(probe, offset);

    if (at)
        return *at;
    switch (offset & ~7ull) {
    case ABI_PROBE_DMA_COMMAND: return state->dma_command;
    case ABI_PROBE_ATTACK: return state->attack;
    case ABI_PROBE_RESULT: return state->result;
    case ABI_PROBE_ERROR: return state->error;
    case ABI_PROBE_FIRST: return state->first;
    default: return ~0ull;
    }
}

static uint64_t read_narrow(const struct probe_state *state, uint64_t offset)
{
    switch (offset) {
    case ABI_PROBE_ID: return ABI_PROBE_ID_VALUE;
    case ABI_PROBE_LIVENESS: return state->liveness;
    case ABI_PROBE_FACTORIAL: return state->factorial;
    case ABI_PROBE_STATUS: return state->status;
    case ABI_PROBE_IRQ_STATUS: return state->irq_status;
    default: return ~0u;
    }
}

static uint64_t probe_read(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size)
{
    struct probe *probe = owner;
    uint64_t value = ~0ull;

    (void)vcpu;
    dma_lock(probe->dma);
    if (!valid(offset, size))
        probe->bad_accesses++;
    else if (offset < WIDE_REGISTERS)
        value = read_narrow(&probe->state, offset);
    else
        value = read_wide(probe, offset) >> (offset % 8 * 8);
    dma_unlock(probe->dma);
    return value;
}

/* Done before anybody can look, so the status bit for "computing" is never seen set. */
static void compute_factorial(struct probe *probe, uint32_t n)
{
    uint32_t product = n > FACTORIAL_LAST ? 0 : 1;

    for (uint32_t i = 2; product && i <= n; i++)
        product *= i;
    probe->state.factorial = product;
    if (probe->state.status & ABI_PROBE_STATUS_IRQ)
        raise_irq(probe, ABI_PROBE_IRQ_FACT);
}

static void write_narrow(struct probe *probe, uint64_t offset, uint32_t value)
{
    switch (offset) {
    case ABI_PROBE_LIVENESS: probe->state.liveness = ~value; break;
    case ABI_PROBE_FACTORIAL: compute_factorial(probe, value); break;
    case ABI_PROBE_STATUS: probe->state.status = value & ABI_PROBE_STATUS_IRQ; break;
    case ABI_PROBE_IRQ_RAISE: raise_irq(probe, value); break;
    case ABI_PROBE_IRQ_ACK: acknowledge(probe, value); break;
    default: break;
    }
}

static void reset(struct probe *probe)
{
    struct probe_state *state = &probe->state;

    memset(state, 0, offsetof(struct probe_state, buffer));
    set_line(probe);
}

/* What a register write sets off, once the lock is free. */
struct start {
    bool dma;
    uint64_t attack;
};

static void write_command(struct probe *probe, uint64_t value, struct start *start)
{
    const uint64_t bits = ABI_PROBE_DMA_START | ABI_PROBE_DMA_TO_RAM | ABI_PROBE_DMA_IRQ;

    if (probe->state.dma_command & ABI_PROBE_DMA_START)
        return;
    if (value & ABI_PROBE_DMA_START) {
        start->dma = begin(probe);
        if (!start->dma)
            return;
    }
    probe->state.dma_command = value & bits;
}

static void write_wide(struct probe *probe, uint64_t offset, uint64_t value, struct start *start)
{
    uint64_t *at = parameter(probe, offset);
    bool dma = offset < ABI_PROBE_ATTACK;

    if (at) {
        if (dma && (probe->state.dma_command & ABI_PROBE_DMA_START))
            return;
        *at = offset % 8 ? (*at & UINT32_MAX) | value << 32 : value;
        return;
    }
    switch (offset) {
    case ABI_PROBE_DMA_COMMAND: write_command(probe, value, start); break;
    case ABI_PROBE_ATTACK:
        if (value && begin(probe))
            start->attack = value;
        break;
    case ABI_PROBE_RESET: reset(probe); break;
    default: break;
    }
}

static void probe_write(void *owner, struct vcpu *vcpu, uint64_t offset, unsigned size,
                        uint64_t value)
{
    struct probe *probe = owner;
    struct start start = { 0 };

    (void)vcpu;
    if (size == 4)
        value = (uint32_t)value;
    dma_lock(probe->dma);
    if (!valid(offset, size))
        probe->bad_accesses++;
    else if (offset < WIDE_REGISTERS)
        write_narrow(probe, offset, (uint32_t)value);
    else
        write_wide(probe, offset, value, &start);
    dma_unlock(probe->dma);
    if (start.dma)
        run_dma(probe);
    if (start.attack)
        run_attack(probe, start.attack);
}

int probe_create(struct probe *probe, struct vm *vm, struct dma *dma, uint64_t base, unsigned gsi)
{
    memset(probe, 0, sizeof(*probe));
    probe->vm = vm;
    probe->dma = dma;
    probe->gsi = gsi;
    probe->region = (struct bus_region){ .base = base,
                                         .len = ABI_PROBE_BYTES,
                                         .owner = probe,
                                         .read = probe_read,
                                         .write = probe_write };
    return vm ? bus_add(&vm->mmio, &probe->region) : 0;
}

void probe_destroy(struct probe *probe)
{
    (void)probe;
}
