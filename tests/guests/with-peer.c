/*
 * with-peer: the two ends of a connection between a Linux guest and its host.
 *
 *   with-peer echo ADDRESS       listens, goes to the background, takes one connection, sends
 *                                back what comes in, and says how much that was and its hash
 *   with-peer talk ADDRESS BYTES sends so many bytes, and fails unless they all come back
 *
 * ADDRESS is tcp:PORT:IP, vsock:PORT (from a guest: of its host), unix:PATH, or
 * muxed:PORT:PATH, which is the guest's PORT behind the Unix socket of --vsock. What is said
 * is a line COUNT HASH.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* After sys/socket.h, which it needs. */
#include <linux/vm_sockets.h>

#define PIECE 65536

/* What has gone by in one direction; FNV-1a. */
struct stream {
    uint64_t count, hash, random;
};

static void stream_begin(struct stream *stream)
{
    *stream = (struct stream){ .hash = 0xcbf29ce484222325, .random = 88172645463325252 };
}

static void stream_take(struct stream *stream, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        stream->hash = (stream->hash ^ bytes[i]) * 0x100000001b3;
    stream->count += n;
}

/* The next bytes that `talk` sends (Marsaglia's xorshift). */
static void stream_make(struct stream *stream, uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        stream->random ^= stream->random << 13;
        stream->random ^= stream->random >> 7;
        stream->random ^= stream->random << 17;
        bytes[i] = (uint8_t)stream->random;
    }
    stream_take(stream, bytes, n);
}

static void stream_print(const struct stream *stream)
{
    printf("%llu %016llx\n", (unsigned long long)stream->count, (unsigned long long)stream->hash);
    fflush(stdout);
}

static void send_all(int fd, const uint8_t *bytes, size_t n)
{
    while (n) {
        ssize_t sent = send(fd, bytes, n, MSG_NOSIGNAL);

        if (sent < 0)
            err(1, "send");
        bytes += sent;
        n -= (size_t)sent;
    }
}

static size_t receive(int fd, uint8_t *bytes, size_t n)
{
    ssize_t received = recv(fd, bytes, n, 0);

    if (received < 0)
        err(1, "receive");
    return (size_t)received;
}

/* A socket, bound to the address to listen there, or connected to it. */
static int open_at(int family, const void *address, socklen_t bytes, bool listening,
                   const char *name)
{
    int fd = socket(family, SOCK_STREAM, 0), yes = 1;

    /* At once after the last one, too. */
    if (listening && family == AF_INET)
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (fd < 0 || (listening ? bind(fd, address, bytes) : connect(fd, address, bytes)))
        err(1, "%s", name);
    return fd;
}

static int open_unix(const char *path, bool listening)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    if (strlen(path) >= sizeof(address.sun_path))
        errx(2, "%s: too long for a socket", path);
    strcpy(address.sun_path, path);
    return open_at(AF_UNIX, &address, sizeof(address), listening, path);
}

static int open_vsock(unsigned long port, bool listening)
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK,
                                   .svm_port = (unsigned)port,
                                   .svm_cid = listening ? VMADDR_CID_ANY : VMADDR_CID_HOST };

    return open_at(AF_VSOCK, &address, sizeof(address), listening, "vsock");
}

static int open_tcp(unsigned long port, const char *ip, bool listening)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

    if (inet_pton(AF_INET, ip, &address.sin_addr) != 1)
        errx(2, "%s: no address", ip);
    return open_at(AF_INET, &address, sizeof(address), listening, ip);
}

static int open_muxed(unsigned long port, const char *path)
{
    int fd = open_unix(path, false);
    char line[32];
    size_t n = 0;

    dprintf(fd, "CONNECT %lu\n", port);
    while (n + 1 < sizeof(line) && receive(fd, (uint8_t *)line + n, 1) == 1 && line[n] != '\n')
        n++;
    line[n] = 0;
    if (strncmp(line, "OK ", 3))
        errx(1, "CONNECT %lu was answered by '%s'", port, line);
    return fd;
}

static int open_address(const char *address, bool listening)
{
    const char *kind = strchr(address, ':'), *rest = "";
    unsigned long port;
    char *end;

    if (!strncmp(address, "unix:", 5))
        return open_unix(address + 5, listening);
    port = kind ? strtoul(kind + 1, &end, 10) : 0;
    if (port && *end == ':')
        rest = end + 1;
    if (port && !strncmp(address, "tcp:", 4))
        return open_tcp(port, rest, listening);
    if (port && !strncmp(address, "vsock:", 6))
        return open_vsock(port, listening);
    if (port && !strncmp(address, "muxed:", 6) && !listening)
        return open_muxed(port, rest);
    errx(2, "%s: no such address", address);
}

static int echo(const char *address)
{
    int listener = open_address(address, true), fd;
    static uint8_t bytes[PIECE];
    struct stream stream;
    size_t n;

    if (listen(listener, 1))
        err(1, "%s", address);
    /* Who started this knows now that it listens. */
    if (fork())
        _exit(0);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        err(1, "%s", address);
    stream_begin(&stream);
    while ((n = receive(fd, bytes, sizeof(bytes)))) {
        stream_take(&stream, bytes, n);
        send_all(fd, bytes, n);
    }
    stream_print(&stream);
    return 0;
}

/* One process sends, this one receives: neither end may wait for the other to read. */
static int talk(const char *address, uint64_t bytes)
{
    static uint8_t sent[PIECE], received[PIECE];
    int fd = open_address(address, false);
    struct stream stream;
    size_t n, piece;

    stream_begin(&stream);
    if (!fork()) {
        for (; bytes; bytes -= piece) {
            piece = bytes < PIECE ? bytes : PIECE;
            stream_make(&stream, sent, piece);
            send_all(fd, sent, piece);
        }
        shutdown(fd, SHUT_WR);
        _exit(0);
    }
    while ((n = receive(fd, received, sizeof(received)))) {
        stream_make(&stream, sent, n);
        if (memcmp(sent, received, n))
            errx(1, "%s: other bytes come back, before %llu", address,
                 (unsigned long long)stream.count);
    }
    wait(NULL);
    if (stream.count != bytes)
        errx(1, "%s: %llu bytes come back of %llu", address, (unsigned long long)stream.count,
             (unsigned long long)bytes);
    stream_print(&stream);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "echo"))
        return echo(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "talk"))
        return talk(argv[2], strtoull(argv[3], NULL, 10));
    errx(2, "usage: with-peer echo ADDRESS | with-peer talk ADDRESS BYTES");
}
