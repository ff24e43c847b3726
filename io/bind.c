/* Binding a socket to an address. The file of a Unix socket outlives it, and is then in the way of the next one:
 * whether somebody still has it open a connect tells, of a socket of the same type (others fail otherwise than with
 * ECONNREFUSED).
 */
#include "io/bind.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "runtime/base/sys.h"

static void unlink_stale(int fd, const struct sockaddr_un *un, unsigned length) {
    struct stat st;
    int type = 0;
    unsigned size = sizeof type;
    if (un->sun_path[0] == 0 || pica__sys_lstat(un->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode) ||
        pica__sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
        return;
    }
    int probe = pica__sys_socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (probe < 0) {
        return;
    }
    if (pica__sys_connect(probe, (const struct sockaddr *)un, length) == -ECONNREFUSED) {
        (void)pica__sys_unlink(un->sun_path);
    }
    (void)pica__sys_close(probe);
}

void pica__unbind(const pica_address *address) {
    const struct sockaddr_un *un = (const struct sockaddr_un *)&address->storage;
    if (un->sun_family == AF_UNIX && un->sun_path[0] != 0) {
        (void)pica__sys_unlink(un->sun_path);
    }
}

int pica__bind(int fd, const pica_address *address) {
    const struct sockaddr *sa = (const struct sockaddr *)&address->storage;
    int rc = pica__sys_bind(fd, sa, address->length);
    if (rc == -EADDRINUSE && address->storage.ss_family == AF_UNIX) {
        unlink_stale(fd, (const struct sockaddr_un *)&address->storage, address->length);
        rc = pica__sys_bind(fd, sa, address->length);
    }
    return rc;
}
