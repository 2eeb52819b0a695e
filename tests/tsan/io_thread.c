/*
 * The I/O thread against all that goes on beside it, under ThreadSanitizer: a vCPU whose driver
 * notifies an entropy device and a console, resets them and stops their queues, and somebody
 * who stops the world and then reads and writes what they work on, without any lock. Nobody
 * runs a guest: the vCPU is a thread that signals the eventfds as KVM would.
 *
 * io_thread [ROUNDS [careless]]: TAP; status 1 if nothing went through, ThreadSanitizer's own
 * (66) for a race. careless: the world is not stopped, which must be noticed.
 */
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "devices/core/io_thread.h"
#include "devices/virtio/console.h"
#include "devices/virtio/rng.h"
#include "tests/unit/ring.h"
#include "vmm/machine/ioeventfd.h"
#include "vmm/machine/memory.h"
#include "vmm/machine/vm.h"

#define PAGE     4096ull
#define RAM      (1ull << 20)
#define SIZE     16
#define BUFFER   (64 * PAGE)
#define RNG_GPA  0x10000ull
#define CONS_GPA 0x20000ull
#define QUEUES   3u

enum { RNG, RECEIVE, TRANSMIT };

static struct vm vm;
static struct io_thread io;
static struct memory memory;
static struct dma dmas[2];
static struct virtio_rng *rng;
static struct virtio_console *console;
static struct console out;
static struct virtio_mmio rng_mmio, console_mmio;
static struct ring ring[QUEUES];
static int fds[QUEUES]; /* what KVM would signal */
static uint8_t *ram;
static atomic_bool stop;
static atomic_ullong taken[QUEUES];
static bool careless;

/* In the place of the real one, which needs KVM. */
int ioeventfd_add(struct vm *unused, uint64_t gpa, uint32_t value, int fd)
{
    (void)unused;
    fds[gpa < CONS_GPA ? RNG : RECEIVE + value] = fd;
    return 0;
}

static void must(int ret, const char *what)
{
    if (ret)
        errx(2, "%s: %s", what, strerror(-ret));
}

static struct virtio_device *device_of(unsigned queue)
{
    return queue == RNG ? &rng->device : &console->device;
}

static void negotiate(unsigned queue)
{
    struct virtio_device *device = device_of(queue);

    if (!ring_negotiate(device, 1ull << VIRTIO_F_VERSION_1))
        errx(2, "features");
    for (unsigned i = 0; i < device->class->nqueues; i++)
        ring_setup(&ring[queue + i], device, i, ram, (queue + i + 1) * PAGE, SIZE);
    ring_driver_ok(device);
}

/* One buffer for the queue, if there is room, and a notification without an exit. */
static void drive(unsigned queue)
{
    static const uint64_t one = 1;
    struct dma *dma = &dmas[queue != RNG];
    uint32_t head, written;
    bool room;

    /* The rings' own order is by fences, which ThreadSanitizer does not know. */
    dma_lock(dma);
    while (ring_take(&ring[queue], &head, &written))
        atomic_fetch_add(&taken[queue], 1);
    room = (uint16_t)(ring[queue].next_available - ring[queue].next_used) < SIZE - 1;
    if (room)
        ring_add(&ring[queue],
                 &(struct ring_segment){ BUFFER + (queue * SIZE + ring[queue].free) * PAGE, 200,
                                         queue != TRANSMIT },
                 1);
    dma_unlock(dma);
    if (write(fds[queue], &one, sizeof(one)) != sizeof(one))
        err(2, "eventfd");
}

static void vcpu_body(void *arg)
{
    struct vcpu *vcpu = arg;

    vm_thread_enter(&vcpu->thread);
    for (unsigned round = 0; !atomic_load(&stop) && vcpu_park(vcpu); round++) {
        for (unsigned queue = 0; queue < QUEUES; queue++)
            drive(queue);
        virtio_console_input(console, (const uint8_t *)"x", 1);
        if (round % 128 == 127)
            negotiate(RNG);
        if (round % 200 == 99) {
            ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_SEL, TRANSMIT - RECEIVE);
            ring_set_register(&console->device, VIRTIO_MMIO_QUEUE_READY, 0);
        }
        if (round % 200 == 101)
            negotiate(RECEIVE);
    }
    vm_thread_leave(&vcpu->thread);
}

/* The world stands still: all of it may be read, and written. */
static uint64_t look(void)
{
    uint64_t sum = 0;

    if (!careless)
        vm_pause(&vm, NULL);
    for (unsigned i = 0; i < 3 * SIZE; i++) {
        sum += ram[BUFFER + i * PAGE];
        ram[BUFFER + i * PAGE + 1]++;
    }
    sum += rng->device.kicks + console->device.kicks + rng->device.queues[0].state.next_used;
    if (!careless)
        vm_resume(&vm, NULL);
    return sum;
}

static void ignore(int number)
{
    (void)number;
}

static void open_world(struct vcpu *vcpu)
{
    const struct sigaction exit_signal = { .sa_handler = ignore };
    const struct rng_config rng_config = { .dma = &dmas[0] };
    const struct console_config console_config = { .dma = &dmas[1],
                                                   .out = &out,
                                                   .input_ready_fd = -1 };
    pthread_condattr_t attr;

    sigaction(VM_EXIT_SIGNAL, &exit_signal, NULL);
    vm = (struct vm){ .vcpus = vcpu, .ncpus = 1, .fd = -1, .end_fd = eventfd(0, EFD_NONBLOCK) };
    pthread_mutex_init(&vm.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&vm.changed, &attr);
    must(memory_create(&memory, -1, RAM, MEMORY_4K), "memory");
    for (unsigned i = 0; i < 2; i++)
        must(dma_create(&dmas[i], &memory, NULL, i), "dma handle");
    ram = memory_at(&memory, 0, RAM);
    console_init(&out, open("/dev/null", O_WRONLY));
    io_thread_create(&io, &vm);
    must(virtio_rng_create(&rng, &rng_config), "rng");
    must(virtio_console_create(&console, &console_config, NULL, 0), "console");
    must(virtio_mmio_create(&rng_mmio, &rng->device, NULL, RNG_GPA, 0), "rng");
    must(virtio_mmio_create(&console_mmio, &console->device, NULL, CONS_GPA, 0), "console");
    rng->device.io = console->device.io = &io;
    negotiate(RNG);
    negotiate(RECEIVE);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4000;
    struct vcpu vcpu = { .vm = &vm, .fd = -1 };
    uint64_t sum = 0;
    bool through;

    careless = argc > 2 && !strcmp(argv[2], "careless");
    open_world(&vcpu);
    vm_thread_init(&vcpu.thread, &vm, VM_THREAD_FRONT, "vCPU 0");
    vcpu.thread.vcpu = &vcpu;
    must(vm_thread_start(&vcpu.thread, vcpu_body, &vcpu), "thread");
    for (unsigned i = 0; i < rounds; i++) {
        sum += look();
        sched_yield();
    }
    atomic_store(&stop, true);
    vm_stop(&vm, VM_END_HOST_STOP, 0);
    vm_thread_end(&vcpu.thread);
    io_thread_destroy(&io);
    through = sum && atomic_load(&io.signals) && atomic_load(&taken[RNG]) &&
              atomic_load(&taken[RECEIVE]) && atomic_load(&taken[TRANSMIT]) && !io.error;
    printf("%s 1 - io_thread: %llu notifications in %llu wakeups; buffers %llu, %llu and %llu\n",
           through ? "ok" : "not ok", (unsigned long long)atomic_load(&io.signals),
           (unsigned long long)atomic_load(&io.wakeups), (unsigned long long)atomic_load(&taken[0]),
           (unsigned long long)atomic_load(&taken[1]), (unsigned long long)atomic_load(&taken[2]));
    return !through;
}
