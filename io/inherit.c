/* Sockets that others have opened: descriptors given by the program, and listeners inherited from whoever started
 * the process. */
#include "io/socket.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "runtime/base/sys.h"

enum { FIRST_FD = 3 };

/* 0, or why fd is no stream socket. */
static int check(int fd) {
    int type = 0;
    socklen_t size = sizeof type;
    int rc = pica__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    return rc < 0 ? rc : type == SOCK_STREAM ? 0 : -EINVAL;
}

static int set_flags(int fd) {
    int rc = pica__sys_fcntl(fd, F_SETFD, FD_CLOEXEC);
    int flags = rc < 0 ? rc : pica__sys_fcntl(fd, F_GETFL, 0);
    return flags < 0 ? flags : pica__sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

int pica_socket_adopt(pica_socket **out, int fd) {
    pica_loop *loop = pica_current_loop();
    if (loop == NULL) {
        return PICA_ENOTASK;
    }
    int rc = out == NULL ? -EINVAL : check(fd);
    rc = rc < 0 ? rc : set_flags(fd);
    return rc < 0 ? rc : pica__socket_adopt(out, fd, loop);
}

/* A variable's value: -1 if it is not set, -EINVAL if it is no number. */
static long number(const char *name) {
    const char *text = getenv(name);
    if (text == NULL) {
        return -1;
    }
    char *end;
    long value = strtol(text, &end, 10);
    return end == text || *end != 0 || value < 0 ? -EINVAL : value;
}

int pica_listen_fds(pica_socket *sockets[], int max) {
    if (pica_current_loop() == NULL) {
        return PICA_ENOTASK;
    }
    long pid = number("LISTEN_PID");
    long count = number("LISTEN_FDS");
    if (pid == -EINVAL || count == -EINVAL || count > INT16_MAX || (sockets == NULL && max > 0)) {
        return -EINVAL;
    }
    if (pid != (long)getpid() || count <= 0) {
        return 0;
    }
    /* All are looked at before one is taken, so that an error leaves everything as it was. */
    for (int i = 0; i < (int)count; i++) {
        int rc = check(FIRST_FD + i);
        rc = rc < 0 ? rc : set_flags(FIRST_FD + i);
        if (rc < 0) {
            return rc;
        }
    }
    for (int i = 0; i < max; i++) {
        sockets[i] = NULL;
    }
    for (int i = 0; i < (int)count && i < max; i++) {
        int rc = pica__socket_adopt(&sockets[i], FIRST_FD + i, pica_current_loop());
        if (rc < 0) {
            return rc;
        }
    }
    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    return (int)count;
}
