/* What every floor server, and the one on libuv, does before it serves: options, listener, counters, signals.
 *
 * The floors are the yardsticks of the network bench: the least code that serves the workload, one
 * program for each way of waiting. What this header holds is the same for all of them, so that
 * they differ in nothing but the data path.
 *
 * Dealing: thread 0 accepts and deals connections to the threads round robin. SO_REUSEPORT would
 * spread them by a hash of the addresses, unevenly, and the two-thread rows would measure the hash.
 *
 * Signals: SIGTERM ends the process with status 0. SIGUSR1 prints "served A B ...", one figure for
 * each thread: bytes received (echo) or requests answered (http). */
#ifndef PICA__BENCH_FLOOR_SETUP_H
#define PICA__BENCH_FLOOR_SETUP_H

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FLOOR_MAX_THREADS 64u
#define FLOOR_BACKLOG 4096

enum floor_mode { FLOOR_ECHO, FLOOR_HTTP };

struct floor_options {
    uint16_t port;    /* 0: the kernel chooses */
    unsigned threads; /* 1 to FLOOR_MAX_THREADS */
    enum floor_mode mode;
};

/* One cache line for each thread. Written by its thread only, read by the SIGUSR1 handler on
 * whichever thread that runs: relaxed on both sides, nothing else is published through it. */
struct floor_count {
    _Alignas(64) uint64_t served;
};

static struct floor_count floor_counts[FLOOR_MAX_THREADS];
static unsigned floor_count_threads;

static inline void floor_count_add(unsigned thread, uint64_t n) {
    uint64_t *served = &floor_counts[thread].served;
    __atomic_store_n(served, __atomic_load_n(served, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

_Noreturn static inline void floor_die(const char *what, int error) {
    fprintf(stderr, "%s: %s\n", what, strerror(error));
    exit(1);
}

static inline void floor_on_term(int signo) {
    (void)signo;
    _exit(0);
}

/* Appends " N" at at. Written by hand: printf is not safe in a signal handler. */
static inline char *floor_put_number(char *at, uint64_t n) {
    char digits[20];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    *at++ = ' ';
    while (count > 0) {
        *at++ = digits[--count];
    }
    return at;
}

static inline void floor_on_usr1(int signo) {
    static const char label[] = "served";
    char line[sizeof label + FLOOR_MAX_THREADS * 21 + 1];
    int saved = errno;
    (void)signo;
    memcpy(line, label, sizeof label - 1);
    char *at = line + sizeof label - 1;
    for (unsigned i = 0; i < floor_count_threads; i++) {
        at = floor_put_number(at, __atomic_load_n(&floor_counts[i].served, __ATOMIC_RELAXED));
    }
    *at++ = '\n';
    if (write(STDOUT_FILENO, line, (size_t)(at - line)) < 0) {
        _exit(1); /* whoever started us is gone */
    }
    errno = saved;
}

_Noreturn static inline void floor_usage(const char *program) {
    fprintf(stderr, "usage: %s [--port P] [--threads N] [--mode echo|http]\n", program);
    exit(2);
}

static inline unsigned floor_number(const char *program, const char *text, unsigned low,
                                    unsigned high) {
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value < low || value > high) {
        fprintf(stderr, "%s: %s is not a number from %u to %u\n", program, text, low, high);
        exit(2);
    }
    return (unsigned)value;
}

static inline struct floor_options floor_parse(int argc, char **argv) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},
        {"threads", required_argument, NULL, 't'},
        {"mode", required_argument, NULL, 'm'},
        {NULL, 0, NULL, 0},
    };
    struct floor_options options = {.port = 0, .threads = 1, .mode = FLOOR_ECHO};
    int got;
    while ((got = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (got == 'p') {
            options.port = (uint16_t)floor_number(argv[0], optarg, 0, 65535);
        } else if (got == 't') {
            options.threads = floor_number(argv[0], optarg, 1, FLOOR_MAX_THREADS);
        } else if (got == 'm' && strcmp(optarg, "http") == 0) {
            options.mode = FLOOR_HTTP;
        } else if (got != 'm' || strcmp(optarg, "echo") != 0) {
            floor_usage(argv[0]);
        }
    }
    if (optind != argc) {
        floor_usage(argv[0]);
    }
    return options;
}

/* Listens on loopback. TCP_NODELAY is inherited by what is accepted, so it is set here once. */
static inline int floor_listen(uint16_t port) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        floor_die("socket", errno);
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) {
        floor_die("setsockopt", errno);
    }
    if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        floor_die("bind", errno);
    }
    if (listen(fd, FLOOR_BACKLOG) < 0) {
        floor_die("listen", errno);
    }
    return fd;
}

static inline void floor_handle_signals(unsigned threads) {
    struct sigaction action;
    floor_count_threads = threads;
    memset(&action, 0, sizeof action);
    action.sa_handler = floor_on_term;
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = floor_on_usr1;
    sigaction(SIGUSR1, &action, NULL);
}

static inline void floor_raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* best effort: accept reports the shortage */
    }
}

/* Everything up to the listener. Call before any thread is started. */
static inline int floor_start(const struct floor_options *options) {
    floor_raise_file_limit();
    floor_handle_signals(options->threads);
    return floor_listen(options->port);
}

/* Tells whoever started us that connections are welcome, and where. */
static inline void floor_ready(int listener) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    if (getsockname(listener, (struct sockaddr *)&address, &length) < 0) {
        floor_die("getsockname", errno);
    }
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
}

#endif
