/* Workloads: programs that are written once, against public headers, and run in the simulator with faults, on the
 * real engines, and under sanitizers. Each brings its own oracle: what it checks holds in any order and with any
 * fault. Where nothing can go wrong (wl_strict) it also checks that everything was done. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <pica.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct workload {
    const char *name;
    pica_fn main;
    int plain;  /* makes its runtimes itself */
    int hidden; /* runs only when it is named */
    int memory; /* what it checks holds also if allocations fail */
};
/* Ended by a NULL name. */
extern const struct workload workloads[];

int wl_echo(void *arg);
int wl_chat(void *arg);
int wl_pool(void *arg);
int wl_proxy(void *arg);
int wl_rpc(void *arg);
int wl_locks(void *arg);
int wl_timers(void *arg);
int wl_startstop(void *arg);
int wl_files(void *arg);
int wl_datagram(void *arg);
int wl_calls(void *arg);
int wl_planted(void *arg);

/* Set by the program that runs workloads. */
extern bool wl_no_faults;
extern bool wl_memory; /* allocations may fail: -ENOMEM is a result of anything */
extern atomic_uint wl_failures;

void wl_fail(const char *file, int line, const char *format, ...) PICA_PRINTF(3, 4);
#define WL_CHECK(cond) ((cond) ? (void)0 : wl_fail(__FILE__, __LINE__, "%s", #cond))
#define WL_EQ(a, b) wl_eq(__FILE__, __LINE__, #a, (long long)(a), (long long)(b))
void wl_eq(const char *file, int line, const char *what, long long a, long long b);

/* Whether the world does what it is asked. */
static inline bool wl_strict(void) {
    return wl_no_faults || !pica_simulated();
}
/* A result that must be success where the world is good, and may be an error of the world elsewhere; true if it
 * is success. */
bool wl_ok(const char *file, int line, long rc);
#define WL_OK(rc) wl_ok(__FILE__, __LINE__, (long)(rc))

/* Whether this is what a lack of memory made of a call. */
static inline bool wl_lacks(long rc) {
    return wl_memory && rc == -ENOMEM;
}
/* A number in [0, n). */
unsigned wl_choose(unsigned n);
/* Byte i of stream s. */
static inline char wl_byte(unsigned s, size_t i) {
    return (char)(i * 131 + s * 29 + (i >> 8));
}
void wl_pattern(char *buffer, unsigned s, size_t at, size_t size);
bool wl_matches(const char *buffer, unsigned s, size_t at, size_t size);

/* Creates a task; must succeed. */
pica_task *wl_task(pica_fn fn, void *arg, const char *name);
/* Awaits a task, without its reference; its result. */
int wl_join(pica_task *task);
/* Starts a server at a free port of 127.0.0.1, in several tries; false: the world was in the way. */
bool wl_serve(pica_server **out, pica_address *address, pica_client_connected fn);
/* At the end of main: waits until all that the runtime had is given back: tasks, sockets, timers. */
void wl_drain(void);

#endif
