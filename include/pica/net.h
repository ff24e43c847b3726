/* Addresses and sockets. A socket is an opaque handle: it knows what waits on it, and close wakes
 * all of that before the descriptor's number can be used again. Reads and writes are tried at
 * once and suspend only if the kernel has nothing to give or no room. */
#ifndef PICA_NET_H
#define PICA_NET_H

#include <pica/base.h>

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

PICA_BEGIN_DECLS

typedef struct pica_socket pica_socket;
typedef struct pica_loop pica_loop;

typedef struct pica_address {
    struct sockaddr_storage storage;
    socklen_t length;
} pica_address;

/* host: a numeric IPv4 or IPv6 address ("::1", "fe80::1%eth0"), or NULL or "" for all interfaces
 * (IPv6 with IPv4 if there is IPv6, else IPv4). -EINVAL if it is no numeric address or port is
 * above 65535. Any thread. */
PICA_API int pica_address_ip(pica_address *address, const char *host, unsigned port);
/* A path, or "@name" for the abstract namespace. -ENAMETOOLONG (never truncated), -EINVAL. */
PICA_API int pica_address_unix(pica_address *address, const char *path);
/* "127.0.0.1:80", "[::1]:80", "unix:/path". Always terminates; returns the length that was needed
 * without the final zero. */
PICA_API size_t pica_address_format(const pica_address *address, char *buffer, size_t size);
/* The port of an IP address, 0 otherwise. */
PICA_API unsigned pica_address_port(const pica_address *address);

struct pica_listen_options {
    size_t size;          /* sizeof(struct pica_listen_options) */
    int backlog;          /* 0: 1024 */
    unsigned unix_mode;   /* permission bits of a Unix socket's file; 0: by umask */
};
#define PICA_LISTEN_OPTIONS_INIT { sizeof(struct pica_listen_options), 0, 0 }

/* Connects a stream socket. *out gets a reference, released by pica_socket_close. Suspends. Task.
 * Errors: those of connect(2), -EMFILE, -ENOMEM, PICA_ENOTASK, PICA_ECANCELED (the socket was
 * closed; nothing is left). */
PICA_API int pica_connect(pica_socket **out, const pica_address *address);
/* Listens; one queue of connections. Does not suspend. Runtime. -EADDRINUSE (also if another
 * process listens there), -EACCES, -EMFILE, ... A stale Unix socket file (nobody listens) is
 * replaced. */
PICA_API int pica_listen(pica_socket **out, const pica_address *address,
                         const struct pica_listen_options *options);
/* Makes a handle of a descriptor that somebody else opened, a stream socket, connected or listening, and takes
 * it over (on success): it becomes non-blocking and close-on-exec. Home is the caller's loop. -ENOTSOCK,
 * -EBADF, -EINVAL (no stream socket), -ENOMEM. Does not suspend. Runtime. */
PICA_API int pica_socket_adopt(pica_socket **out, int fd);
/* Listeners that whoever started this process has opened for it (systemd's protocol: LISTEN_FDS, LISTEN_PID,
 * descriptors from 3 on): makes handles of at most max of them and returns how many there are, 0 if
 * none are meant for this process. The variables are removed, so that a second call, or a child, finds
 * none; the other places of sockets are set to NULL. Errors as pica_socket_adopt, -EINVAL if a variable is no
 * number: then nothing was taken, but after -ENOMEM what is not NULL. Not while other threads use the
 * environment. Runtime. */
PICA_API int pica_listen_fds(pica_socket *sockets[], int max);
/* Takes the next connection; peer may be NULL. Suspends. Task. PICA_ECLOSED if the listener is
 * closed, PICA_ECANCELED (no connection was taken), -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM. */
PICA_API int pica_accept(pica_socket *listener, pica_socket **out, pica_address *peer);

/* Receives 1 to size bytes as soon as there are any; 0 is the end of the stream (or size 0). At most
 * 64 KiB at once; when a peer has sent so much without a wait, others get their turn before the next.
 * One task may receive at a time: -EBUSY. Suspends. Task.
 * Errors: -ECONNRESET and others of recv(2), PICA_ECLOSED, PICA_ECANCELED (no byte was taken). */
PICA_API ssize_t pica_recv(pica_socket *socket, void *buffer, size_t size);
/* Sends 1 to size bytes, as many as the kernel takes. One task may send at a time: -EBUSY.
 * -EPIPE (no signal), -ECONNRESET, PICA_ECLOSED, PICA_ECANCELED (no byte was sent). */
PICA_API ssize_t pica_send(pica_socket *socket, const void *buffer, size_t size);
/* Sends everything; 0 or an error, after which the number of bytes sent is unknown. */
PICA_API int pica_sendall(pica_socket *socket, const void *buffer, size_t size);
/* As pica_send for several buffers; count up to 64. */
PICA_API ssize_t pica_sendv(pica_socket *socket, const struct iovec *buffers, int count);
/* how: SHUT_RD, SHUT_WR, SHUT_RDWR. Does not suspend. Runtime. */
PICA_API int pica_socket_shutdown(pica_socket *socket, int how);
/* Ends the handle: tasks that wait on it get PICA_ECLOSED, then the descriptor is closed. Drops
 * the caller's reference; NULL is allowed. Does not suspend: the descriptor may be closed a little
 * later, by the socket's home loop. Runtime. */
PICA_API void pica_socket_close(pica_socket *socket);

/* 0 or an error of the system call. Runtime. */
PICA_API int pica_socket_name(pica_socket *socket, pica_address *address);
PICA_API int pica_socket_peer(pica_socket *socket, pica_address *address);
/* setsockopt(2) and getsockopt(2) on the descriptor. PICA_ECLOSED. Runtime. */
PICA_API int pica_socket_setopt(pica_socket *socket, int level, int name, const void *value,
                                socklen_t length);
PICA_API int pica_socket_getopt(pica_socket *socket, int level, int name, void *value,
                                socklen_t *length);

PICA_END_DECLS
#endif
