/*
 * System calls on simulated descriptors: see sys.h.
 */
#include "runtime/base/sim/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/base/sim/datagram.h"
#include "runtime/base/sim/disk.h"
#include "runtime/base/sim/net.h"

/* Before each call: others may run, and it may be interrupted. */
static bool interrupted(void) {
    pica__sim_point();
    return pica__sim_fault(PICA_SIM_CALL_EINTR);
}

static void give_address(const pica_address *from, struct sockaddr *addr, unsigned *len) {
    if (addr != NULL && len != NULL) {
        memcpy(addr, &from->storage, *len < from->length ? *len : from->length);
        *len = from->length;
    }
}

int pica__sim_socket(int domain, int type, int protocol) {
    pica__sim_point();
    (void)protocol;
    bool datagrams = (type & 0xf) == SOCK_DGRAM;
    if ((!datagrams && (type & 0xf) != SOCK_STREAM) ||
        (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)) {
        return -EAFNOSUPPORT;
    }
    pica__sim_file *file;
    int fd = pica__sim_file_open(&file, PICA__SIM_SOCKET);
    if (fd >= 0) {
        file->socket = true;
        file->family = domain;
        file->tcp = domain != AF_UNIX && !datagrams;
        file->flags = O_RDWR | ((type & SOCK_NONBLOCK) != 0 ? O_NONBLOCK : 0);
        if (datagrams) {
            pica__sim_datagram_init(file);
        }
    }
    return fd;
}

/* Both ends, or neither. */
static int two(int fds[2], pica__sim_file *file[2]) {
    for (int i = 0; i < 2; i++) {
        fds[i] = pica__sim_file_open(&file[i], PICA__SIM_SOCKET);
        if (fds[i] < 0) {
            int rc = fds[i];
            if (i == 1) {
                (void)pica__sim_close(fds[0]);
            }
            return rc;
        }
    }
    return 0;
}

int pica__sim_socketpair(int domain, int type, int fds[2]) {
    pica__sim_point();
    if (domain != AF_UNIX || (type & 0xf) != SOCK_STREAM) {
        return -EOPNOTSUPP;
    }
    pica__sim_file *file[2];
    int rc = two(fds, file);
    if (rc == 0) {
        for (int i = 0; i < 2; i++) {
            file[i]->socket = true;
            file[i]->family = AF_UNIX;
            file[i]->flags = O_RDWR;
            file[i]->name.storage.ss_family = AF_UNIX;
            file[i]->name.length = sizeof(sa_family_t);
        }
        pica__sim_stream_pair(file[0], file[1]);
    }
    return rc;
}

int pica__sim_pipe2(int fds[2], int flags) {
    pica__sim_point();
    pica__sim_file *file[2];
    int rc = two(fds, file);
    if (rc == 0) {
        file[0]->kind = file[1]->kind = PICA__SIM_STREAM;
        file[0]->flags = O_RDONLY | (flags & O_NONBLOCK);
        file[1]->flags = O_WRONLY | (flags & O_NONBLOCK);
        file[0]->in = file[1]->out = pica__sim_pipe_make(file[1], file[0]);
    }
    return rc;
}

/* Of /dev/null: it is there, and empty. */
int pica__sim_open(const char *path, int flags) {
    pica__sim_file *file;
    pica__sim_point();
    if (strcmp(path, "/dev/null") == 0) {
        (void)pica__sim_disk_put(path, NULL, 0);
    }
    return pica__sim_disk_open(&file, AT_FDCWD, path, flags, 0600);
}

int pica__sim_bind(int fd, const struct sockaddr *addr, unsigned len) {
    pica__sim_point();
    return pica__sim_bind_file(pica__sim_file_of(fd), addr, len);
}

int pica__sim_listen(int fd, int backlog) {
    pica__sim_point();
    return pica__sim_listen_file(pica__sim_file_of(fd), backlog);
}

int pica__sim_accept4(int fd, struct sockaddr *addr, unsigned *len) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file;
    int rc = pica__sim_accept_file(pica__sim_file_of(fd), &file);
    if (rc >= 0) {
        give_address(&file->peer, addr, len);
    }
    return rc;
}

int pica__sim_connect(int fd, const struct sockaddr *addr, unsigned len) {
    pica__sim_point();
    pica__sim_file *file = pica__sim_file_of(fd);
    return file->kind == PICA__SIM_DATAGRAM ? pica__sim_datagram_connect(file, addr, len)
                                            : pica__sim_connect_file(file, addr, len);
}

int pica__sim_shutdown(int fd, int how) {
    pica__sim_point();
    pica__sim_file *file = pica__sim_file_of(fd);
    if (file->kind == PICA__SIM_LISTENER) {
        file->refuses = true;
        return 0;
    }
    if (file->kind != PICA__SIM_STREAM || !file->socket) {
        return file->socket ? -ENOTCONN : -ENOTSOCK;
    }
    if (how != SHUT_RD) {
        pica__sim_stream_finish(file);
    }
    if (how != SHUT_WR && !file->in->fin_arrived) {
        file->in->fin_arrived = true;
        pica__sim_file_notify(file, POLLIN | POLLRDHUP);
    }
    return 0;
}

static int int_value(void *value, unsigned *len, int is) {
    if (*len < sizeof is) {
        return -EINVAL;
    }
    memcpy(value, &is, sizeof is);
    *len = sizeof is;
    return 0;
}

int pica__sim_getsockopt(int fd, int level, int name, void *value, unsigned *len) {
    const pica__sim_file *file = pica__sim_file_of(fd);
    if (!file->socket) {
        return -ENOTSOCK;
    }
    int is = 0;
    if (level == SOL_SOCKET) {
        is = name == SO_TYPE         ? (file->kind == PICA__SIM_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM)
             : name == SO_DOMAIN     ? file->family
             : name == SO_ACCEPTCONN ? file->kind == PICA__SIM_LISTENER
             : name == SO_REUSEPORT  ? file->reuse_port
             : name == SO_PROTOCOL   ? (file->tcp ? IPPROTO_TCP : 0)
                                     : 0;
    } else if (level == IPPROTO_TCP && name == TCP_NODELAY) {
        is = 1;
    }
    return int_value(value, len, is);
}

int pica__sim_setsockopt(int fd, int level, int name, const void *value, unsigned len) {
    pica__sim_file *file = pica__sim_file_of(fd);
    if (!file->socket) {
        return -ENOTSOCK;
    }
    if (level == IPPROTO_TCP) {
        return file->tcp ? 0 : -EOPNOTSUPP;
    }
    if (name == MCAST_JOIN_GROUP && (level == IPPROTO_IP || level == IPPROTO_IPV6)) {
        return -ENODEV;
    }
    if (level == SOL_SOCKET && name == SO_REUSEPORT) {
        file->reuse_port = len >= sizeof(int) && *(const int *)value != 0;
    } else if (level == SOL_SOCKET && name == SO_ATTACH_FILTER) {
        file->refuses = file->kind == PICA__SIM_LISTENER; /* the one filter that there is: io/listener.c */
    } else if (level == SOL_SOCKET && name == SO_LINGER && len >= sizeof(struct linger)) {
        const struct linger *linger = value;
        file->linger_reset = linger->l_onoff != 0 && linger->l_linger == 0;
    }
    return 0;
}

int pica__sim_name_of(int fd, bool peer, struct sockaddr *addr, unsigned *len) {
    const pica__sim_file *file = pica__sim_file_of(fd);
    if (!file->socket) {
        return -ENOTSOCK;
    }
    if (peer && file->kind != PICA__SIM_STREAM && file->peer.length == 0) {
        return -ENOTCONN;
    }
    pica_address address = peer ? file->peer : file->name;
    if (address.length == 0) {
        address.storage.ss_family = (sa_family_t)file->family;
        address.length = file->family == AF_INET    ? sizeof(struct sockaddr_in)
                         : file->family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                                    : sizeof(sa_family_t);
    }
    give_address(&address, addr, len);
    return 0;
}

ssize_t pica__sim_read(int fd, void *buffer, size_t size) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    if (file->kind == PICA__SIM_DISK) {
        struct iovec part = {buffer, size};
        return pica__sim_disk_read(file, &part, 1, -1);
    }
    ssize_t n = file->kind == PICA__SIM_STREAM ? pica__sim_stream_read(file, buffer, size) : -ENOTCONN;
    pica__sim_trace("read %d, %zu bytes: %zd", fd, size, n);
    return n;
}

ssize_t pica__sim_writev(int fd, const struct iovec *parts, int count) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    if (file->kind == PICA__SIM_DISK) {
        return pica__sim_disk_write(file, parts, count, -1);
    }
    ssize_t n = file->kind == PICA__SIM_STREAM ? pica__sim_stream_write(file, parts, count) : -EPIPE;
    pica__sim_trace("write %d: %zd", fd, n);
    return n;
}

/* Half of what is asked for is not in memory. */
ssize_t pica__sim_preadv(int fd, const struct iovec *parts, int count, int64_t offset) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    if (file->kind != PICA__SIM_DISK) {
        return -EOPNOTSUPP;
    }
    return pica__sim_draw(PICA__SIM_WORLD, 2) != 0 ? -EAGAIN
                                                   : pica__sim_disk_read(file, parts, count, offset);
}

ssize_t pica__sim_pwritev(int fd, const struct iovec *parts, int count, int64_t offset) {
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *file = pica__sim_file_of(fd);
    if (file->kind != PICA__SIM_DISK) {
        return -EOPNOTSUPP;
    }
    return pica__sim_draw(PICA__SIM_WORLD, 2) != 0 ? -EAGAIN
                                                   : pica__sim_disk_write(file, parts, count, offset);
}

ssize_t pica__sim_sendfile(int out, int in, int64_t offset, size_t size) {
    char buffer[4096];
    struct iovec part = {buffer, size < sizeof buffer ? size : sizeof buffer};
    if (interrupted()) {
        return -EINTR;
    }
    pica__sim_file *to = pica__sim_file_of(out);
    pica__sim_file *from = pica__sim_file_of(in);
    if (from->kind != PICA__SIM_DISK || to->kind != PICA__SIM_STREAM) {
        return -EINVAL;
    }
    if ((pica__sim_file_poll(to) & POLLOUT) == 0) {
        return -EAGAIN;
    }
    ssize_t n = pica__sim_disk_read(from, &part, 1, offset);
    if (n <= 0) {
        return n;
    }
    part.iov_len = (size_t)n;
    return pica__sim_stream_write(to, &part, 1);
}

int64_t pica__sim_lseek(int fd, int64_t offset, int whence) {
    pica__sim_file *file = pica__sim_file_of(fd);
    return file->kind == PICA__SIM_DISK ? pica__sim_disk_seek(file, offset, whence) : -ESPIPE;
}

int pica__sim_ftruncate(int fd, int64_t size) {
    pica__sim_file *file = pica__sim_file_of(fd);
    return file->kind == PICA__SIM_DISK ? pica__sim_disk_truncate(file, size) : -EINVAL;
}

int pica__sim_type(int fd) {
    const pica__sim_file *file = pica__sim_file_of(fd);
    return file->kind == PICA__SIM_DISK ? (int)pica__sim_disk_mode(file)
           : file->socket               ? S_IFSOCK
                                        : S_IFIFO;
}

int pica__sim_fcntl(int fd, int command, long arg) {
    pica__sim_file *file = pica__sim_file_of(fd);
    switch (command) {
        case F_GETFL:
            return file->flags;
        case F_SETFL:
            file->flags = (file->flags & O_ACCMODE) | ((int)arg & ~O_ACCMODE);
            return 0;
        case F_GETFD:
            return FD_CLOEXEC;
        case F_SETFD:
            return 0;
        default:
            return -EINVAL;
    }
}
