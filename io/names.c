/* Looking names up: getaddrinfo(3) on a pool of threads.
 *
 * The C library's call cannot be stopped, but the task that waits for it must be cancellable. So all that it
 * needs lies in an object of its own (struct lookup), with two references, one of the task and one of the
 * job. A task that is cancelled leaves, and the job, when it comes back, finds nobody who waits: whoever drops
 * the last reference frees the result. The lookup's lock decides between the two.
 *
 * Lock order: a lookup's lock, then nothing.
 */
#include "io/names.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <pica/error.h>

#include "io/operation.h"
#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "runtime/base/lock.h"
#include "runtime/base/sim/child.h"
#include "runtime/base/sim/sim.h"
#include "runtime/executor.h"
#include "runtime/loop.h"
#include "runtime/task.h"
#include "runtime/wait.h"

/* --- lists --- */

/* A list is one piece of memory: this, the entries, the canonical name. */
struct block {
    size_t size;
    pica_addrinfo first[];
};

static pica_addrinfo *list_new(size_t count, const char *canonical) {
    size_t length = canonical == NULL ? 0 : strlen(canonical) + 1;
    size_t size = sizeof(struct block) + count * sizeof(pica_addrinfo) + length;
    struct block *block = pica__zalloc(size);
    if (block == NULL) {
        return NULL;
    }
    block->size = size;
    for (size_t i = 0; i + 1 < count; i++) {
        block->first[i].next = &block->first[i + 1];
    }
    if (canonical != NULL) {
        block->first[0].canonical = memcpy(&block->first[count], canonical, length);
    }
    return block->first;
}

void pica_freeaddrinfo(pica_addrinfo *list) {
    if (list != NULL) {
        struct block *block = PICA__CONTAINER_OF(list, struct block, first);
        pica__free(block, block->size);
    }
}

static bool fits(const struct addrinfo *info) {
    return info->ai_addr != NULL && info->ai_addrlen <= sizeof(struct sockaddr_storage);
}

/* A list of what the C library has found. */
static int list_copy(pica_addrinfo **out, const struct addrinfo *found) {
    size_t count = 0;
    for (const struct addrinfo *info = found; info != NULL; info = info->ai_next) {
        count += fits(info);
    }
    if (count == 0) {
        return PICA_EAI_NODATA;
    }
    pica_addrinfo *list = list_new(count, found->ai_canonname);
    if (list == NULL) {
        return -ENOMEM;
    }
    pica_addrinfo *to = list;
    for (const struct addrinfo *info = found; info != NULL; info = info->ai_next) {
        if (fits(info)) {
            memcpy(&to->address.storage, info->ai_addr, info->ai_addrlen);
            to->address.length = info->ai_addrlen;
            to->type = info->ai_socktype;
            to->protocol = info->ai_protocol;
            to = to->next;
        }
    }
    *out = list;
    return 0;
}

/* --- what needs no look-up --- */

/* "80" to 80; false if it is no number of a port. */
static bool parse_port(const char *service, unsigned *port) {
    *port = 0;
    if (service == NULL) {
        return true;
    }
    size_t digits = 0;
    for (; service[digits] >= '0' && service[digits] <= '9' && digits < 6; digits++) {
        *port = *port * 10 + (unsigned)(service[digits] - '0');
    }
    return digits != 0 && service[digits] == '\0' && *port <= 65535;
}

/* Answers for a numeric host and service as the C library would. False: it has to be asked. */
static bool numeric(const char *host, const char *service, const struct pica_addrinfo_options *o,
                    pica_addrinfo **list, int *rc) {
    static const struct {
        int type, protocol;
    } kinds[] = {{SOCK_STREAM, IPPROTO_TCP}, {SOCK_DGRAM, IPPROTO_UDP}, {SOCK_RAW, 0}};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    const int plain = AI_PASSIVE | AI_CANONNAME | AI_NUMERICHOST | AI_NUMERICSERV | AI_ADDRCONFIG;
    pica_address address;
    unsigned port;
    if (host == NULL || *host == '\0' || (o->flags & ~plain) != 0 || !parse_port(service, &port) ||
        pica_address_ip(&address, host, port) < 0) {
        return false;
    }
    if (o->family != 0 && o->family != address.storage.ss_family) {
        *rc = PICA_EAI_NODATA;
        return true;
    }
    bool any = o->type == 0 && o->protocol == 0;
    pica_addrinfo of[KINDS];
    size_t count = 0;
    for (size_t i = 0; i < KINDS && (any || count == 0); i++) {
        bool raw = kinds[i].type == SOCK_RAW;
        bool match = o->type == 0 ? !raw : o->type == kinds[i].type;
        if (any || (match && (raw || o->protocol == 0 || o->protocol == kinds[i].protocol))) {
            of[count].type = kinds[i].type;
            of[count++].protocol = raw ? o->protocol : kinds[i].protocol;
        }
    }
    if (count == 0) {
        return false; /* an unusual kind of socket, or none */
    }
    if (o->type == SOCK_RAW && service != NULL) {
        *rc = PICA_EAI_SERVICE; /* there are no ports */
        return true;
    }
    pica_addrinfo *made = list_new(count, o->flags & AI_CANONNAME ? host : NULL);
    *rc = made == NULL ? -ENOMEM : 0;
    for (size_t i = 0; made != NULL && i < count; i++) {
        made[i].address = address;
        made[i].type = of[i].type;
        made[i].protocol = of[i].protocol;
    }
    *list = made;
    return true;
}

/* --- a look-up --- */

struct lookup {
    pica__job job;
    pica__lock_t lock;
    bool abandoned;        /* under the lock: nobody waits any more */
    bool done;             /* under the lock: rc and list are there */
    pica__wait *waiting;   /* under the lock: to be fired; else NULL */
    _Atomic uint32_t refs; /* the task's and the job's; dropped acq_rel by both */
    int rc;
    pica_addrinfo *list;   /* owned, until the task takes it */
    struct addrinfo hints;
    const char *host;      /* both in text, or NULL */
    const char *service;
    size_t size;           /* of the allocation */
    char text[];
};

static void lookup_unref(struct lookup *lookup) {
    if (atomic_fetch_sub_explicit(&lookup->refs, 1, memory_order_acq_rel) == 1) {
        pica_freeaddrinfo(lookup->list);
        pica__free(lookup, lookup->size);
    }
}

/* The C library's error as one of ours. system: errno. */
static int code_of(int error, int system) {
    switch (error) {
    case 0:
        return 0;
    case EAI_AGAIN:
        return PICA_EAI_AGAIN;
    case EAI_FAIL:
        return PICA_EAI_FAIL;
    case EAI_NODATA:
    case EAI_ADDRFAMILY:
        return PICA_EAI_NODATA;
    case EAI_SERVICE:
        return PICA_EAI_SERVICE;
    case EAI_FAMILY:
    case EAI_SOCKTYPE:
    case EAI_BADFLAGS:
        return -EINVAL;
    case EAI_MEMORY:
        return -ENOMEM;
    case EAI_SYSTEM:
        return system > 0 ? -system : PICA_EAI_FAIL;
    default:
        return PICA_EAI_NONAME;
    }
}

static void set_port(pica_address *address, unsigned port) {
    if (address->storage.ss_family == AF_INET) {
        ((struct sockaddr_in *)&address->storage)->sin_port = htons((uint16_t)port);
    } else if (address->storage.ss_family == AF_INET6) {
        ((struct sockaddr_in6 *)&address->storage)->sin6_port = htons((uint16_t)port);
    }
}

/* In a simulation: as far as its table of names goes; services are numbers. */
static int lookup_simulated(struct lookup *lookup) {
    enum { MAX = 8 };
    pica_address all[MAX];
    pica_address local[2];
    unsigned port = 0;
    if (!parse_port(lookup->service, &port)) {
        return PICA_EAI_SERVICE;
    }
    const char *host = lookup->host != NULL ? lookup->host : "localhost";
    int n = pica__sim_resolve(host, all, MAX);
    if (n == 0 && strcmp(host, "localhost") == 0) {
        (void)pica_address_ip(&local[0], "127.0.0.1", 0);
        (void)pica_address_ip(&local[1], "::1", 0);
        memcpy(all, local, sizeof local);
        n = 2;
    }
    if (n <= 0) {
        return n < 0 ? PICA_EAI_AGAIN : PICA_EAI_NONAME;
    }
    int family = lookup->hints.ai_family;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (family == AF_UNSPEC || family == all[i].storage.ss_family) {
            all[count++] = all[i];
        }
    }
    lookup->list = count == 0 ? NULL : list_new((size_t)count, host);
    pica_addrinfo *to = lookup->list;
    for (int i = 0; i < count && to != NULL; i++, to = to->next) {
        to->address = all[i];
        set_port(&to->address, port);
        to->type = lookup->hints.ai_socktype != 0 ? lookup->hints.ai_socktype : SOCK_STREAM;
        to->protocol = IPPROTO_TCP;
    }
    return count == 0 ? PICA_EAI_NODATA : lookup->list == NULL ? -ENOMEM : 0;
}

static void lookup_run(pica__job *job) {
    struct lookup *lookup = PICA__CONTAINER_OF(job, struct lookup, job);
    struct addrinfo *found = NULL;
    pica__lock(&lookup->lock);
    bool abandoned = lookup->abandoned;
    pica__unlock(&lookup->lock);
    if (abandoned) {
        return;
    }
    if (pica__simulated()) {
        lookup->rc = lookup_simulated(lookup);
        return;
    }
    int error = getaddrinfo(lookup->host, lookup->service, &lookup->hints, &found);
    lookup->rc = code_of(error, errno); /* on a thread of a pool: here errno is one's own */
    if (error == 0) {
        lookup->rc = list_copy(&lookup->list, found);
        freeaddrinfo(found);
    }
}

static void lookup_end(pica__job *job, int refused) {
    struct lookup *lookup = PICA__CONTAINER_OF(job, struct lookup, job);
    pica__lock(&lookup->lock);
    lookup->rc = refused != 0 ? refused : lookup->rc;
    lookup->done = true;
    pica__wait *waiting = lookup->waiting;
    lookup->waiting = NULL;
    pica__unlock(&lookup->lock);
    if (waiting != NULL) {
        pica__wait_fire(waiting, 0);
    }
    lookup_unref(lookup);
}

static struct lookup *lookup_new(const char *host, const char *service,
                                 const struct pica_addrinfo_options *o) {
    size_t host_size = host == NULL ? 0 : strlen(host) + 1;
    size_t service_size = service == NULL ? 0 : strlen(service) + 1;
    size_t size = sizeof(struct lookup) + host_size + service_size;
    struct lookup *lookup = pica__zalloc(size);
    if (lookup == NULL) {
        return NULL;
    }
    lookup->job.run = lookup_run;
    lookup->job.end = lookup_end;
    pica__lock_init(&lookup->lock);
    atomic_init(&lookup->refs, 2);
    lookup->hints = (struct addrinfo){.ai_family = o->family,
                                      .ai_socktype = o->type,
                                      .ai_protocol = o->protocol,
                                      .ai_flags = o->flags};
    lookup->size = size;
    lookup->host = host == NULL ? NULL : memcpy(lookup->text, host, host_size);
    lookup->service =
        service == NULL ? NULL : memcpy(lookup->text + host_size, service, service_size);
    return lookup;
}

/* --- waiting for it --- */

struct lookup_wait {
    pica__wait wait;
    struct lookup *lookup;
};

static bool lookup_cancel(pica__wait *wait) {
    struct lookup *lookup = PICA__CONTAINER_OF(wait, struct lookup_wait, wait)->lookup;
    pica__lock(&lookup->lock);
    bool waited = lookup->waiting != NULL;
    lookup->waiting = NULL;
    lookup->abandoned = waited;
    pica__unlock(&lookup->lock);
    return waited;
}

static const struct pica__wait_ops lookup_ops = {"look-up of a name", lookup_cancel};

static bool lookup_commit(pica__wait *wait) {
    struct lookup *lookup = PICA__CONTAINER_OF(wait, struct lookup_wait, wait)->lookup;
    bool waits = false;
    pica__lock(&lookup->lock);
    if (!lookup->done) {
        waits = pica__wait_publish(wait);
        lookup->waiting = waits ? wait : NULL;
        lookup->abandoned = !waits;
    }
    pica__unlock(&lookup->lock);
    return waits;
}

/* The look-up of the current task; takes over the task's reference. */
static int lookup_wait(pica_task *task, pica_executor *pool, struct lookup *lookup,
                       pica_addrinfo **list) {
    struct lookup_wait w = {.wait = {&lookup_ops, task, NULL, 0}, .lookup = lookup};
    int rc = pica__suspend(&w.wait, lookup_commit);
    if (rc == 0) {
        pica__lock(&lookup->lock); /* also if the commit found it done: from here on all of it is seen */
        rc = lookup->rc;
        *list = lookup->list;
        lookup->list = NULL;
        pica__unlock(&lookup->lock);
    } else if (pica__executor_withdraw(pool, &lookup->job)) {
        lookup_unref(lookup); /* it was still queued: its own */
    }
    lookup_unref(lookup);
    return rc;
}

int pica_getaddrinfo(const char *host, const char *service,
                     const struct pica_addrinfo_options *options, pica_addrinfo **list) {
    static const struct pica_addrinfo_options defaults = PICA_ADDRINFO_OPTIONS_INIT;
    const struct pica_addrinfo_options *o = options == NULL ? &defaults : options;
    if (list == NULL || (host == NULL && service == NULL) || o->size != sizeof *o) {
        return -EINVAL;
    }
    *list = NULL;
    pica_task *task;
    int rc = pica__operation_begin(&task);
    if (rc < 0 || numeric(host, service, o, list, &rc)) {
        return rc;
    }
    pica_executor *pool;
    rc = pica__pool_get(&pool, task->loop->rt, PICA__POOL_NAMES);
    if (rc < 0) {
        return rc;
    }
    struct lookup *lookup = lookup_new(host, service, o);
    if (lookup == NULL) {
        return -ENOMEM;
    }
    rc = pica__executor_submit(pool, &lookup->job);
    if (rc < 0) {
        lookup_unref(lookup);
        lookup_unref(lookup);
        return rc;
    }
    return lookup_wait(task, pool, lookup, list);
}

int pica__look_up(pica_addrinfo **list, const char *host, unsigned port, int flags) {
    char service[8];
    struct pica_addrinfo_options options = PICA_ADDRINFO_OPTIONS_INIT;
    options.type = SOCK_STREAM;
    options.flags = flags;
    (void)snprintf(service, sizeof service, "%u", port);
    int rc = pica_getaddrinfo(host, service, &options, list);
    if (rc < 0 && rc != PICA_ECANCELED) {
        return pica_fail(rc, "could not look up %s: %s", host, pica_strerror(rc));
    }
    return rc;
}
