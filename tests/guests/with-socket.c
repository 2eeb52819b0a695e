/*
 * with-socket PATH [COUNT]: connects to a Unix stream socket, sends it standard input, and
 * prints what comes from it, until that ends or COUNT bytes have come. All of standard input
 * has been taken by then, or it fails.
 */
#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PIECE 65536

static void print(const char *bytes, size_t n)
{
    while (n) {
        ssize_t done = write(STDOUT_FILENO, bytes, n);

        if (done < 0)
            err(1, "standard output");
        bytes += done;
        n -= (size_t)done;
    }
}

int main(int argc, char **argv)
{
    static char in[PIECE], out[PIECE];
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t left = argc > 2 ? strtoul(argv[2], NULL, 10) : SIZE_MAX, first = 0, end = 0;
    bool reading = true;
    int fd;

    if (argc < 2 || strlen(argv[1]) >= sizeof(address.sun_path))
        errx(2, "usage: with-socket PATH [COUNT]");
    strcpy(address.sun_path, argv[1]);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)))
        err(1, "%s", argv[1]);
    while (left || reading || first < end) {
        struct pollfd fds[] = {
            { .fd = reading && first == end ? STDIN_FILENO : -1, .events = POLLIN },
            { .fd = fd, .events = (short)((left ? POLLIN : 0) | (first < end ? POLLOUT : 0)) },
        };
        ssize_t n;

        if (poll(fds, 2, -1) < 0)
            err(1, "poll");
        if (fds[0].revents) {
            n = read(STDIN_FILENO, out, sizeof(out));
            first = 0;
            end = n > 0 ? (size_t)n : 0;
            reading = n > 0;
        }
        if (fds[1].revents & POLLOUT) {
            n = send(fd, out + first, end - first, MSG_NOSIGNAL);
            if (n < 0 && errno != EAGAIN)
                err(1, "%s", argv[1]);
            first += n > 0 ? (size_t)n : 0;
        }
        if (!left || !(fds[1].revents & (POLLIN | POLLHUP)))
            continue;
        n = recv(fd, in, left < sizeof(in) ? left : sizeof(in), 0);
        if (n < 0 && errno != EAGAIN)
            err(1, "%s", argv[1]);
        if (n == 0)
            return reading || first < end;
        if (n > 0) {
            print(in, (size_t)n);
            left -= (size_t)n;
        }
    }
    return 0;
}
