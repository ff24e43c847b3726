/* Streams and servers: StreamReader, StreamWriter, open_connection and start_server of asyncio,
 * over TCP (IPv4, IPv6) and Unix sockets. */
#ifndef PICA_STREAM_H
#define PICA_STREAM_H

#include <pica/base.h>
#include <pica/names.h>
#include <pica/net.h>

PICA_BEGIN_DECLS

typedef struct pica_reader pica_reader;
typedef struct pica_writer pica_writer;
typedef struct pica_server pica_server;

/* Connects to a port of a host, numeric or a name, by pica_connect_host: of several addresses the first
 * that answers is taken. *reader and *writer belong to each other and to the caller, who ends both
 * with pica_writer_close (and pica_writer_wait_closed). limit: the reader's buffer limit in bytes for
 * readline and readuntil; 0: 64 KiB. Errors as pica_connect_host, and -EINVAL.
 * pica_open_unix_connection: errors as pica_connect and pica_address_unix. Suspends. Task. */
PICA_API int pica_open_connection(const char *host, unsigned port, size_t limit,
                                  pica_reader **reader, pica_writer **writer);
PICA_API int pica_open_unix_connection(const char *path, size_t limit, pica_reader **reader,
                                       pica_writer **writer);
/* Makes streams of a connected socket, whose reference they take over (on success). Does not suspend. Any
 * thread of the runtime. -EINVAL, -ENOMEM, PICA_ECLOSED. */
PICA_API int pica_open_socket(pica_socket *socket, size_t limit, pica_reader **reader,
                              pica_writer **writer);

/* Reads 1 to size bytes as soon as there are any; 0: end of the stream (or size 0). Not bounded by
 * the limit. After 64 KiB from a peer without a wait others get their turn. One task may read at a time: -EBUSY. Suspends. Task. Errors of recv(2), PICA_ECLOSED,
 * PICA_ECANCELED (no byte was lost). The same holds for all reads below. */
PICA_API ssize_t pica_reader_read(pica_reader *reader, void *buffer, size_t size);
/* Reads exactly size bytes: 0, or PICA_EINCOMPLETE if the stream ended before (*got, may be NULL,
 * tells how many bytes were stored). After PICA_ECANCELED *got bytes were taken into buffer. */
PICA_API int pica_reader_readexactly(pica_reader *reader, void *buffer, size_t size, size_t *got);
/* Hands out a view of what comes up to and including separator (length >= 1), valid until the next
 * read of this reader. Returns its length; PICA_EINCOMPLETE at the end of the stream (*data and
 * *size, size may be NULL, are the bytes left, which are taken); -EMSGSIZE if the separator is not
 * found within the limit (nothing is taken: *size tells how many bytes can be consumed without
 * losing a separator). */
PICA_API ssize_t pica_reader_readuntil(pica_reader *reader, const void *separator, size_t length,
                                       const char **data, size_t *size);
/* readuntil "\n"; at the end of the stream the rest is returned as it is, 0 if there is none. Over
 * the limit: -EMSGSIZE, and what was buffered of the line is discarded. */
PICA_API ssize_t pica_reader_readline(pica_reader *reader, const char **line);
/* Hands out a view of whatever is buffered, reading once if nothing is; consumes nothing. Returns
 * its length, 0 at the end. Followed by pica_reader_consume. The zero-copy form of read. */
PICA_API ssize_t pica_reader_peek(pica_reader *reader, const char **data);
/* As pica_reader_peek, but first reads more behind what is buffered; -EMSGSIZE if the buffer holds
 * the limit already. Returns the whole length buffered; the same as before at the end. */
PICA_API ssize_t pica_reader_more(pica_reader *reader, const char **data);
/* Takes size bytes from the front; -EINVAL if fewer are buffered. Does not suspend. */
PICA_API int pica_reader_consume(pica_reader *reader, size_t size);
/* 1 if the end has come and the buffer is empty. Does not suspend. */
PICA_API int pica_reader_at_eof(const pica_reader *reader);
/* Bytes buffered. */
PICA_API size_t pica_reader_buffered(const pica_reader *reader);

/* Appends a copy of the bytes; they are sent at once if nothing is pending, in call order, never
 * mixed with another call's. Never waits: see pica_writer_drain. 0; PICA_ECLOSED after close or
 * write_eof; the connection's error once it is lost; -ENOMEM (nothing was appended). Runtime. */
PICA_API int pica_writer_write(pica_writer *writer, const void *data, size_t size);
PICA_API int pica_writer_writelines(pica_writer *writer, const struct iovec *parts, int count);
/* Between cork and uncork writes are collected and sent as one batch. Calls nest. Runtime. */
PICA_API void pica_writer_cork(pica_writer *writer);
PICA_API int pica_writer_uncork(pica_writer *writer);
/* Suspends while more than the high-water mark is pending, until it is at most the low one. 0, the
 * connection's error, PICA_ECLOSED, PICA_ECANCELED. Task. */
PICA_API int pica_writer_drain(pica_writer *writer);
/* Defaults: high 64 KiB, low high / 4. -EINVAL unless high >= low. */
PICA_API int pica_writer_set_limits(pica_writer *writer, size_t high, size_t low);
/* Bytes that the kernel has not taken yet. */
PICA_API size_t pica_writer_pending(const pica_writer *writer);
/* Half-close: the peer sees the end once everything pending is sent. 0, PICA_ECLOSED. */
PICA_API int pica_writer_write_eof(pica_writer *writer);
/* Ends reader and writer: what is pending is still sent, then the socket is closed. Reads fail
 * with PICA_ECLOSED. Idempotent. Does not suspend. Runtime. The pair is freed when the socket is
 * closed and pica_writer_release was called, which pica_writer_close does not do.
 * Sending what is pending has no limit, as in asyncio: for a peer that does not read (two that close at once with bytes
 * pending are such peers of each other) it never ends, nor does the end of a server's handler, which waits for it. To
 * bound it, close, wait with a limit, and abort:
 *     pica_writer_close(writer);
 *     pica_timeout_enter(&timeout, seconds);
 *     if (pica_timeout_exit(&timeout, pica_writer_wait_closed(writer)) == PICA_ETIMEDOUT) pica_writer_abort(writer); */
PICA_API void pica_writer_close(pica_writer *writer);
/* Ends at once, dropping what is pending. */
PICA_API void pica_writer_abort(pica_writer *writer);
/* Suspends until the socket is closed: 0 or the error that ended the connection.
 * PICA_ECANCELED. Task. */
PICA_API int pica_writer_wait_closed(pica_writer *writer);
/* Gives the pair back: closes it if that was not done. Neither reader nor writer may be used
 * afterwards; NULL is allowed. Not needed in a server's handler: the server does it. Runtime. */
PICA_API void pica_writer_release(pica_writer *writer);
/* The socket under the streams, borrowed. */
PICA_API pica_socket *pica_writer_socket(pica_writer *writer);

/* Serves one connection, as a task of its own. When it returns the connection is closed after
 * sending what is pending, and both are released; a negative result other than PICA_ECANCELED is
 * logged at level debug. */
typedef int (*pica_client_connected)(pica_reader *reader, pica_writer *writer, void *arg);

struct pica_server_options {
    size_t size;           /* sizeof(struct pica_server_options) */
    int backlog;           /* 0: 1024 */
    size_t limit;          /* of each reader; 0: 64 KiB */
    unsigned unix_mode;    /* permission bits of a Unix socket's file; 0: by umask */
    /* Connections open at once; 0: no limit. At the limit the server accepts nothing until one has ended;
     * clients wait in the kernel's backlog. With a limit there is one listener for each address. */
    size_t max_connections;
    int reuse_port;        /* not 0: SO_REUSEPORT, so that other processes may listen there, too */
    int delay;             /* not 0: Nagle's algorithm stays on (TCP_NODELAY is the default) */
    int keepalive;         /* seconds of silence before TCP probes the peer; 0: never */
    int receive_buffer;    /* bytes of the kernel's buffers for each connection; 0: the system's */
    int send_buffer;
};
#define PICA_SERVER_OPTIONS_INIT \
    { sizeof(struct pica_server_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Listens and serves: each accepted connection becomes a task on the loop that has the fewest
 * connections of this server. One listener per loop for TCP, one in all for Unix sockets. host as
 * of pica_address_ip; port 0: chosen by the kernel (pica_server_address tells). Does not suspend.
 * Runtime. Errors as pica_listen, -ENOMEM. *out is released with pica_server_release. */
PICA_API int pica_start_server(pica_server **out, const char *host, unsigned port,
                               pica_client_connected handler, void *arg,
                               const struct pica_server_options *options);
PICA_API int pica_start_unix_server(pica_server **out, const char *path,
                                    pica_client_connected handler, void *arg,
                                    const struct pica_server_options *options);
/* The same on port of all addresses that a host has, which may be a name or a number: one server, with a listener
 * for each address, of both families, on each loop (on one loop in all with max_connections). Addresses that are
 * the same count once; those that this machine does not have, and families that the kernel does not know, are
 * passed over unless there is no other. IPv6 addresses take IPv6 only. host NULL or "": all interfaces, IPv6 and
 * IPv4 by one listener, as of pica_start_server. port 0: each address gets a port of its own
 * (pica_server_addresses tells).
 * If one of them cannot be had (-EADDRINUSE, -EACCES, ...) that is the error, none is kept, all ports are free at
 * once, and the task's error object (pica_current_error) tells which address it was. Also the errors of
 * pica_getaddrinfo and pica_start_server, and -EINVAL for a port above 65535. Suspends, for the look-up. Task.
 * Cancellation: PICA_ECANCELED, at entry or during the look-up; nothing is left. */
PICA_API int pica_start_server_host(pica_server **out, const char *host, unsigned port,
                                    pica_client_connected handler, void *arg,
                                    const struct pica_server_options *options);
/* The same on each address of a list, with the port that it has there: for several hosts, or addresses chosen by
 * hand. The list stays the caller's. Entries of other types than SOCK_STREAM and 0, and of other families than
 * AF_INET and AF_INET6, are left out; -EINVAL if none is left. Does not suspend. Runtime. */
PICA_API int pica_start_server_list(pica_server **out, const pica_addrinfo *list,
                                    pica_client_connected handler, void *arg,
                                    const struct pica_server_options *options);
/* The same on a socket that listens already (asyncio's sock=): of pica_listen, or inherited from another process
 * (pica_listen_fds, pica_socket_adopt). On success its reference is the server's. Other processes may
 * share it: closing the server leaves their share alone. backlog, unix_mode and reuse_port are not used.
 * -EINVAL also for a socket of another runtime. */
PICA_API int pica_start_server_socket(pica_server **out, pica_socket *listener,
                                      pica_client_connected handler, void *arg,
                                      const struct pica_server_options *options);
/* The address that it listens on; of several the first. */
PICA_API int pica_server_address(pica_server *server, pica_address *address);
/* Stores at most max of the addresses that it listens on, in the order in which they were asked for, and returns
 * how many there are. max 0: only counts. Constant from the start on. Does not suspend. Any thread. */
PICA_API unsigned pica_server_addresses(pica_server *server, pica_address *addresses, unsigned max);
/* Stops accepting, after taking what the kernel has already established; open connections go on.
 * Idempotent. Does not suspend. Runtime. */
PICA_API void pica_server_close(pica_server *server);
/* Suspends until the server is closed and all its connections have ended. 0, PICA_ECANCELED.
 * Task. */
PICA_API int pica_server_wait_closed(pica_server *server);
/* The same for limit seconds at most: PICA_ETIMEDOUT. PICA_FOREVER: no limit. */
PICA_API int pica_server_wait_closed_for(pica_server *server, double limit);
/* Cancels the tasks of all open connections. Does not suspend. Runtime. */
PICA_API void pica_server_cancel_clients(pica_server *server);
/* pica_writer_close, or pica_writer_abort, of all connections that are open now: their handlers see the end.
 * Does not suspend. Runtime. */
PICA_API void pica_server_close_clients(pica_server *server);
PICA_API void pica_server_abort_clients(pica_server *server);
/* Connections now open. */
PICA_API size_t pica_server_connections(const pica_server *server);
/* Closes if that was not done and drops the reference; NULL is allowed. Runtime. */
PICA_API void pica_server_release(pica_server *server);

PICA_END_DECLS
#endif
