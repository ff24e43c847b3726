/* Names of hosts: looking them up, and connecting to whichever of their addresses answers first. */
#ifndef PICA_NAMES_H
#define PICA_NAMES_H

#include <pica/base.h>
#include <pica/net.h>

PICA_BEGIN_DECLS

/* What a look-up may fail with, besides errno's values: the errors of getaddrinfo(3). */
enum {
    PICA_EAI_NONAME = -4520, /* the host, or the service for this type, is not known */
    PICA_EAI_AGAIN = -4521,  /* the name server gave no answer this time */
    PICA_EAI_FAIL = -4522,   /* the name server failed for good */
    PICA_EAI_NODATA = -4523, /* the host is known, but has no address of the family asked for */
    PICA_EAI_SERVICE = -4524 /* the service is not there for the type of socket asked for */
};

/* One address that a name has. Lists may also be made by hand. */
typedef struct pica_addrinfo {
    struct pica_addrinfo *next;
    pica_address address;  /* its family: address.storage.ss_family */
    int type;              /* SOCK_STREAM, ...; 0: any */
    int protocol;          /* IPPROTO_TCP, ...; 0: the usual one of the type */
    const char *canonical; /* of the first one, if AI_CANONNAME was asked for; else NULL */
} pica_addrinfo;

struct pica_addrinfo_options {
    size_t size;  /* sizeof(struct pica_addrinfo_options) */
    int family;   /* AF_INET, AF_INET6; 0: both */
    int type;     /* SOCK_STREAM, SOCK_DGRAM, ...; 0: an entry for each */
    int protocol; /* 0: any */
    int flags;    /* AI_... of <netdb.h> */
};
#define PICA_ADDRINFO_OPTIONS_INIT { sizeof(struct pica_addrinfo_options), 0, 0, 0, 0 }

/* Looks host and service (a name or a number) up as getaddrinfo(3) does; one of the two may be NULL.
 * options: NULL for none. *list gets the addresses, best first, at least one; freed by pica_freeaddrinfo.
 * Numeric hosts with numeric services are answered at once. For others the C library is asked on threads
 * of the runtime's own, 4 at most, so that slow name servers hold up nobody but other look-ups. Host and
 * service are copied. Suspends. Task.
 * Errors: PICA_EAI_...; -EINVAL (both NULL, bad options); -ENOMEM; -EAGAIN (no thread); those of the
 * system calls that the C library makes; PICA_ENOTASK.
 * Cancellation: PICA_ECANCELED at once. A look-up that runs cannot be stopped: it goes on by itself, and
 * what it finds is dropped. */
PICA_API int pica_getaddrinfo(const char *host, const char *service,
                              const struct pica_addrinfo_options *options, pica_addrinfo **list);
/* A list that pica_getaddrinfo made, from its first entry; NULL is allowed. Any thread. */
PICA_API void pica_freeaddrinfo(pica_addrinfo *list);

struct pica_connect_options {
    size_t size;   /* sizeof(struct pica_connect_options) */
    double delay;  /* seconds until the next address is tried as well; 0: 0.25. PICA_FOREVER: one by one */
};
#define PICA_CONNECT_OPTIONS_INIT { sizeof(struct pica_connect_options), 0 }

/* Connects a stream socket to the first address of the list that answers ("happy eyeballs", RFC 8305): tries
 * them in order, the families taking turns, the next one when the last attempt has failed or `delay` has
 * passed; the first that succeeds wins, the others are cancelled and closed. The list stays the caller's;
 * entries of other types than SOCK_STREAM and 0 are left out. options: NULL for none. *out gets a reference,
 * released by pica_socket_close. Suspends. Task.
 * Errors: if all attempts fail the first error that is not only about a network that cannot be reached, and
 * the task's error object (pica_current_error) tells what became of each. -EINVAL (no address, a bad
 * option), -ENOMEM, PICA_ENOTASK.
 * Cancellation: PICA_ECANCELED when all attempts have ended; nothing is left. One that comes when the
 * connection is already there stays pending. */
PICA_API int pica_connect_any(pica_socket **out, const pica_addrinfo *list,
                              const struct pica_connect_options *options);
/* Looks host up, which may be numeric, and connects to port of it as pica_connect_any does. Errors of both,
 * -EINVAL also for a port above 65535 and for no host. Suspends. Task. */
PICA_API int pica_connect_host(pica_socket **out, const char *host, unsigned port,
                               const struct pica_connect_options *options);

PICA_END_DECLS
#endif
