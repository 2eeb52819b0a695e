/*
 * Hammers every window that a device has: ports and registers in all widths and at all
 * offsets, rings that look valid and are not, chains to anywhere, requests to the IOMMU,
 * the DMA probe's commands. All of it is a function of the seed.
 *
 * Devices may reach the arena, and it alone: the IOMMU is given no other mapping. So at
 * the end the canary must be as it was. Without an IOMMU the same run must damage it;
 * that is how one knows that it would show.
 *
 * Boot arguments: seed=N steps=N cpus=N; with two CPUs chance is no longer all there is.
 * Exit status: 0 all well, 3 the canary is damaged, 4 no chain was ever used, no transfer
 * of the probe got through or no fault was reported, so that nothing was shown.
 */
#include <stdbool.h>
#include <stdint.h>

#include "guest/abi/machine.h"
#include "guest/abi/probe.h"
#include "tests/guests/windows.h"

#define IOMMU_AREA   0x400000ull /* the IOMMU's own rings: its accesses are not translated */
#define ARENA        0x500000ull
#define CANARY       0x600000ull
#define AREA_BYTES   0x10000ull
#define RAM_END      0x1000000ull
#define PAGE         0x1000ull

#define VIRTIO_MAGIC 0x74726976u
#define ID_BLK       2
#define ID_IOMMU     23
#define ID_PROBE     0xed
#define QUEUES       3
#define QUEUE_SIZE   16 /* of the IOMMU's rings */

#define COM_LCR      3
#define COM_MCR      4
#define I8042_PORT   0x64
#define PIT_PORT     0x40 /* four ports, and the gate's */
#define PIT_GATE     0x61
#define RTC_PORT     0x70
#define PVPANIC_PORT 0x505
#define ACPI_PORT    0x600 /* sleep control; two ports further, reset */

enum { DAMAGED = 3, NOTHING = 4 };

/* Registers of virtio-mmio (virtio 1.2, 4.2.2). */
enum {
    DEVICE_ID = 0x8,
    DEVICE_FEATURES = 0x10,
    DEVICE_FEATURES_SEL = 0x14,
    DRIVER_FEATURES = 0x20,
    DRIVER_FEATURES_SEL = 0x24,
    QUEUE_SEL = 0x30,
    QUEUE_NUM = 0x38,
    QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50,
    INTERRUPT_STATUS = 0x60,
    INTERRUPT_ACK = 0x64,
    STATUS = 0x70,
    QUEUE_DESC = 0x80,
    QUEUE_AVAIL = 0x90,
    QUEUE_USED = 0xa0,
    CONFIG = 0x100,
    CONFIG_BYPASS = 0x124,
};

struct descriptor {
    uint64_t address;
    uint32_t len;
    uint16_t flags, next;
};

struct ring {
    uint16_t size, available, used;
    uint64_t base; /* descriptors; the rings at +0x800 and +0xc00 */
};

struct window {
    uint64_t base;
    uint32_t id; /* virtio's, or ID_PROBE */
    struct ring rings[QUEUES];
};

static struct window windows[ABI_MMIO_DEVICES_MAX];
static unsigned nwindows;
static struct window *iommu; /* NULL: there is none */
static uint64_t random_state;
static uint64_t kicks, used, answered, moved, events; /* used: by others than the IOMMU */

/* ---- Chance ---- */

/* xorshift64* (Vigna, 2016). */
static uint64_t any(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545f4914f6cdd1dull;
}

/* 0 to n - 1; the high bits, as the low ones are the weak ones. */
static uint32_t below(uint32_t n)
{
    return (uint32_t)((any() >> 32) * n >> 32);
}

static bool one_in(uint32_t n)
{
    return below(n) == 0;
}

/* Where a device other than the IOMMU is sent. Unprotected, not where this code lies. */
static uint64_t address(void)
{
    uint64_t offset = below(AREA_BYTES);

    if (one_in(2))
        offset &= ~0xfull;
    switch (below(iommu ? 16 : 12)) {
    case 0:
    case 1:
    case 2: return CANARY + offset;
    case 3: return RAM_END - below(32);
    case 4: return 0ull - below(0x10000);
    case 5: return any() | 1ull << 40;
    case 12: return 0x100000 + offset; /* this code */
    case 13: return IOMMU_AREA + offset;
    case 14: return 0xfee00000 + below(0x100000);
    case 15: return ABI_MMIO_GPA + below(0x8000);
    default: return ARENA + offset;
    }
}

static uint64_t value(void)
{
    switch (below(8)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return ~0ull;
    case 3: return below(256);
    case 4: return (uint32_t)any();
    case 5: return 1ull << below(64);
    case 6: return any();
    default: return address();
    }
}

/* ---- Windows ---- */

static uint64_t port_read(uint16_t port, unsigned size)
{
    uint32_t got = 0;

    if (size == 1)
        __asm__ volatile("inb %1, %b0" : "=a"(got) : "Nd"(port));
    else if (size == 2)
        __asm__ volatile("inw %1, %w0" : "=a"(got) : "Nd"(port));
    else
        __asm__ volatile("inl %1, %0" : "=a"(got) : "Nd"(port));
    return got;
}

static void port_write(uint16_t port, unsigned size, uint32_t data)
{
    if (size == 1)
        __asm__ volatile("outb %b0, %1" : : "a"(data), "Nd"(port));
    else if (size == 2)
        __asm__ volatile("outw %w0, %1" : : "a"(data), "Nd"(port));
    else
        __asm__ volatile("outl %0, %1" : : "a"(data), "Nd"(port));
}

static uint64_t mmio_read(uint64_t at, unsigned size)
{
    switch (size) {
    case 1: return *(volatile uint8_t *)at;
    case 2: return *(volatile uint16_t *)at;
    case 4: return *(volatile uint32_t *)at;
    default: return *(volatile uint64_t *)at;
    }
}

static void mmio_write(uint64_t at, unsigned size, uint64_t data)
{
    switch (size) {
    case 1: *(volatile uint8_t *)at = (uint8_t)data; break;
    case 2: *(volatile uint16_t *)at = (uint16_t)data; break;
    case 4: *(volatile uint32_t *)at = (uint32_t)data; break;
    default: *(volatile uint64_t *)at = data; break;
    }
}

static uint32_t get(const struct window *window, uint32_t offset)
{
    return (uint32_t)mmio_read(window->base + offset, 4);
}

static void set(const struct window *window, uint32_t offset, uint32_t data)
{
    mmio_write(window->base + offset, 4, data);
}

static void find_windows(void)
{
    for (unsigned i = 0; i < ABI_MMIO_DEVICES_MAX; i++) {
        struct window *window = &windows[nwindows];
        uint32_t magic;

        window->base = ABI_MMIO_GPA + i * ABI_MMIO_BYTES;
        magic = get(window, 0);
        if (magic == VIRTIO_MAGIC)
            window->id = get(window, DEVICE_ID);
        else if ((magic & 0xff) == ID_PROBE)
            window->id = ID_PROBE;
        else
            continue;
        for (unsigned j = 0; j < QUEUES; j++)
            window->rings[j] = (struct ring){ .size = 1, .base = ARENA };
        if (window->id == ID_IOMMU)
            iommu = window;
        nwindows++;
    }
}

/* ---- Any access anywhere ---- */

/* The writes that would be obeyed as they should. */
static bool ends_the_run(uint16_t port, unsigned size, uint32_t data)
{
    switch (port) {
    case ABI_HYPERCALL_PORT + ABI_HYPERCALL_EXIT:
    case ABI_HYPERCALL_PORT + ABI_HYPERCALL_PANIC: return size == 4;
    case I8042_PORT: return (data & 0xff) == 0xfe;
    case PVPANIC_PORT: return data & 1;
    case ACPI_PORT: return (data & 0x3c) == (0x20 | 5 << 2);
    case ACPI_PORT + 2: return (data & 0xff) == 0x52;
    default: return false;
    }
}

static void poke_port(void)
{
    static const struct {
        uint16_t base, len;
    } ports[] = { { ABI_SERIAL_PORT, 10 }, { ABI_HYPERCALL_PORT, ABI_HYPERCALL_BYTES + 2 },
                  { I8042_PORT, 1 },       { PIT_PORT, 4 },
                  { PIT_GATE, 1 },         { RTC_PORT, 2 },
                  { PVPANIC_PORT, 1 },     { ACPI_PORT, 0x100 } };
    unsigned which = below(sizeof(ports) / sizeof(ports[0])), size = 1u << below(3);
    uint16_t port = (uint16_t)(ports[which].base + below(ports[which].len));
    uint32_t data = (uint32_t)value();

    if (one_in(2)) {
        port_read(port, size);
        return;
    }
    if (ends_the_run(port, size, data))
        return;
    if (port != I8042_PORT && port != PVPANIC_PORT && port / 4 != ACPI_PORT / 4 && one_in(4)) {
        const void *from = (const void *)(ARENA + below(AREA_BYTES / 2));
        uint64_t count = 1 + below(64);

        __asm__ volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(port) : "memory");
        return;
    }
    port_write(port, size, data);
}

/*
 * The IOMMU's rings stay where nothing of ours is, and nothing bypasses it; there is no
 * wall behind it. All else is the device's to refuse.
 */
static bool allowed(const struct window *window, uint32_t offset, unsigned size, uint64_t *data)
{
    bool low = offset == QUEUE_DESC || offset == QUEUE_AVAIL || offset == QUEUE_USED;

    if (window == iommu && offset <= CONFIG_BYPASS && offset + size > CONFIG_BYPASS)
        return false;
    if ((window == iommu || !iommu) && low) {
        uint64_t base = window == iommu ? IOMMU_AREA : ARENA;

        *data = base + (*data & 0xfff0);
    }
    return true;
}

static void poke_window(struct window *window)
{
    unsigned size = 1u << below(4);
    uint32_t offset = below(2)   ? below(0x44) * 4
                      : below(2) ? CONFIG + below(0x40)
                                 : below((uint32_t)ABI_MMIO_BYTES);
    uint64_t data = value();

    if (one_in(2))
        mmio_read(window->base + offset, size);
    else if (allowed(window, offset, size, &data))
        mmio_write(window->base + offset, size, data);
}

static void scribble(void)
{
    for (unsigned i = 0; i < 8; i++)
        *(volatile uint64_t *)(ARENA + (below(AREA_BYTES) & ~7ull)) = value();
}

/* ---- Devices set up as a driver would, or nearly ---- */

static uint16_t *word(uint64_t at)
{
    return (uint16_t *)at;
}

static void set_address(const struct window *window, uint32_t offset, uint64_t to)
{
    set(window, offset, (uint32_t)to);
    set(window, offset + 4, (uint32_t)(to >> 32));
}

static void start(struct window *window, bool properly)
{
    uint64_t base = window == iommu ? IOMMU_AREA : ARENA;

    set(window, STATUS, 0);
    set(window, STATUS, 1);
    set(window, STATUS, 3);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t mask = properly || one_in(2) ? ~0u : (uint32_t)any() | i;

        set(window, DEVICE_FEATURES_SEL, i);
        set(window, DRIVER_FEATURES_SEL, i);
        set(window, DRIVER_FEATURES, get(window, DEVICE_FEATURES) & mask);
    }
    set(window, STATUS, 11);
    for (unsigned i = 0; i < QUEUES; i++) {
        struct ring ring = { .size = (uint16_t)(1u << (properly ? 4 : below(6))),
                             .base = base + PAGE * (properly ? i : below(12)) };
        bool wild = !properly && one_in(8) && iommu && window != iommu;

        *(volatile uint32_t *)(ring.base + 0x800) = 0;
        *(volatile uint32_t *)(ring.base + 0xc00) = 0;
        set(window, QUEUE_SEL, i);
        set(window, QUEUE_NUM, wild ? (uint32_t)value() : ring.size);
        set_address(window, QUEUE_DESC, wild ? address() : ring.base);
        set_address(window, QUEUE_AVAIL, wild ? address() : ring.base + 0x800);
        set_address(window, QUEUE_USED, wild ? address() : ring.base + 0xc00);
        set(window, QUEUE_READY, 1);
        window->rings[i] = ring; /* whole: the other CPU may look at it meanwhile */
    }
    set(window, STATUS, 15);
}

/* Makes a chain available and kicks; then sees whether the device used one. */
static void offer(struct window *window, unsigned queue, uint16_t head)
{
    struct ring *ring = &window->rings[queue];
    uint16_t before = *word(ring->base + 0xc02);

    *word(ring->base + 0x804 + 2 * (ring->available++ & (ring->size - 1))) = head;
    *word(ring->base + 0x802) = ring->available;
    __asm__ volatile("" : : : "memory");
    set(window, QUEUE_NOTIFY, queue);
    kicks++;
    if (*(volatile uint16_t *)(ring->base + 0xc02) != before)
        *(window == iommu ? &answered : &used) += 1;
    set(window, INTERRUPT_ACK, get(window, INTERRUPT_STATUS));
}

static void chain(struct window *window)
{
    unsigned queue = below(QUEUES), n = 1 + below(4);
    struct ring *ring = &window->rings[queue];
    struct descriptor *table = (struct descriptor *)ring->base;
    uint16_t head;

    if ((get(window, STATUS) & 0x4f) != 0xf) /* needs a reset, or was never started */
        start(window, !one_in(4));
    head = (uint16_t)below(ring->size);
    for (unsigned i = 0; i < n; i++) {
        struct descriptor *at = &table[(head + i) & (ring->size - 1)];

        at->address = address();
        at->len = one_in(8) ? (uint32_t)value() : below(0x2000);
        at->flags = (uint16_t)((i + 1 < n ? 1 : 0) | (i || one_in(2) ? 2 : 0));
        at->next = (uint16_t)((head + i + 1) & (ring->size - 1));
        if (one_in(16))
            at->flags ^= (uint16_t)(1u << below(4));
        if (one_in(16))
            at->next = (uint16_t)any();
    }
    if (window->id == ID_BLK && !one_in(4) && ring->size >= 4) {
        volatile uint64_t *header = (volatile uint64_t *)(ARENA + 0xf000 + 16 * below(64));

        /* A request as it should be, but for where its data is. */
        header[0] = below(one_in(4) ? 32 : 2);
        header[1] = below(64);
        table[head] = (struct descriptor){ (uint64_t)header, 16, 1, (uint16_t)((head + 1) & 3) };
        head &= 3;
        for (unsigned i = 0; i < 3; i++) {
            table[(head + i) & 3] = (struct descriptor){
                i == 0   ? (uint64_t)header
                : i == 1 ? address()
                         : ARENA + 0xff00,
                (uint32_t[]){ 16, 512u << below(4), 1 }[i],
                (uint16_t[]){ 1, (uint16_t)(header[0] ? 1 : 3), 2 }[i],
                (uint16_t)((head + i + 1) & 3),
            };
        }
    }
    if (one_in(16))
        ring->available = (uint16_t)(ring->available + below(QUEUE_SIZE));
    offer(window, queue, head);
}

static void probe(struct window *window)
{
    uint64_t base = window->base;

    if (one_in(2)) {
        bool to_ram = one_in(2);
        uint64_t here = ABI_PROBE_BUFFER + below(0x1100), there = address();

        mmio_write(base + ABI_PROBE_DMA_SOURCE, 8, to_ram ? here : there);
        mmio_write(base + ABI_PROBE_DMA_TARGET, 8, to_ram ? there : here);
        mmio_write(base + ABI_PROBE_DMA_COUNT, 8, one_in(8) ? value() : below(0x1100));
        mmio_write(base + ABI_PROBE_DMA_COMMAND, 4,
                   ABI_PROBE_DMA_START | (to_ram ? ABI_PROBE_DMA_TO_RAM : 0) | (one_in(2) ? 4 : 0));
    } else {
        mmio_write(base + ABI_PROBE_ADDRESS, 8, address());
        mmio_write(base + ABI_PROBE_LENGTH, 8, one_in(8) ? value() : below(0x2000));
        mmio_write(base + ABI_PROBE_STRIDE, 8, one_in(8) ? value() : 1 + below(0x1000));
        mmio_write(base + ABI_PROBE_REQUESTER, 8, below(8));
        mmio_write(base + ABI_PROBE_VALUE, 8, value());
        mmio_write(base + ABI_PROBE_FLAGS, 8, below(4));
        mmio_write(base + ABI_PROBE_ATTACK, 4, below(11));
        moved += mmio_read(base + ABI_PROBE_RESULT, 8) != 0;
    }
    mmio_write(base + ABI_PROBE_IRQ_ACK, 4, (uint32_t)mmio_read(base + ABI_PROBE_IRQ_STATUS, 4));
}

/* ---- The IOMMU: only ever the arena is mapped ---- */

static void ask(const void *bytes, uint32_t len, uint32_t room)
{
    struct ring *ring = &iommu->rings[0];
    struct descriptor *table;
    uint8_t *request = (uint8_t *)(IOMMU_AREA + 0x8000);

    if (get(iommu, STATUS) != 15)
        start(iommu, true);
    set(iommu, QUEUE_SEL, 0);
    if (!get(iommu, QUEUE_READY) || ring->base != IOMMU_AREA)
        start(iommu, true);
    table = (struct descriptor *)ring->base;
    for (uint32_t i = 0; i < len; i++)
        request[i] = ((const uint8_t *)bytes)[i];
    table[0] = (struct descriptor){ (uint64_t)request, len, 1, 1 };
    table[1] = (struct descriptor){ IOMMU_AREA + 0x9000, room, 2, 0 };
    offer(iommu, 0, 0);
}

/* Fields in the order of their offsets; a request is as long as its type says. */
struct request {
    uint8_t type, reserved[3];
    uint32_t domain;
    union {
        struct {
            uint32_t endpoint, flags, reserved;
        } attach;
        struct {
            uint64_t first, last, gpa;
            uint32_t flags;
        } map;
    };
};

static void attach_and_map(void)
{
    struct request request = { .type = 1, .domain = 1 };

    for (uint32_t i = 0; i < nwindows; i++) {
        request.attach.endpoint = i;
        ask(&request, 20, 4);
    }
    request = (struct request){
        .type = 3,
        .domain = 1,
        .map = { .first = ARENA, .last = ARENA + AREA_BYTES - 1, .gpa = ARENA, .flags = 3 }
    };
    ask(&request, 36, 4);
}

static void program_iommu(void)
{
    static const uint8_t lengths[] = { 4, 20, 20, 36, 28, 72, 40 };
    struct request request = { .type = (uint8_t)below(7), .domain = below(4) };
    uint64_t first = below(16), pages = 1 + below(16 - (uint32_t)first);

    if (one_in(4)) {
        attach_and_map();
        return;
    }
    switch (request.type) {
    case 1:
    case 2: request.attach.endpoint = below(9); break;
    case 3:
    case 4:
        request.map.first = one_in(16) ? value() : ARENA + PAGE * below(32);
        request.map.last = one_in(16) ? value() : request.map.first + pages * PAGE - 1;
        request.map.gpa = one_in(16) ? RAM_END + value() % RAM_END : ARENA + first * PAGE;
        request.map.flags = below(4);
        /* Never more than the arena, whatever the ends are. */
        if (request.type == 3 && request.map.last - request.map.first >= pages * PAGE)
            request.map.last = request.map.first + pages * PAGE - 1;
        break;
    default: break;
    }
    ask(&request, one_in(16) ? below(72) + 1 : lengths[request.type],
        request.type == 5 ? 388
        : one_in(16)      ? below(8) + 1
                          : 4);
}

static void take_events(void)
{
    struct ring *ring = &iommu->rings[1];
    struct descriptor *table = (struct descriptor *)ring->base;
    uint16_t slot;

    if (get(iommu, STATUS) != 15 || ring->base != IOMMU_AREA + PAGE)
        return;
    slot = ring->available & (QUEUE_SIZE - 1);
    table[slot] = (struct descriptor){ IOMMU_AREA + 0xa000 + 32u * slot, one_in(8) ? 8 : 24, 2, 0 };
    offer(iommu, 1, slot);
    events += (uint16_t)(*(volatile uint16_t *)(ring->base + 0xc02) - ring->used);
    ring->used = *(volatile uint16_t *)(ring->base + 0xc02);
}

/* ---- The run ---- */

/* One transfer of each probe that must get through, so that the rest is not for nothing. */
static void warm_up(void)
{
    for (unsigned i = 0; i < nwindows; i++) {
        uint64_t base = windows[i].base;

        if (windows[i].id != ID_PROBE)
            continue;
        mmio_write(base + ABI_PROBE_ADDRESS, 8, ARENA);
        mmio_write(base + ABI_PROBE_LENGTH, 8, 64);
        mmio_write(base + ABI_PROBE_ATTACK, 4, ABI_PROBE_ACCESS);
        moved += mmio_read(base + ABI_PROBE_RESULT, 8) == 64;
    }
}

static uint64_t canary(uint64_t at)
{
    return at * 0x9e3779b97f4a7c15ull;
}

static uint64_t damaged(void)
{
    uint64_t words = 0;

    for (uint64_t at = CANARY; at < CANARY + AREA_BYTES; at += 8)
        words += *(volatile uint64_t *)at != canary(at);
    return words;
}

static void say(const char *text)
{
    while (*text)
        port_write(ABI_SERIAL_PORT, 1, (uint8_t)*text++);
}

static void say_number(const char *name, uint64_t number)
{
    char digits[21] = "", *at = digits + 20;

    do
        *--at = (char)('0' + number % 10);
    while (number /= 10);
    say(" ");
    say(name);
    say(" ");
    say(at);
}

static uint64_t argument(const char *line, const char *name, uint64_t otherwise)
{
    for (; *line; line++) {
        const char *at = line, *want = name;
        uint64_t number = 0;

        while (*want && *at == *want)
            at++, want++;
        if (*want)
            continue;
        while (*at >= '0' && *at <= '9')
            number = number * 10 + (uint64_t)(*at++ - '0');
        return number;
    }
    return otherwise;
}

/* Requests to the IOMMU are the first CPU's alone: torn ones could map anything. */
static void step(bool first)
{
    struct window *window = nwindows ? &windows[below(nwindows)] : 0;
    unsigned what = below(16);

    if (!window || what == 0) {
        poke_port();
    } else if (what < 4) {
        poke_window(window);
    } else if (what == 4) {
        scribble();
    } else if (what < 8 && iommu && first) {
        if (one_in(3))
            take_events();
        else
            program_iommu();
    } else if (window->id == ID_PROBE) {
        probe(window);
    } else if (window == iommu) {
        if (first && one_in(8))
            start(window, true);
    } else if (what < 10) {
        start(window, one_in(2));
    } else {
        chain(window);
    }
}

static volatile bool second_runs, stop;
static volatile uint64_t second_steps;

void windows_second(void)
{
    second_runs = true;
    while (!stop) {
        step(false);
        second_steps++;
    }
    second_runs = false;
}

/* By INIT and start-up IPIs to APIC id 1 (Intel SDM 3A, 9.4); where there is none, nobody comes. */
static void start_second(void)
{
    volatile uint32_t *lapic = (volatile uint32_t *)ABI_LAPIC_GPA;
    const uint8_t *from = windows_ap;

    for (uint8_t *to = (uint8_t *)WINDOWS_AP; from < windows_ap_end;)
        *to++ = *from++;
    lapic[0xf0 / 4] = 0x1ff;
    lapic[0x310 / 4] = 1 << 24;
    lapic[0x300 / 4] = 0x4500;
    lapic[0x310 / 4] = 1 << 24;
    lapic[0x300 / 4] = 0x4600 | WINDOWS_AP >> 12;
}

uint32_t windows_fuzz(const uint8_t *start_info)
{
    /* hvm_start_info: cmdline_paddr. */
    const char *line = (const char *)*(const uint64_t *)(start_info + 24);
    uint64_t seed = argument(line, "seed=", 1), steps = argument(line, "steps=", 1000);
    uint64_t cpus = argument(line, "cpus=", 1), bad;

    random_state = seed * 2 + 1;
    find_windows();
    for (uint64_t at = CANARY; at < CANARY + AREA_BYTES; at += 8)
        *(volatile uint64_t *)at = canary(at);
    say("windows:");
    say_number("seed", seed);
    say_number("steps", steps);
    say_number("devices", nwindows);
    say("\n");
    if (iommu)
        attach_and_map();
    warm_up();
    if (cpus > 1)
        start_second();
    for (uint64_t i = 0; i < steps; i++)
        step(true);
    stop = true;
    while (second_runs)
        port_write(ABI_HYPERCALL_PORT + ABI_HYPERCALL_YIELD, 4, 0);

    /* The port may be in any state. */
    port_write(ABI_SERIAL_PORT + COM_LCR, 1, 3);
    port_write(ABI_SERIAL_PORT + COM_MCR, 1, 0);
    bad = damaged();
    say("\nwindows:");
    say_number("kicks", kicks);
    say_number("used", used);
    say_number("requests", answered);
    say_number("probe-transfers", moved);
    say_number("fault-events", events);
    say_number("second-cpu", second_steps);
    say_number("damaged", bad);
    say("\n");
    return bad ? DAMAGED : !used || !moved || (iommu && !events) ? NOTHING : 0;
}
