/*
 * Addresses: from text and to text. Nothing here waits; names of hosts are not looked up.
 */
#include <pica/net.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "runtime/base/sys.h"

#define UNIX_PATH_OFFSET offsetof(struct sockaddr_un, sun_path)
#define UNIX_PATH_MAX sizeof(((struct sockaddr_un *)NULL)->sun_path)

/* Whether this kernel has IPv6. */
static bool have_ipv6(void) {
    /* 0 unknown, 1 yes, 2 no. Written and read by any thread, relaxed: it never changes again and
     * nothing hangs on it; two threads may both find out. */
    static _Atomic int known;
    int answer = atomic_load_explicit(&known, memory_order_relaxed);
    if (answer == 0) {
        int fd = pica__sys_socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0) {
            (void)pica__sys_close(fd);
        } else if (fd != -EAFNOSUPPORT) {
            return true; /* no descriptor just now: that tells nothing */
        }
        answer = fd >= 0 ? 1 : 2;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
}

/* "eth0" or "2"; 0 if there is no such interface. */
static uint32_t scope_of(const char *text) {
    uint32_t number = 0;
    for (const char *c = text; *c >= '0' && *c <= '9'; c++) {
        uint32_t digit = (uint32_t)(*c - '0');
        if (number > (UINT32_MAX - digit) / 10) {
            return 0;
        }
        number = number * 10 + digit;
        if (c[1] == '\0') {
            return number;
        }
    }
    return if_nametoindex(text);
}

static int parse_ipv6(struct sockaddr_in6 *to, const char *host) {
    char text[INET6_ADDRSTRLEN];
    const char *percent = strchr(host, '%');
    size_t length = percent == NULL ? strlen(host) : (size_t)(percent - host);
    if (length >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, host, length);
    text[length] = '\0';
    if (inet_pton(AF_INET6, text, &to->sin6_addr) != 1) {
        return -EINVAL;
    }
    if (percent != NULL) {
        to->sin6_scope_id = scope_of(percent + 1);
        if (to->sin6_scope_id == 0) {
            return -EINVAL;
        }
    }
    return 0;
}

int pica_address_ip(pica_address *address, const char *host, unsigned port) {
    if (address == NULL || port > 65535) {
        return -EINVAL;
    }
    bool any = host == NULL || *host == '\0';
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    const void *from;
    size_t length;
    if (any ? !have_ipv6() : inet_pton(AF_INET, host, &in.sin_addr) == 1) {
        from = &in;
        length = sizeof in;
    } else {
        if (!any && parse_ipv6(&in6, host) < 0) {
            return -EINVAL;
        }
        from = &in6;
        length = sizeof in6;
    }
    memset(address, 0, sizeof *address);
    memcpy(&address->storage, from, length);
    address->length = (socklen_t)length;
    return 0;
}

int pica_address_unix(pica_address *address, const char *path) {
    if (address == NULL || path == NULL || *path == '\0' || strcmp(path, "@") == 0) {
        return -EINVAL;
    }
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    bool abstract = *path == '@';
    /* A path keeps its final zero; an abstract name begins with one and has none at its end. */
    if (length + !abstract > UNIX_PATH_MAX) {
        return -ENAMETOOLONG;
    }
    memcpy(un.sun_path, path, length);
    if (abstract) {
        un.sun_path[0] = '\0';
    }
    memset(address, 0, sizeof *address);
    memcpy(&address->storage, &un, sizeof un);
    address->length = (socklen_t)(UNIX_PATH_OFFSET + length + !abstract);
    return 0;
}

/* Each of these writes one kind of address into text, which is large enough, and returns its
 * length. */

static size_t format_ipv4(char *text, size_t size, const pica_address *address) {
    struct sockaddr_in in;
    char host[INET_ADDRSTRLEN];
    memcpy(&in, &address->storage, sizeof in);
    if (inet_ntop(AF_INET, &in.sin_addr, host, sizeof host) == NULL) {
        return 0;
    }
    return (size_t)snprintf(text, size, "%s:%u", host, (unsigned)ntohs(in.sin_port));
}

static size_t format_ipv6(char *text, size_t size, const pica_address *address) {
    struct sockaddr_in6 in6;
    char host[INET6_ADDRSTRLEN];
    char scope[IF_NAMESIZE + 1] = "";
    memcpy(&in6, &address->storage, sizeof in6);
    if (inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host) == NULL) {
        return 0;
    }
    if (in6.sin6_scope_id != 0) {
        scope[0] = '%';
        if (if_indextoname(in6.sin6_scope_id, scope + 1) == NULL) {
            (void)snprintf(scope, sizeof scope, "%%%u", (unsigned)in6.sin6_scope_id);
        }
    }
    return (size_t)snprintf(text, size, "[%s%s]:%u", host, scope, (unsigned)ntohs(in6.sin6_port));
}

static size_t format_unix(char *text, const pica_address *address) {
    static const char prefix[] = "unix:";
    size_t at = sizeof prefix - 1;
    memcpy(text, prefix, at);
    struct sockaddr_un un;
    memcpy(&un, &address->storage, sizeof un);
    size_t length = address->length > UNIX_PATH_OFFSET ? address->length - UNIX_PATH_OFFSET : 0;
    if (length > UNIX_PATH_MAX) {
        length = UNIX_PATH_MAX;
    }
    if (length != 0 && un.sun_path[0] != '\0') {
        length = strnlen(un.sun_path, length);
    }
    for (size_t i = 0; i < length; i++) {
        /* Zeros occur in abstract names only, as the first byte and wherever the user likes. */
        text[at++] = un.sun_path[i] == '\0' ? '@' : un.sun_path[i];
    }
    text[at] = '\0';
    return at;
}

size_t pica_address_format(const pica_address *address, char *buffer, size_t size) {
    char text[sizeof "unix:" + UNIX_PATH_MAX + INET6_ADDRSTRLEN + IF_NAMESIZE];
    size_t length = 0;
    switch (address->storage.ss_family) {
    case AF_INET:
        length = format_ipv4(text, sizeof text, address);
        break;
    case AF_INET6:
        length = format_ipv6(text, sizeof text, address);
        break;
    case AF_UNIX:
        length = format_unix(text, address);
        break;
    default:
        break; /* an empty text: there is nothing to tell */
    }
    if (size != 0) {
        size_t n = length < size ? length : size - 1;
        memcpy(buffer, text, n);
        buffer[n] = '\0';
    }
    return length;
}

unsigned pica_address_port(const pica_address *address) {
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    switch (address->storage.ss_family) {
    case AF_INET:
        memcpy(&in, &address->storage, sizeof in);
        return ntohs(in.sin_port);
    case AF_INET6:
        memcpy(&in6, &address->storage, sizeof in6);
        return ntohs(in6.sin6_port);
    default:
        return 0;
    }
}
