/* Connecting to one of several addresses: "happy eyeballs" (RFC 8305).
 *
 * The race lies in the task that asked for it. Each attempt is a task of its own, which connects and
 * leaves its socket in its place; the one that asked waits for the first to end, or for the time at which
 * the next one starts. It returns when all have ended, so that nothing of the race outlives it; to wait for
 * the losers takes no time, since they were cancelled.
 */
#include <pica/error.h>
#include <pica/future.h>
#include <pica/task.h>

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "io/names.h"
#include "io/operation.h"
#include "runtime/base/alloc.h"
#include "runtime/task.h"
#include "runtime/wait.h"

#define DEFAULT_DELAY 0.25

struct attempt {
    const pica_address *address;
    pica_task *task;     /* a reference, while it is under way; else NULL */
    pica_socket *socket; /* owned, once connected */
    int rc;              /* how it ended */
};

struct race {
    double delay;
    size_t count;
    size_t started;
    size_t active;            /* attempts under way */
    struct attempt *winner;
    pica_future **future;     /* room for all: those of the attempts under way */
    struct attempt attempt[]; /* in the order in which they start */
};

/* --- the order --- */

static bool usable(const pica_addrinfo *info) {
    return info->type == 0 || info->type == SOCK_STREAM;
}

/* The next usable entry, from `info` on, that is of this family or, if `same` is false, of another one. */
static const pica_addrinfo *seek(const pica_addrinfo *info, sa_family_t family, bool same) {
    while (info != NULL &&
           (!usable(info) || (info->address.storage.ss_family == family) != same)) {
        info = info->next;
    }
    return info;
}

/* The family of the first entry and the others take turns; within each the list's order holds. */
static void put_in_order(struct race *race, const pica_addrinfo *list) {
    while (!usable(list)) {
        list = list->next;
    }
    sa_family_t family = list->address.storage.ss_family;
    const pica_addrinfo *next[2] = {list, seek(list, family, false)};
    for (size_t i = 0; i < race->count; i++) {
        int turn = next[i % 2] != NULL ? (int)(i % 2) : 1 - (int)(i % 2);
        race->attempt[i].address = &next[turn]->address;
        next[turn] = seek(next[turn]->next, family, turn == 0);
    }
}

static size_t race_size(size_t count) {
    return sizeof(struct race) + count * (sizeof(struct attempt) + sizeof(pica_future *));
}

static int race_new(struct race **out, const pica_addrinfo *list, double delay) {
    size_t count = 0;
    for (const pica_addrinfo *info = list; info != NULL; info = info->next) {
        count += usable(info);
    }
    if (count == 0) {
        return -EINVAL;
    }
    struct race *race = pica__zalloc(race_size(count));
    if (race == NULL) {
        return -ENOMEM;
    }
    race->delay = delay;
    race->count = count;
    race->future = (pica_future **)(void *)&race->attempt[count];
    put_in_order(race, list);
    *out = race;
    return 0;
}

/* --- the attempts --- */

static int attempt_run(void *arg) {
    struct attempt *attempt = arg;
    return pica_connect(&attempt->socket, attempt->address);
}

static void start_next(struct race *race) {
    struct attempt *attempt = &race->attempt[race->started++];
    const struct pica_task_options options = {sizeof options, "connect", NULL, 0, 0, NULL};
    attempt->rc = pica_create_task_opts(&attempt->task, attempt_run, attempt, &options);
    race->active += attempt->rc == 0;
}

/* Lists the attempts under way in race->future. */
static size_t list_active(struct race *race) {
    size_t n = 0;
    for (size_t i = 0; i < race->started; i++) {
        if (race->attempt[i].task != NULL) {
            race->future[n++] = PICA_FUTURE(race->attempt[i].task);
        }
    }
    return n;
}

/* Takes the results of attempts that have ended. The first that is connected wins. */
static void collect(struct race *race) {
    for (size_t i = 0; i < race->started; i++) {
        struct attempt *attempt = &race->attempt[i];
        if (attempt->task == NULL || !pica_future_done(PICA_FUTURE(attempt->task))) {
            continue;
        }
        attempt->rc = pica_future_result(PICA_FUTURE(attempt->task), NULL);
        pica_task_unref(attempt->task);
        attempt->task = NULL;
        race->active--;
        /* Not the result tells: a cancellation that came too late makes it PICA_ECANCELED all the same. */
        if (attempt->socket != NULL && race->winner == NULL) {
            race->winner = attempt;
        } else {
            pica_socket_close(attempt->socket);
        }
    }
}

/* Until there is a winner, or all have failed; negative: it had to stop before. */
static int race_run(struct race *race) {
    while (race->winner == NULL && (race->active != 0 || race->started < race->count)) {
        if (race->started < race->count) {
            start_next(race);
        }
        if (race->active == 0) {
            continue;
        }
        double limit = race->started < race->count ? race->delay : PICA_FOREVER;
        int rc = pica_wait(list_active(race), race->future, limit, PICA_FIRST_COMPLETED);
        if (rc < 0) {
            return rc;
        }
        collect(race);
    }
    return 0;
}

/* Gives a cancellation back that was delivered to us while we had something to return. If whoever made it has
 * withdrawn it meanwhile, so do we. */
static void cancel_put_back(pica_task *task) {
    uint32_t old = atomic_load_explicit(&task->word, memory_order_relaxed);
    while (old >= PICA__TASK_COUNT &&
           !atomic_compare_exchange_weak_explicit(&task->word, &old, old | PICA__TASK_CANCEL,
                                                  memory_order_acq_rel, memory_order_relaxed)) {
    }
}

/* Cancels what is under way and waits until it has ended. */
static void race_end(struct race *race, pica_task *self) {
    enum { AT_ONCE = 8 }; /* for as many pica_gather needs no memory */
    bool cancelled = false;
    for (size_t i = 0, n = list_active(race); i < n; i++) {
        (void)pica_future_cancel(race->future[i]);
    }
    while (race->active != 0) {
        size_t n = list_active(race);
        int rc = pica_gather(n < AT_ONCE ? n : AT_ONCE, race->future, PICA_RETURN_EXCEPTIONS);
        cancelled |= rc == PICA_ECANCELED;
        struct attempt *winner = race->winner;
        collect(race);
        if (winner == NULL && race->winner != NULL) {
            pica_socket_close(race->winner->socket); /* too late: the race was called off */
            race->winner = NULL;
        }
    }
    if (cancelled && race->winner != NULL) {
        cancel_put_back(self);
    }
}

/* --- what became of it --- */

static bool is_unreachable(int rc) {
    return rc == -ENETUNREACH || rc == -EHOSTUNREACH || rc == -EADDRNOTAVAIL ||
           rc == -EAFNOSUPPORT || rc == -ENETDOWN;
}

/* All have failed: the error that tells most, and the whole story for the error object. */
static int race_fail(const struct race *race) {
    char text[512] = "";
    size_t at = 0;
    int rc = race->attempt[0].rc;
    for (size_t i = 0; i < race->count; i++) {
        const struct attempt *attempt = &race->attempt[i];
        if (is_unreachable(rc)) {
            rc = is_unreachable(attempt->rc) ? rc : attempt->rc;
        }
        char name[128];
        (void)pica_address_format(attempt->address, name, sizeof name);
        int n = snprintf(text + at, sizeof text - at, "%s%s: %s", i == 0 ? "" : "; ", name,
                         pica_strerror(attempt->rc));
        at += n > 0 ? (size_t)n : 0;
        if (at >= sizeof text) {
            memcpy(text + sizeof text - 4, "...", 4);
            break;
        }
    }
    return pica_fail(rc, "could not connect to %s", text);
}

static int race_connect(pica_task *task, pica_socket **out, const pica_addrinfo *list,
                        double delay) {
    struct race *race;
    int rc = race_new(&race, list, delay);
    if (rc < 0) {
        return rc;
    }
    size_t size = race_size(race->count);
    if (race->count == 1) {
        race->attempt[0].rc = rc = pica_connect(out, race->attempt[0].address);
        rc = rc < 0 && rc != PICA_ECANCELED ? race_fail(race) : rc;
        pica__free(race, size);
        return rc;
    }
    rc = race_run(race);
    race_end(race, task);
    if (race->winner != NULL) {
        *out = race->winner->socket;
        rc = 0;
    } else if (rc == 0) {
        rc = race_fail(race);
    }
    pica__free(race, size);
    return rc;
}

static int options_delay(const struct pica_connect_options *options, double *delay) {
    *delay = DEFAULT_DELAY;
    if (options == NULL) {
        return 0;
    }
    if (options->size != sizeof *options || !(options->delay >= 0)) {
        return -EINVAL;
    }
    *delay = options->delay > 0 ? options->delay : DEFAULT_DELAY;
    return 0;
}

int pica_connect_any(pica_socket **out, const pica_addrinfo *list,
                     const struct pica_connect_options *options) {
    double delay;
    int rc = options_delay(options, &delay);
    if (rc < 0) {
        return rc;
    }
    pica_task *task;
    rc = pica__operation_begin(&task);
    return rc < 0 ? rc : race_connect(task, out, list, delay);
}

int pica_connect_host(pica_socket **out, const char *host, unsigned port,
                      const struct pica_connect_options *options) {
    double delay;
    /* No host means "all interfaces" for an address, which is nothing to connect to. */
    if (host == NULL || *host == '\0' || port > 65535 || options_delay(options, &delay) < 0) {
        return -EINVAL;
    }
    pica_address address;
    if (pica_address_ip(&address, host, port) == 0) {
        return pica_connect(out, &address);
    }
    pica_addrinfo *list;
    int rc = pica__look_up(&list, host, port, 0);
    if (rc == 0) {
        rc = pica_connect_any(out, list, options);
        pica_freeaddrinfo(list);
    }
    return rc;
}
