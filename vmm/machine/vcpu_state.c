#include "vmm/machine/vcpu_state.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/machine/vm.h"

#define MSR_TSC         0x10u /* Intel SDM vol. 4, 2.1 */
#define TSC_FAR_SECONDS 10u

#define XSAVE_BYTES     (uint32_t)sizeof(struct kvm_xsave) /* of KVM_GET_XSAVE */

/* What is one structure and two calls. In the order in which it is set. */
struct vcpu_state_part {
    const char *name;
    unsigned long get, set;
    size_t offset;
    uint32_t optional; /* VCPU_STATE_…; 0: every KVM has it */
};

#define PART(NAME, field, bit)                                          \
    {                                                                   \
        .name = #NAME, .get = KVM_GET_##NAME, .set = KVM_SET_##NAME,    \
        .offset = offsetof(struct vcpu_state, field), .optional = (bit) \
    }

/* Control registers and the APIC's base before what is checked against them. */
static const struct vcpu_state_part before_msrs[] = {
    PART(SREGS, sregs, 0),
    PART(REGS, regs, 0),
    PART(XCRS, xcrs, VCPU_STATE_XCRS),
    PART(DEBUGREGS, debugregs, VCPU_STATE_DEBUGREGS),
    /* Before the MSRs: the TSC's deadline needs the timer's mode. */
    PART(LAPIC, lapic, 0),
};

/* KVM_SET_REGS and interrupts of the APIC would change these. */
static const struct vcpu_state_part after_msrs[] = {
    PART(VCPU_EVENTS, events, VCPU_STATE_EVENTS),
    PART(MP_STATE, mp_state, 0),
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct vcpu_state_why {
    char *text;
    size_t bytes;
};

static void vcpu_state_say(const struct vcpu_state_why *why, const char *format, ...)
{
    size_t used = strlen(why->text);
    va_list args;

    va_start(args, format);
    vsnprintf(why->text + used, why->bytes - used, format, args);
    va_end(args);
}

/* ---- Reading ------------------------------------------------------------------------------- */

/* The half of an exit that KVM does when the vCPU comes back: registers are right after it. */
static int vcpu_state_complete_exit(const struct vcpu *vcpu)
{
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (ioctl(vcpu->fd, KVM_RUN, 0) == 0)
        return -EAGAIN;
    return errno == EINTR || errno == EAGAIN ? 0 : -errno;
}

static int vcpu_state_get_parts(const struct vcpu *vcpu, const struct vcpu_state_part *parts,
                                size_t count, struct vcpu_state *state,
                                const struct vcpu_state_why *why)
{
    for (size_t i = 0; i < count; i++) {
        if (ioctl(vcpu->fd, parts[i].get, (char *)state + parts[i].offset) == 0) {
            state->parts |= parts[i].optional;
            continue;
        }
        vcpu_state_say(why, "%sKVM_GET_%s: %s", why->text[0] ? "; " : "", parts[i].name,
                       strerror(errno));
        if (!parts[i].optional)
            return -errno;
    }
    return 0;
}

static void vcpu_state_get_xsave(const struct vcpu *vcpu, struct vcpu_state *state,
                                 const struct vcpu_state_why *why)
{
    int bytes = ioctl(vcpu->vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);
    bool large = bytes > (int)XSAVE_BYTES && bytes <= (int)VCPU_STATE_XSAVE_MAX;

    state->xsave_bytes = large ? (uint32_t)bytes : XSAVE_BYTES;
    if (ioctl(vcpu->fd, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, state->xsave) == 0)
        state->parts |= VCPU_STATE_XSAVE;
    else
        vcpu_state_say(why, "%sKVM_GET_XSAVE: %s", why->text[0] ? "; " : "", strerror(errno));
}

/* The numbers of all registers that this KVM saves: how many, or -errno. */
static int vcpu_state_list_msrs(const struct vcpu *vcpu, uint32_t *indices)
{
    /* struct kvm_msr_list with room for its indices. */
    struct {
        uint32_t nmsrs;
        uint32_t indices[VCPU_STATE_MSRS_MAX];
    } list = { .nmsrs = VCPU_STATE_MSRS_MAX };

    if (ioctl(vcpu->vm->host->fd, KVM_GET_MSR_INDEX_LIST, &list) < 0)
        return -errno;
    memcpy(indices, list.indices, list.nmsrs * sizeof(indices[0]));
    return (int)list.nmsrs;
}

/* struct kvm_msrs with room for its entries. */
struct vcpu_state_msrs {
    uint32_t nmsrs, padding;
    struct kvm_msr_entry entries[VCPU_STATE_MSRS_MAX];
};

/* KVM stops at the first that this vCPU does not have, which is left out. */
static int vcpu_state_get_msrs(const struct vcpu *vcpu, struct vcpu_state *state)
{
    uint32_t indices[VCPU_STATE_MSRS_MAX];
    int count = vcpu_state_list_msrs(vcpu, indices);

    for (int first = 0; first < count;) {
        struct vcpu_state_msrs msrs = { .nmsrs = (uint32_t)(count - first) };
        int got;

        for (int i = first; i < count; i++)
            msrs.entries[i - first].index = indices[i];
        got = ioctl(vcpu->fd, KVM_GET_MSRS, &msrs);
        if (got < 0)
            return -errno;
        memcpy(state->msrs + state->nmsrs, msrs.entries, (size_t)got * sizeof(msrs.entries[0]));
        state->nmsrs += (uint32_t)got;
        first += got + 1;
    }
    return count < 0 ? count : 0;
}

int vcpu_state_get(const struct vcpu *vcpu, struct vcpu_state *state, char *why, size_t why_bytes)
{
    const struct vcpu_state_why out = { why, why_bytes };
    int err, khz;

    memset(state, 0, sizeof(*state));
    state->version = VCPU_STATE_VERSION;
    why[0] = '\0';
    err = vcpu_state_complete_exit(vcpu);
    if (err) {
        vcpu_state_say(&out, "KVM_RUN: %s", strerror(-err));
        return err;
    }
    /* A vCPU that is runnable after INIT and SIPI says so only when it was asked first. */
    err = vcpu_state_get_parts(vcpu, after_msrs, COUNT(after_msrs), state, &out);
    if (!err)
        err = vcpu_state_get_parts(vcpu, before_msrs, COUNT(before_msrs), state, &out);
    if (err)
        return err;
    vcpu_state_get_xsave(vcpu, state, &out);
    khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
    state->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
    err = vcpu_state_get_msrs(vcpu, state);
    if (err)
        vcpu_state_say(&out, "KVM_GET_MSRS: %s", strerror(-err));
    return err;
}

/* ---- Writing ------------------------------------------------------------------------------- */

static int vcpu_state_set_parts(const struct vcpu *vcpu, const struct vcpu_state_part *parts,
                                size_t count, const struct vcpu_state *state,
                                const struct vcpu_state_why *why)
{
    for (size_t i = 0; i < count; i++) {
        if (parts[i].optional && !(state->parts & parts[i].optional))
            continue;
        if (ioctl(vcpu->fd, parts[i].set, (const char *)state + parts[i].offset) < 0) {
            int err = -errno;

            vcpu_state_say(why, "KVM_SET_%s: %s", parts[i].name, strerror(-err));
            return err;
        }
    }
    return 0;
}

/* Whether the vCPU has this value already: some registers can be read only. */
static bool vcpu_state_has_msr(const struct vcpu *vcpu, const struct kvm_msr_entry *wanted)
{
    struct vcpu_state_msrs msrs = { .nmsrs = 1, .entries = { { .index = wanted->index } } };

    return ioctl(vcpu->fd, KVM_GET_MSRS, &msrs) == 1 && msrs.entries[0].data == wanted->data;
}

/* KVM stops at the first that it does not take. */
static int vcpu_state_set_msrs(const struct vcpu *vcpu, const struct vcpu_state *state,
                               const struct vcpu_state_why *why)
{
    for (uint32_t first = 0; first < state->nmsrs;) {
        struct vcpu_state_msrs msrs = { .nmsrs = state->nmsrs - first };
        int set;

        memcpy(msrs.entries, state->msrs + first, msrs.nmsrs * sizeof(msrs.entries[0]));
        set = ioctl(vcpu->fd, KVM_SET_MSRS, &msrs);
        if (set < 0)
            return -errno;
        first += (uint32_t)set;
        if (first < state->nmsrs && !vcpu_state_has_msr(vcpu, &state->msrs[first])) {
            vcpu_state_say(why, "MSR 0x%x does not take 0x%llx", state->msrs[first].index,
                           (unsigned long long)state->msrs[first].data);
            return -EINVAL;
        }
        first++;
    }
    return 0;
}

/*
 * KVM takes a write that is within a second of what the VM's TSC is by now for an attempt to
 * synchronise vCPUs, and does not carry it out: good for all vCPUs but the first, which gets its
 * TSC by way of another value, far from both.
 */
static int vcpu_state_set_tsc(const struct vcpu *vcpu, const struct vcpu_state *state)
{
    const struct kvm_msr_entry *tsc = NULL;
    struct vcpu_state_msrs msrs = { .nmsrs = 1 };

    for (uint32_t i = 0; i < state->nmsrs && !tsc; i++) {
        if (state->msrs[i].index == MSR_TSC)
            tsc = &state->msrs[i];
    }
    if (!tsc || vcpu->index)
        return 0;
    for (unsigned far = 2; far-- > 0;) {
        msrs.entries[0] = *tsc;
        msrs.entries[0].data += far * TSC_FAR_SECONDS * 1000ull * state->tsc_khz;
        if (ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) != 1)
            return -EINVAL;
    }
    return 0;
}

/* Only where it differs: not every KVM can scale the TSC, and most need not. */
static int vcpu_state_set_tsc_khz(const struct vcpu *vcpu, uint32_t khz)
{
    if (!khz || ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0) == (int)khz)
        return 0;
    return ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0 ? -errno : 0;
}

int vcpu_state_set(const struct vcpu *vcpu, const struct vcpu_state *state, char *why,
                   size_t why_bytes)
{
    const struct vcpu_state_why out = { why, why_bytes };
    int err;

    why[0] = '\0';
    if (state->version != VCPU_STATE_VERSION || state->nmsrs > VCPU_STATE_MSRS_MAX ||
        state->xsave_bytes > VCPU_STATE_XSAVE_MAX) {
        vcpu_state_say(&out, "not a state of version %u", VCPU_STATE_VERSION);
        return -EINVAL;
    }
    err = vcpu_state_set_tsc_khz(vcpu, state->tsc_khz);
    if (err) {
        vcpu_state_say(&out, "a TSC of %u kHz: %s", state->tsc_khz, strerror(-err));
        return err;
    }
    err = vcpu_state_set_parts(vcpu, before_msrs, COUNT(before_msrs), state, &out);
    if (!err && state->parts & VCPU_STATE_XSAVE &&
        ioctl(vcpu->fd, KVM_SET_XSAVE, state->xsave) < 0) {
        err = -errno;
        vcpu_state_say(&out, "KVM_SET_XSAVE: %s", strerror(-err));
    }
    if (!err)
        err = vcpu_state_set_msrs(vcpu, state, &out);
    if (!err)
        err = vcpu_state_set_tsc(vcpu, state);
    return err ? err : vcpu_state_set_parts(vcpu, after_msrs, COUNT(after_msrs), state, &out);
}
