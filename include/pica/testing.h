/* Testing programs under the seeded simulator.
 *
 * A simulation runs a program with all its workers in one thread of the system, on a clock of its own, over
 * sockets and files in memory. Everything that is chance in the real world is drawn from one number, the seed:
 * which worker goes on, whom it steals from, how long things take and in which order they complete, how much a
 * read or a write moves, and which faults happen (enum pica_sim_fault). The same seed gives the same run, so a
 * failure can be looked at as often as it takes. The clock jumps when nothing can run, so time costs nothing; and
 * when nothing can run, now or ever, the tasks that wait are reported as a deadlock.
 *
 * Two ways in. pica_sim_run, below, for tests. And, for a program as it is:
 *
 *     PICA_ENGINE=sim PICA_SIM_SEED=7 PICA_SIM_SCENARIO=./clients.so ./program
 *
 * A failing seed prints a line with what replays it; tools/pica-shrink then leaves out faults, and the parts that
 * pica_sim_keep tells, as long as the failure stays.
 *
 * The scenario is a shared object with a function `int pica_sim_scenario(void)`: it is called when the first
 * runtime of the program starts, and brings, by the calls below, what the program is to meet: clients and servers
 * (actors), files, names, other programs. Without PICA_SIM_SEED the seed is taken from the system, and told.
 *
 * What a simulated program must not do: call this library from threads that it made itself (the process ends with
 * a message); wait for anything that is not simulated; depend on addresses, uninitialised memory, or the
 * system's clock and chance.
 *
 * Processes, and functions that run in pools of threads (pica_to_thread), are stood in for: see pica_sim_program;
 * a function of a pool runs for real, as a thread of the simulation. Look-ups of names know what pica_sim_name
 * told them. Files are in memory; one that exists on the disk is copied when it is first opened, and nothing is
 * written back. Multicast is not simulated: nobody can join a group (-ENODEV).
 */
#ifndef PICA_TESTING_H
#define PICA_TESTING_H

#include <pica/base.h>
#include <pica/net.h>

PICA_BEGIN_DECLS

/* What can go wrong, or come late or in parts, in a simulation. */
enum pica_sim_fault {
    PICA_SIM_STALL = 0,       /* a worker loses its processor for milliseconds */
    PICA_SIM_WAIT_EINTR,      /* the wait for completions is interrupted */
    PICA_SIM_SPURIOUS,        /* a sleep ends for no reason */
    PICA_SIM_SUBMIT_PARTIAL,  /* the kernel takes only some of the operations that are handed over */
    PICA_SIM_SUBMIT_ENOMEM,   /* an operation cannot be submitted */
    PICA_SIM_OVERFLOW,        /* completions that do not fit come later */
    PICA_SIM_LATE,            /* an operation succeeds though its cancellation was asked for */
    PICA_SIM_SLOW,            /* something takes a hundred times as long as usual */
    PICA_SIM_CALL_EINTR,      /* a system call is interrupted */
    PICA_SIM_SHORT_READ,
    PICA_SIM_SHORT_WRITE,
    PICA_SIM_RESET,           /* a connection is reset on its way */
    PICA_SIM_ENOBUFS,         /* of a write to a socket, or of a datagram */
    PICA_SIM_EMFILE,          /* no descriptor is left: of whatever makes one */
    PICA_SIM_ABORTED,         /* ECONNABORTED of accept */
    PICA_SIM_MULTISHOT,       /* an operation that would go on ends */
    PICA_SIM_REFUSED,         /* ECONNREFUSED of a connect though somebody listens */
    PICA_SIM_TIMEDOUT,        /* ETIMEDOUT of a connect, after a minute */
    PICA_SIM_EIO,             /* of a file */
    PICA_SIM_ENOSPC,          /* of a write to a file */
    PICA_SIM_NAMES,           /* a name cannot be looked up now */
    PICA_SIM_LOSS,            /* of a datagram (UDP) */
    PICA_SIM_DUPLICATE,       /* it comes twice */
    PICA_SIM_REORDER,         /* it overtakes, or is overtaken */
    PICA_SIM_ENOMEM,          /* an allocation of the library fails: only with the option `memory` */
    PICA_SIM_FAULTS
};
/* A short name for a fault, as "short-write"; "unknown" otherwise. Any thread. */
PICA_API const char *pica_sim_fault_name(int fault);

enum {
    PICA_SIM_UNIFORM = 1, /* all that can run are equally likely to be next */
    PICA_SIM_PCT = 2,     /* by priorities, which change at a few random points: finds what needs few preemptions */
    PICA_SIM_STARVE = 3   /* one thread runs only if no other can, or rarely */
};
enum { PICA_SIM_STEAL_NEVER = -1, PICA_SIM_STEAL_ALWAYS = 1 };

/* What came of a simulation. */
struct pica_sim_report {
    size_t size;              /* in: sizeof(struct pica_sim_report) */
    uint64_t seed;
    uint64_t hash;            /* of the trace: all choices and what happened; equal for equal runs */
    uint64_t choices;         /* among at least two possibilities */
    uint64_t switches;        /* from one simulated thread to another */
    uint64_t events;          /* that came to pass outside of the program */
    uint64_t operations;      /* of the engine, completed */
    uint64_t workers;         /* of the largest runtime */
    uint64_t threads;         /* simulated ones in all: workers, pools, actors, the caller */
    uint64_t tasks;           /* created */
    uint64_t faults;          /* that happened */
    uint64_t fault[PICA_SIM_FAULTS]; /* by kind */
    int64_t elapsed_ns;       /* of simulated time */
    int strategy;             /* PICA_SIM_UNIFORM, ... */
    int deadlock;             /* 1: there was one */
    char failure[256];        /* why the run failed, or "" */
};

/* Zero in a field means: drawn from the seed, or as said. Start from PICA_SIM_OPTIONS_INIT. */
struct pica_sim_options {
    size_t size;              /* sizeof(struct pica_sim_options) */
    unsigned workers;         /* of runtimes whose options do not say; 0: 1 to 8, mostly few */
    int strategy;             /* PICA_SIM_UNIFORM, PICA_SIM_PCT, PICA_SIM_STARVE */
    int steal;                /* PICA_SIM_STEAL_... */
    int faults;               /* how many, in percent of what is usual; -1: none; 0: as usual */
    int storm;                /* 1: many faults first, then none at all; -1: not so */
    int plain;                /* 1: main is no coroutine but runs on the caller's thread, and makes its runtimes itself */
    int check;                /* 0: the run is made twice and both traces compared; -1: once */
    int memory;               /* 1: now and then an allocation of the library fails; 0: none does */
    int quiet;                /* 1: says nothing on stderr about a failure */
    uint64_t max_choices;     /* after so many choices and switch points the run has failed; 0: 20 million */
    const char *skip;         /* numbers of faults that are left out, as "3,7-9"; NULL: PICA_SIM_SKIP, else none */
    const char *drop;         /* the same for calls of pica_sim_keep; PICA_SIM_DROP */
    void (*scenario)(void *arg); /* called before main, to bring actors; NULL: none */
    void *scenario_arg;
    struct pica_sim_report *report; /* filled, if not NULL */
    /* Bytes that are drawn from instead of the seed, for a fuzzer to choose: one for a choice among up to 256
     * possibilities and for each fault that could happen, two or four for larger ones; 0 is the first possibility and
     * no fault. When they have run out the seed goes on. NULL and 0: none. */
    const void *choices;
    size_t choices_size;
};
#define PICA_SIM_OPTIONS_INIT \
    { sizeof(struct pica_sim_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0 }

/* Simulates pica_run(main, arg) with a seed. options may be NULL. main is run twice (see check), so it must begin
 * from the same state each time.
 * Returns main's result, unless the run itself failed, which is told on stderr with a line that replays it:
 * -EDEADLK (nothing could run any more: the tasks were reported, then cancelled), -ETIME (max_choices),
 * -EPROTO (pica_sim_fail was called, or descriptors were left open), -EILSEQ (the second run went another way:
 * something in it does not come from the seed). What is found broken in a way that forbids going on (a buffer
 * that was touched in flight, a descriptor that was used after it was closed, a call from a foreign thread) ends the
 * process. Also -ENOSYS under ThreadSanitizer, -EINVAL for bad options, -EBUSY if a simulation is under way, -ENOMEM, and the errors of pica_run.
 * Outside of runtimes; no other thread of the process may use this library meanwhile. */
PICA_API int pica_sim_run(uint64_t seed, const struct pica_sim_options *options, pica_fn main, void *arg);

/* Debug builds of the library count the transitions of its state machines: how often the one with this number (from
 * 0) was taken by the process so far, and its name. 0; -ENOENT: there are no more; -ENOSYS: not such a build. Any
 * thread. */
PICA_API int pica_sim_transition(unsigned number, const char **name, uint64_t *taken);

/* 1 in a simulation, else 0. Any thread. */
PICA_API int pica_simulated(void);

/* The calls below are for the simulation's threads, in tasks and actors alike where nothing else is said. */

/* A number in [0, n), drawn from the seed; n must not be 0. Outside of simulations 0. Does not suspend. */
PICA_API uint32_t pica_sim_choose(uint32_t n);
/* 1, unless the shrinker leaves this one out (option `drop`): ask it before each client, task or request that
 * a test could do without. Outside of simulations 1. Does not suspend. */
PICA_API int pica_sim_keep(void);
/* The run has failed, for the reason that is given; it goes on. Does not suspend. */
PICA_API void pica_sim_fail(const char *format, ...) PICA_PRINTF(1, 2);
/* Something that happened, for the trace's hash. Does not suspend. */
PICA_API void pica_sim_note(uint64_t what);

/* Actors: the rest of the world, as plain sequential code on simulated threads. Not for tasks, whose worker the
 * calls would hold up.
 *
 * Starts one, which calls fn(arg) when its turn comes. When the program's last runtime has ended, actors have 100
 * simulated seconds to come to their ends; then the calls below return -ESHUTDOWN and each has to return. name may be NULL. 0, -EAGAIN (too many), -ENOMEM. */
PICA_API int pica_sim_actor(void (*fn)(void *arg), void *arg, const char *name);
/* 0, or -ESHUTDOWN. */
PICA_API int pica_sim_sleep(double seconds);
/* Connects to a listener of the program, or of an actor, and returns a descriptor: -ECONNREFUSED if there is none
 * (yet), -ETIMEDOUT, -ESHUTDOWN. */
PICA_API int pica_sim_connect(const pica_address *address);
/* Listens at an address and returns a descriptor, and the next connection of one. -EADDRINUSE, -ESHUTDOWN. */
PICA_API int pica_sim_listen(const pica_address *address);
PICA_API int pica_sim_accept(int fd);
/* At least one byte, 0 at the end; -ECONNRESET, -ESHUTDOWN. limit: seconds to wait at most, then -ETIMEDOUT;
 * PICA_FOREVER. */
PICA_API ssize_t pica_sim_read(int fd, void *buffer, size_t size, double limit);
/* All of it: 0, -EPIPE, -ECONNRESET, -ESHUTDOWN. */
PICA_API int pica_sim_write(int fd, const void *buffer, size_t size);
/* No more will be written: the other side sees the end. */
PICA_API void pica_sim_finish(int fd);
PICA_API void pica_sim_close(int fd);
/* Closes so that the other side sees a reset. */
PICA_API void pica_sim_reset(int fd);
/* A socket for datagrams: a descriptor. local: where it receives (port 0: anywhere), or NULL: of UDP over IPv4,
 * anywhere. -EADDRINUSE, -ESHUTDOWN. */
PICA_API int pica_sim_datagram(const pica_address *local);
/* Sends one: 0, -ECONNREFUSED (Unix: nobody receives there), -EMSGSIZE, -EAFNOSUPPORT, -ESHUTDOWN. */
PICA_API int pica_sim_send(int fd, const void *buffer, size_t size, const pica_address *to);
/* Receives one: its length, also if that is more than size; -ETIMEDOUT, -ESHUTDOWN. from may be NULL. */
PICA_API ssize_t pica_sim_receive(int fd, void *buffer, size_t size, pica_address *from, double limit);
/* Makes or replaces a file of the simulation, for the program to open. 0, -ENOMEM, -ESHUTDOWN. */
PICA_API int pica_sim_file(const char *path, const void *data, size_t size);
/* Look-ups of host find this address, and others that it was told of (the port is the one asked for). 0, -ENOMEM,
 * -ESHUTDOWN. */
PICA_API int pica_sim_name(const char *host, const pica_address *address);
/* What pica_create_subprocess_exec starts when it is asked for the program `name`: fn(argc, argv, arg) on an actor of
 * its own; its result is the exit code. Other programs are not found (-ENOENT). A signal ends it: the calls of
 * actors then return -ESHUTDOWN. 0, -ENOMEM (too many, or the name is too long), -ESHUTDOWN. */
PICA_API int pica_sim_program(const char *name, int (*fn)(int argc, const char *const argv[], void *arg), void *arg);
/* The descriptors of such a program, 0 to 2, for pica_sim_read and pica_sim_write; -1 if it has none there, or the
 * caller is no such program. */
PICA_API int pica_sim_stdio(int which);
/* Raises a signal in the process, as another process would send it; nothing once the program has ended. */
PICA_API void pica_sim_signal(int signum);

PICA_END_DECLS
#endif
