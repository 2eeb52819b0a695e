#include "devices/backend/console.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

/* A pipe that polls as writable takes this much without blocking (pipe(7), PIPE_BUF). */
#define CHUNK_BYTES 4096

void console_init(struct console *console, int fd)
{
    console->fd = fd;
    atomic_init(&console->tx_blocked, false);
    atomic_init(&console->error, 0);
    atomic_init(&console->dropped, 0);
    atomic_init(&console->sent, 0);
}

/* Several consoles may write here at a time: each has its own place in the ring. */
static void remember(struct console *console, const uint8_t *bytes, size_t count)
{
    size_t skip = count > CONSOLE_TAIL_BYTES ? count - CONSOLE_TAIL_BYTES : 0;
    unsigned long long at = atomic_fetch_add_explicit(&console->sent, count, memory_order_relaxed);

    for (size_t i = skip; i < count; i++)
        console->tail[(at + i) % CONSOLE_TAIL_BYTES] = (char)bytes[i];
}

size_t console_tail(const struct console *console, char tail[CONSOLE_TAIL_BYTES])
{
    unsigned long long end = atomic_load_explicit(&console->sent, memory_order_relaxed);
    size_t count = end < CONSOLE_TAIL_BYTES ? (size_t)end : CONSOLE_TAIL_BYTES;

    for (size_t i = 0; i < count; i++)
        tail[i] = console->tail[(end - count + i) % CONSOLE_TAIL_BYTES];
    return count;
}

void console_drop(struct console *console, size_t count)
{
    atomic_fetch_add_explicit(&console->dropped, count, memory_order_relaxed);
}

/*
 * The descriptor may be shared with other programs, so it stays as it is: no
 * O_NONBLOCK. Polling first keeps the guest from hanging on a reader that stopped.
 */
size_t console_write(struct console *console, const uint8_t *bytes, size_t count)
{
    size_t done = 0;

    while (done < count) {
        struct pollfd writable = { .fd = console->fd, .events = POLLOUT };
        size_t chunk = count - done < CHUNK_BYTES ? count - done : CHUNK_BYTES;
        ssize_t written;
        int ready;

        if (console->fd < 0)
            break;
        ready = poll(&writable, 1, atomic_load(&console->tx_blocked) ? 0 : CONSOLE_PATIENCE_MS);
        if (ready < 0 && errno == EINTR)
            goto interrupted;
        atomic_store(&console->tx_blocked, ready == 0);
        if (ready <= 0)
            break;
        written = write(console->fd, bytes + done, chunk);
        if (written < 0 && errno == EINTR)
            goto interrupted;
        if (written <= 0) {
            /* Closed reader, full disk: this output is lost, the guest goes on. */
            atomic_store(&console->error, written < 0 ? -errno : -EIO);
            break;
        }
        done += (size_t)written;
    }
    console_drop(console, count - done);
    done = count;
interrupted:
    remember(console, bytes, done);
    return done;
}
