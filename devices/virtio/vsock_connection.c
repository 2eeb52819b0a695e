/* One connection of virtio-vsock, from a Unix socket to the guest (virtio 1.2, 5.10.6). */
#include "devices/virtio/vsock_connection.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/virtio/vsock.h"

#define SHUTDOWN_BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
#define BEFORE_DATA \
    (VSOCK_SEND_RESET | VSOCK_SEND_REQUEST | VSOCK_SEND_RESPONSE | VSOCK_SEND_SHUTDOWN)
#define PORT_FIRST (1u << 30) /* of those that the host's ends get; well above services */

/* ---- The table -------------------------------------------------------------------------- */

/* The connection with these ports; NULL: there is none. */
static struct vsock_connection *find(struct virtio_vsock *vsock, uint32_t host_port,
                                     uint32_t guest_port)
{
    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
        struct vsock_connection *connection = &vsock->connections[i];

        if (connection->state > VSOCK_ASKED && connection->host_port == host_port &&
            connection->guest_port == guest_port)
            return connection;
    }
    return NULL;
}

/* Shut down first: the thread may be polling it, which keeps it from being closed. */
static void close_socket(struct vsock_connection *connection)
{
    if (connection->fd >= 0) {
        shutdown(connection->fd, SHUT_RDWR);
        close(connection->fd);
    }
    connection->fd = -1;
}

void vsock_forget(struct vsock_connection *connection)
{
    if (connection->state != VSOCK_FREE)
        close_socket(connection);
    free(connection->buffer);
    *connection = (struct vsock_connection){ .fd = -1 };
}

void vsock_abort(struct vsock_connection *connection)
{
    /* Of some the guest has never heard. */
    bool unknown = connection->state == VSOCK_ASKED || connection->send & VSOCK_SEND_REQUEST;
    uint32_t host_port = connection->host_port, guest_port = connection->guest_port;
    uint64_t since = connection->since;

    vsock_forget(connection);
    if (!unknown)
        *connection = (struct vsock_connection){ .state = VSOCK_RESET,
                                                 .fd = -1,
                                                 .host_port = host_port,
                                                 .guest_port = guest_port,
                                                 .send = VSOCK_SEND_RESET,
                                                 .since = since };
}

/* Who has not said what it wants, or is gone and waits for the guest only, makes room. */
static bool may_go(const struct vsock_connection *connection)
{
    return connection->state == VSOCK_ASKED ||
           (connection->state == VSOCK_DISCONNECT && !connection->send);
}

/* A place in the table; NULL: it is full. */
static struct vsock_connection *begin(struct virtio_vsock *vsock, enum vsock_state state, int fd)
{
    struct vsock_connection *place = NULL;

    for (unsigned i = 0; i < VIRTIO_VSOCK_CONNECTIONS; i++) {
        struct vsock_connection *connection = &vsock->connections[i];

        if (connection->state == VSOCK_FREE) {
            place = connection;
            break;
        }
        if (may_go(connection) && (!place || connection->since < place->since))
            place = connection;
    }
    if (!place)
        return NULL;
    vsock_forget(place);
    place->state = state;
    place->fd = fd;
    place->since = ++vsock->begun;
    return place;
}

/* ---- To the guest ---------------------------------------------------------------------------- */

/* Bytes that it has room for. What it says of that may be anything. */
static uint32_t credit(const struct vsock_connection *connection)
{
    uint32_t under_way = connection->sent - connection->peer_fwd_cnt;

    return under_way < connection->peer_buf_alloc ? connection->peer_buf_alloc - under_way : 0;
}

static bool wants_data(const struct vsock_connection *connection)
{
    return connection->state == VSOCK_CONNECTED &&
           !(connection->host_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND) &&
           !(connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_RCV);
}

/* The host's end takes, or sends, no more. */
static void shut(struct vsock_connection *connection, uint32_t which)
{
    if ((connection->host_shutdown & which) == which)
        return;
    connection->host_shutdown |= which;
    connection->send |= VSOCK_SEND_SHUTDOWN;
}

/* Nobody is there any more, and nothing of theirs is left. */
static void host_gone(struct vsock_connection *connection)
{
    if (connection->guest_shutdown == SHUTDOWN_BOTH) {
        vsock_abort(connection);
        return;
    }
    close_socket(connection);
    connection->waiting = 0;
    connection->readable = false;
    connection->state = VSOCK_DISCONNECT;
    shut(connection, SHUTDOWN_BOTH);
}

struct virtio_vsock_hdr *vsock_header(struct virtio_vsock *vsock, uint32_t host_port,
                                      uint32_t guest_port, uint16_t op)
{
    struct virtio_vsock_hdr header = { .src_cid = VSOCK_CID_HOST,
                                       .dst_cid = vsock->state.guest_cid,
                                       .src_port = host_port,
                                       .dst_port = guest_port,
                                       .type = VIRTIO_VSOCK_TYPE_STREAM,
                                       .op = op };

    memcpy(vsock->piece, &header, sizeof(header));
    return (struct virtio_vsock_hdr *)(void *)vsock->piece;
}

/* Reads from the socket: the bytes, 0 if there are none to send now. */
static uint32_t read_data(struct virtio_vsock *vsock, struct vsock_connection *connection,
                          uint32_t room)
{
    uint32_t most = credit(connection);
    ssize_t bytes;

    most = most < room ? most : room;
    most = most < VIRTIO_VSOCK_PIECE ? most : VIRTIO_VSOCK_PIECE;
    bytes = recv(connection->fd, vsock->piece + sizeof(struct virtio_vsock_hdr), most,
                 MSG_DONTWAIT);
    if (bytes > 0)
        return (uint32_t)bytes;
    if (bytes < 0 && (errno == EAGAIN || errno == EINTR)) {
        connection->readable = false;
    } else if (bytes < 0 || connection->hung_up) {
        host_gone(connection);
    } else {
        connection->readable = false;
        shut(connection, VIRTIO_VSOCK_SHUTDOWN_SEND);
    }
    return 0;
}

static bool has_data(const struct vsock_connection *connection)
{
    return connection->readable && wants_data(connection) && credit(connection);
}

/* It has something to say, and no credit to say it. */
static bool wants_credit(const struct vsock_connection *connection)
{
    return connection->readable && wants_data(connection) && !credit(connection) &&
           !connection->asked;
}

bool vsock_has_packet(const struct vsock_connection *connection)
{
    return connection->send || has_data(connection) || wants_credit(connection);
}

/* What `send` asks for, the most important first; 0: nothing. */
static unsigned next_to_send(const struct vsock_connection *connection)
{
    static const unsigned order[] = { VSOCK_SEND_RESET,    VSOCK_SEND_REQUEST,
                                      VSOCK_SEND_RESPONSE, VSOCK_SEND_SHUTDOWN,
                                      VSOCK_SEND_CREDIT,   VSOCK_SEND_CREDIT_REQUEST };

    for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if (connection->send & order[i])
            return order[i];
    }
    return 0;
}

static uint16_t op_of(unsigned what)
{
    switch (what) {
    case VSOCK_SEND_RESET: return VIRTIO_VSOCK_OP_RST;
    case VSOCK_SEND_REQUEST: return VIRTIO_VSOCK_OP_REQUEST;
    case VSOCK_SEND_RESPONSE: return VIRTIO_VSOCK_OP_RESPONSE;
    case VSOCK_SEND_SHUTDOWN: return VIRTIO_VSOCK_OP_SHUTDOWN;
    case VSOCK_SEND_CREDIT: return VIRTIO_VSOCK_OP_CREDIT_UPDATE;
    default: return VIRTIO_VSOCK_OP_CREDIT_REQUEST;
    }
}

/* Every packet says what room there is (5.10.6.3). */
static void tell_credit(struct vsock_connection *connection, struct virtio_vsock_hdr *header)
{
    header->buf_alloc = VIRTIO_VSOCK_BUFFER;
    header->fwd_cnt = connection->fwd_told = connection->fwd_cnt;
    connection->send &= ~(unsigned)VSOCK_SEND_CREDIT;
}

bool vsock_next_packet(struct virtio_vsock *vsock, struct vsock_connection *connection,
                       uint32_t room)
{
    unsigned what = next_to_send(connection);
    struct virtio_vsock_hdr *header;
    uint32_t bytes = 0;

    if (!(what & BEFORE_DATA) && room && has_data(connection)) {
        bytes = read_data(vsock, connection, room);
        if (!bytes)
            what = next_to_send(connection); /* it may have come to the end */
    }
    if (!bytes && !what && wants_credit(connection)) {
        connection->asked = true;
        what = VSOCK_SEND_CREDIT_REQUEST;
    }
    if (!bytes && !what)
        return false;
    header = vsock_header(vsock, connection->host_port, connection->guest_port,
                          bytes ? VIRTIO_VSOCK_OP_RW : op_of(what));
    tell_credit(connection, header);
    header->len = bytes;
    connection->sent += bytes;
    vsock->counts.sent_bytes += bytes;
    if (bytes)
        return true;
    if (what == VSOCK_SEND_SHUTDOWN)
        header->flags = connection->host_shutdown;
    connection->send &= ~what;
    if (what == VSOCK_SEND_RESET)
        vsock_forget(connection);
    return true;
}

/* ---- From the guest -------------------------------------------------------------------------- */

/* All that it sent has arrived: what it has shut is shut here, too. */
static void carry_out_shutdown(struct vsock_connection *connection)
{
    if (connection->waiting || !connection->guest_shutdown)
        return;
    /* 5.10.6.5: both are shut, and the peer agrees by an RST. */
    if (connection->guest_shutdown == SHUTDOWN_BOTH)
        vsock_abort(connection);
    else if (connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND)
        shutdown(connection->fd, SHUT_WR);
    else
        shutdown(connection->fd, SHUT_RD);
}

/* Writes what the socket takes. */
static void flush(struct vsock_connection *connection)
{
    while (connection->waiting) {
        uint32_t piece = VIRTIO_VSOCK_BUFFER - connection->first;
        ssize_t sent;

        piece = piece < connection->waiting ? piece : connection->waiting;
        sent = send(connection->fd, connection->buffer + connection->first, piece,
                    MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (sent < 0) {
            /* It reads no more; what is left has nowhere to go. */
            shut(connection, VIRTIO_VSOCK_SHUTDOWN_RCV);
            sent = piece;
        }
        connection->first = (connection->first + (uint32_t)sent) % VIRTIO_VSOCK_BUFFER;
        connection->waiting -= (uint32_t)sent;
        connection->fwd_cnt += (uint32_t)sent;
    }
    /* Before it runs dry, so that it need not wait. */
    if (connection->fwd_cnt - connection->fwd_told >= VIRTIO_VSOCK_BUFFER / 2)
        connection->send |= VSOCK_SEND_CREDIT;
    carry_out_shutdown(connection);
}

/* Copies the packet's data behind what waits: false if it is more than there is room for. */
static bool store(struct virtio_vsock *vsock, struct vsock_connection *connection, uint32_t len)
{
    uint64_t from = sizeof(struct virtio_vsock_hdr);

    if (len > VIRTIO_VSOCK_BUFFER - connection->waiting || len > vsock->chain.readable_bytes - from)
        return false;
    if (!connection->buffer)
        connection->buffer = malloc(VIRTIO_VSOCK_BUFFER);
    if (!connection->buffer)
        return false;
    while (len) {
        uint32_t at = (connection->first + connection->waiting) % VIRTIO_VSOCK_BUFFER;
        uint32_t piece = VIRTIO_VSOCK_BUFFER - at < len ? VIRTIO_VSOCK_BUFFER - at : len;

        if (virtqueue_read(&vsock->device.queues[VIRTIO_VSOCK_TRANSMIT], &vsock->chain, from,
                           connection->buffer + at, piece) != piece)
            return false;
        connection->waiting += piece;
        vsock->counts.received_bytes += piece;
        from += piece;
        len -= piece;
    }
    return true;
}

static void take_data(struct virtio_vsock *vsock, struct vsock_connection *connection, uint32_t len)
{
    if (connection->state == VSOCK_DISCONNECT)
        return; /* it has been told, or is about to be */
    if (connection->state != VSOCK_CONNECTED ||
        connection->guest_shutdown & VIRTIO_VSOCK_SHUTDOWN_SEND || !store(vsock, connection, len)) {
        vsock->counts.bad_packets++;
        vsock_abort(connection);
        return;
    }
    flush(connection);
}

static void take_shutdown(struct vsock_connection *connection, uint32_t flags)
{
    connection->guest_shutdown |= flags & SHUTDOWN_BOTH;
    if (connection->state == VSOCK_CONNECTED)
        carry_out_shutdown(connection);
    else if (connection->state != VSOCK_DISCONNECT || connection->guest_shutdown == SHUTDOWN_BOTH)
        vsock_abort(connection);
}

void vsock_owe_reset(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header)
{
    vsock->state.resets[vsock->state.nresets++] = (struct vsock_reset){ header->dst_port,
                                                                        header->src_port,
                                                                        header->type };
}

/* The guest connects to a port of ours: to PATH_PORT. */
static void take_request(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header)
{
    char path[VIRTIO_VSOCK_PATH_BYTES + sizeof("_4294967295")];
    struct vsock_connection *connection;
    int fd;

    snprintf(path, sizeof(path), "%s_%u", vsock->path, header->dst_port);
    fd = unix_connect(path);
    connection = begin(vsock, VSOCK_CONNECTED, fd);
    if (!connection) {
        if (fd >= 0)
            close(fd);
        vsock->counts.refused++;
        vsock_owe_reset(vsock, header);
        return;
    }
    connection->host_port = header->dst_port;
    connection->guest_port = header->src_port;
    connection->peer_buf_alloc = header->buf_alloc;
    connection->peer_fwd_cnt = header->fwd_cnt;
    if (fd < 0) {
        connection->fd = -1;
        vsock->counts.refused++;
        vsock_abort(connection);
        return;
    }
    connection->send = VSOCK_SEND_RESPONSE;
    vsock->counts.from_guest++;
}

/* The guest takes a connection of ours. */
static void take_response(struct virtio_vsock *vsock, struct vsock_connection *connection)
{
    char line[32];
    int len = snprintf(line, sizeof(line), "OK %u\n", connection->host_port);

    if (connection->state != VSOCK_REQUESTED || connection->send & VSOCK_SEND_REQUEST) {
        vsock->counts.bad_packets++;
        vsock_abort(connection);
        return;
    }
    connection->state = VSOCK_CONNECTED;
    vsock->counts.to_guest++;
    /* They are the first bytes of all: there is room, or nobody is there. */
    if (send(connection->fd, line, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
        vsock_abort(connection);
}

void vsock_take_packet(struct virtio_vsock *vsock, const struct virtio_vsock_hdr *header)
{
    struct vsock_connection *connection = find(vsock, header->dst_port, header->src_port);

    if (header->op == VIRTIO_VSOCK_OP_RST) {
        if (connection) {
            vsock->counts.refused += connection->state == VSOCK_REQUESTED;
            vsock_forget(connection);
        }
        return;
    }
    if (connection && connection->state == VSOCK_RESET)
        return; /* about to be told */
    if (!connection && header->op == VIRTIO_VSOCK_OP_REQUEST) {
        take_request(vsock, header);
        return;
    }
    if (!connection) {
        vsock_owe_reset(vsock, header);
        return;
    }
    connection->peer_buf_alloc = header->buf_alloc;
    connection->peer_fwd_cnt = header->fwd_cnt;
    if (credit(connection))
        connection->asked = false;
    switch (header->op) {
    case VIRTIO_VSOCK_OP_RESPONSE: take_response(vsock, connection); break;
    case VIRTIO_VSOCK_OP_RW: take_data(vsock, connection, header->len); break;
    case VIRTIO_VSOCK_OP_SHUTDOWN: take_shutdown(connection, header->flags); break;
    case VIRTIO_VSOCK_OP_CREDIT_UPDATE: break;
    case VIRTIO_VSOCK_OP_CREDIT_REQUEST: connection->send |= VSOCK_SEND_CREDIT; break;
    default: /* a second REQUEST, too */
        vsock->counts.bad_packets++;
        vsock_abort(connection);
        break;
    }
}

/* ---- The host's sockets --------------------------------------------------------------------- */

bool vsock_accept(struct virtio_vsock *vsock)
{
    int fd = unix_accept(&vsock->listener);

    if (fd < 0)
        return false;
    if (!virtio_device_is_running(&vsock->device) || !begin(vsock, VSOCK_ASKED, fd)) {
        vsock->counts.refused++;
        close(fd);
    }
    return true;
}

/* "CONNECT PORT": whether it is. */
static bool parse_line(const char *line, uint32_t *port)
{
    unsigned long number;
    char *end;

    if (strncmp(line, "CONNECT ", 8) || line[8] < '0' || line[8] > '9')
        return false;
    number = strtoul(line + 8, &end, 10);
    *port = (uint32_t)number;
    return !*end && number <= UINT32_MAX;
}

/* Byte by byte: what follows the line is for the guest. */
static void read_line(struct virtio_vsock *vsock, struct vsock_connection *connection)
{
    char *at;

    do {
        ssize_t got = -1;

        at = connection->line + connection->line_bytes;
        errno = 0;
        if (connection->line_bytes < sizeof(connection->line))
            got = recv(connection->fd, at, 1, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            vsock_forget(connection);
            return;
        }
        connection->line_bytes++;
    } while (*at != '\n');
    *at = 0;
    if (!parse_line(connection->line, &connection->guest_port)) {
        vsock_forget(connection);
        return;
    }
    do {
        connection->host_port = PORT_FIRST + vsock->state.next_port++ % PORT_FIRST;
    } while (find(vsock, connection->host_port, connection->guest_port));
    connection->state = VSOCK_REQUESTED;
    connection->send = VSOCK_SEND_REQUEST;
}

short vsock_interest(const struct vsock_connection *connection)
{
    if (connection->state == VSOCK_FREE || connection->fd < 0)
        return 0;
    switch (connection->state) {
    case VSOCK_ASKED: return POLLIN | POLLHUP;
    case VSOCK_CONNECTED:
        if (connection->waiting)
            return POLLOUT | POLLHUP |
                   (wants_data(connection) && !connection->readable ? POLLIN : 0);
        if (!wants_data(connection))
            return POLLHUP;
        /* What is ready already is not asked for, until it has been read. */
        return connection->readable ? 0 : POLLIN | POLLHUP;
    default: return POLLHUP;
    }
}

void vsock_ready(struct virtio_vsock *vsock, struct vsock_connection *connection, short events)
{
    bool over = events & (POLLHUP | POLLERR | POLLNVAL);

    switch (connection->state) {
    case VSOCK_ASKED: read_line(vsock, connection); break;
    case VSOCK_REQUESTED:
        if (over)
            vsock_abort(connection);
        break;
    case VSOCK_CONNECTED:
        connection->hung_up |= over;
        if (connection->waiting)
            flush(connection);
        if (connection->state != VSOCK_CONNECTED)
            break;
        if (wants_data(connection))
            connection->readable = true; /* if only the end */
        else if (connection->hung_up)
            host_gone(connection);
        break;
    default: break;
    }
}
