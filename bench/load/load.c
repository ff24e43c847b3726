/* The load generator of the network bench: one thread, one epoll instance for each contestant.
 *
 * It keeps connections to all contestants open and visits one contestant at a time, on command, so
 * that contestants can be compared in short alternating slices while everything stays alive.
 *
 * Commands on stdin, one a line; each is answered by one line of JSON on stdout:
 *   open HOST PORT echo|http|udp CONNECTIONS PIPELINE SIZE   connects; the answer has the "index"
 *   slice INDEX RATE MS      loads for MS milliseconds, then waits for the answers still due
 *   lockstep INDEX N         N requests on the first connection, a batch when the one before is answered
 *   close INDEX              closes the connections; the index is not used again
 *   spin 0|1                 1: waits by polling without sleep, so that no answer finds it asleep
 *   quit
 *
 * A batch of PIPELINE requests is one send. RATE 0 is a closed loop: every connection keeps one batch
 * under way. Otherwise RATE requests a second are due at even distances, round robin over the
 * connections, whether or not earlier ones were answered, and latency counts from the time a request
 * was due: a server that stalls is charged for the requests that could not be sent meanwhile.
 *
 * udp is echo by datagrams: PIPELINE is 1, a connection is a socket with at most one datagram under way. One
 * that is lost counts as an error, so the connections must be few enough for the server's receive buffer.
 *
 * Every byte that comes back is compared. An echo message is SIZE bytes made from its connection's
 * and its own number, so bytes that are lost, repeated, or another connection's are seen. http
 * expects the response of bench/floor/answer.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bench/floor/answer.h"
#include "bench/load/histogram.h"

#define CONTESTANTS 64
#define EVENTS 256
#define DUE_SLOTS 512u /* requests a connection can have under way; a power of two */
#define MESSAGE_MAX 4096u
#define REQUEST "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
#define DRAIN_NS 2000000000ull
#define SENDS_PER_TURN 32

struct connection {
    struct contestant *contestant;
    int fd; /* -1: lost, opened again before the next slice */
    uint32_t number;
    uint64_t sent;     /* requests sent */
    uint64_t answered; /* requests whose answer is complete */
    size_t got;        /* bytes of the next answer that are here */
    char *unsent;      /* PIPELINE messages; the tail from unsent_from is still to be sent */
    size_t unsent_from;
    size_t unsent_size;
};

struct contestant {
    int epoll; /* -1: closed */
    bool http;
    bool udp;
    struct sockaddr_in address;
    uint32_t count;
    uint32_t pipeline;
    size_t size;   /* bytes of a request */
    size_t answer; /* bytes of an answer */
    struct connection *connections;
    uint64_t *due; /* see due_slot */
};

/* The slice under way. */
struct slice {
    bool closed_loop;
    uint64_t start;
    uint64_t end;     /* nothing is sent from here on */
    double distance;  /* nanoseconds between batches */
    uint64_t planned; /* batches of an open loop */
    uint64_t batches; /* sent so far */
    uint64_t under_way;
    uint64_t done;
    uint64_t errors;
    uint64_t mismatch; /* bytes */
    uint64_t late;     /* the most a batch was sent after it was due, ns */
    struct histogram latencies;
};

static struct contestant contestants[CONTESTANTS];
static int contestant_count;
static struct slice slice;
static bool spin;
static char scratch[65536];

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000ull + (uint64_t)at.tv_nsec;
}

/* The echo message number n of a connection. */
static void make_message(char *out, size_t size, uint32_t connection, uint64_t n) {
    uint64_t word = (uint64_t)connection * 0x9e3779b97f4a7c15ull + n * 0xd1b54a32d192ed03ull;
    for (size_t at = 0; at < size; at += sizeof word) {
        size_t left = size - at;
        memcpy(out + at, &word, left < sizeof word ? left : sizeof word);
        word += 0xbf58476d1ce4e5b9ull;
    }
}

/* When request n of a connection was due. Neighbours in memory are the same request of neighbouring
 * connections: rows of DUE_SLOTS, one a connection, would all fall into the same few cache sets. */
static uint64_t *due_slot(const struct connection *connection, uint64_t n) {
    const struct contestant *contestant = connection->contestant;
    return &contestant->due[n % DUE_SLOTS * contestant->count + connection->number];
}

static void drop(struct connection *connection) {
    uint64_t lost = connection->sent - connection->answered;
    slice.errors += lost > 0 ? lost : 1;
    slice.under_way -= lost;
    close(connection->fd); /* leaves the epoll instance with its last descriptor */
    connection->fd = -1;
}

/* Connects; blocking, then set not to block. Returns false on failure. */
static bool connect_one(struct connection *connection) {
    struct contestant *contestant = connection->contestant;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = connection};
    int on = 1;
    int fd = socket(AF_INET, (contestant->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    if (connect(fd, (struct sockaddr *)&contestant->address, sizeof contestant->address) < 0 ||
        (!contestant->udp && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(contestant->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        close(fd);
        return false;
    }
    connection->fd = fd;
    connection->sent = 0;
    connection->answered = 0;
    connection->got = 0;
    connection->unsent_from = 0;
    connection->unsent_size = 0;
    return true;
}

/* Sends what is left of the last batch. False: the connection was dropped. */
static bool flush(struct connection *connection) {
    while (connection->unsent_from < connection->unsent_size) {
        ssize_t n = send(connection->fd, connection->unsent + connection->unsent_from,
                         connection->unsent_size - connection->unsent_from, MSG_NOSIGNAL);
        if (n >= 0) {
            connection->unsent_from += (size_t)n;
        } else if (errno == EAGAIN) {
            return true;
        } else if (errno != EINTR) {
            drop(connection);
            return false;
        }
    }
    return true;
}

static bool can_send(const struct connection *connection, uint32_t requests) {
    if (connection->contestant->udp) {
        return connection->sent == connection->answered;
    }
    return connection->unsent_from == connection->unsent_size &&
           connection->sent - connection->answered + requests <= DUE_SLOTS;
}

static void send_requests(struct connection *connection, uint32_t requests, uint64_t due) {
    const struct contestant *contestant = connection->contestant;
    for (uint32_t i = 0; i < requests; i++) {
        if (!contestant->http) {
            make_message(connection->unsent + i * contestant->size, contestant->size,
                         connection->number, connection->sent);
        }
        *due_slot(connection, connection->sent) = due;
        connection->sent++;
    }
    slice.under_way += requests;
    connection->unsent_from = 0;
    connection->unsent_size = requests * contestant->size;
    (void)flush(connection);
}

static uint64_t count_differences(const char *a, const char *b, size_t size) {
    uint64_t count = 0;
    if (memcmp(a, b, size) != 0) {
        for (size_t i = 0; i < size; i++) {
            count += a[i] != b[i];
        }
    }
    return count;
}

/* Compares received bytes with what is expected and counts the answers that became complete. */
static void take(struct connection *connection, const char *bytes, size_t size, uint64_t now) {
    const struct contestant *contestant = connection->contestant;
    char message[MESSAGE_MAX];
    while (size > 0) {
        const char *expected = FLOOR_RESPONSE;
        size_t part = contestant->answer - connection->got;
        part = part < size ? part : size;
        if (connection->answered == connection->sent) {
            slice.mismatch += size; /* more than was asked for */
            return;
        }
        if (!contestant->http) {
            make_message(message, contestant->size, connection->number, connection->answered);
            expected = message;
        }
        slice.mismatch += count_differences(expected + connection->got, bytes, part);
        connection->got += part;
        bytes += part;
        size -= part;
        if (connection->got == contestant->answer) {
            uint64_t due = *due_slot(connection, connection->answered);
            histogram_add(&slice.latencies, now > due ? now - due : 0);
            connection->got = 0;
            connection->answered++;
            slice.done++;
            slice.under_way--;
        }
    }
}

/* Reads all there is; of udp one datagram, since no more can be under way. False: the connection was dropped. */
static bool receive(struct connection *connection, bool hang_up) {
    for (;;) {
        ssize_t n = recv(connection->fd, scratch, sizeof scratch, MSG_DONTWAIT);
        if (n > 0) {
            take(connection, scratch, (size_t)n, now_ns());
            if ((size_t)n < sizeof scratch && !hang_up) {
                return true; /* emptied; what comes later is a new edge */
            }
        } else if (n < 0 && errno == EAGAIN) {
            return true;
        } else if (n == 0 || errno != EINTR) {
            drop(connection);
            return false;
        }
    }
}

static void on_event(struct connection *connection, uint32_t events) {
    bool hang_up = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (connection->fd < 0 || !flush(connection)) {
        return;
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 &&
        !receive(connection, hang_up)) {
        return;
    }
    if (slice.closed_loop && connection->sent == connection->answered) {
        uint64_t now = now_ns();
        if (now < slice.end) {
            send_requests(connection, connection->contestant->pipeline, now);
            slice.batches++;
        }
    }
}

/* Waits for events, at most timeout ns, and handles them. */
static void turn(const struct contestant *contestant, uint64_t timeout) {
    struct epoll_event events[EVENTS];
    struct timespec at_most = {.tv_sec = (time_t)(timeout / 1000000000ull),
                               .tv_nsec = (long)(timeout % 1000000000ull)};
    int n = spin || timeout == 0 ? epoll_wait(contestant->epoll, events, EVENTS, 0)
                                 : epoll_pwait2(contestant->epoll, events, EVENTS, &at_most, NULL);
    for (int i = 0; i < n; i++) {
        on_event(events[i].data.ptr, events[i].events);
    }
}

static uint64_t due_time(uint64_t batch) {
    return slice.start + (uint64_t)((double)batch * slice.distance);
}

/* Sends the batches that are due. A connection that can take no more holds back all: what follows
 * stays due, and pays for it in latency. */
static void send_due(const struct contestant *contestant) {
    for (int i = 0; i < SENDS_PER_TURN && slice.batches < slice.planned; i++) {
        struct connection *connection =
            &contestant->connections[slice.batches % contestant->count];
        uint64_t due = due_time(slice.batches);
        uint64_t now = now_ns();
        if (now < due) {
            return;
        }
        if (connection->fd >= 0) {
            if (!can_send(connection, contestant->pipeline)) {
                return;
            }
            slice.late = now - due > slice.late ? now - due : slice.late;
            send_requests(connection, contestant->pipeline, due);
        } else {
            slice.errors += contestant->pipeline;
        }
        slice.batches++;
    }
}

static void run_open(const struct contestant *contestant) {
    while (slice.batches < slice.planned) {
        uint64_t now = now_ns();
        uint64_t due = due_time(slice.batches);
        if (now > slice.end + DRAIN_NS) {
            return; /* the server does not keep up at all */
        }
        if (now >= due) {
            send_due(contestant);
            now = now_ns();
            due = slice.batches < slice.planned ? due_time(slice.batches) : now;
        }
        turn(contestant, due > now ? due - now : 0);
    }
}

static void run_closed(const struct contestant *contestant) {
    for (uint32_t i = 0; i < contestant->count; i++) {
        if (contestant->connections[i].fd >= 0) {
            send_requests(&contestant->connections[i], contestant->pipeline, now_ns());
            slice.batches++;
        }
    }
    for (uint64_t now = now_ns(); now < slice.end; now = now_ns()) {
        turn(contestant, slice.end - now);
    }
}

/* Waits for the answers still due; connections that do not deliver are given up. */
static void drain(const struct contestant *contestant) {
    uint64_t give_up = now_ns() + DRAIN_NS;
    for (uint64_t now = now_ns(); slice.under_way > 0 && now < give_up; now = now_ns()) {
        turn(contestant, give_up - now);
    }
    for (uint32_t i = 0; i < contestant->count; i++) {
        struct connection *connection = &contestant->connections[i];
        if (connection->fd >= 0 && connection->sent != connection->answered) {
            drop(connection);
        }
    }
}

static uint64_t own_cpu_us(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000ull +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static bool revive(struct contestant *contestant) {
    for (uint32_t i = 0; i < contestant->count; i++) {
        if (contestant->connections[i].fd < 0 && !connect_one(&contestant->connections[i])) {
            return false;
        }
    }
    return true;
}

static void reset_slice(void) {
    memset(&slice, 0, offsetof(struct slice, latencies));
    histogram_clear(&slice.latencies);
}

static void report(uint64_t elapsed_ns, uint64_t cpu_us) {
    const struct histogram *latencies = &slice.latencies;
    printf("{\"done\":%llu,\"errors\":%llu,\"mismatch\":%llu,\"elapsed_us\":%.1f,"
           "\"load_cpu_us\":%llu,\"late_us\":%.1f,\"batches\":%llu,"
           "\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"p99.9\":%.2f,\"max\":%.2f,\"hist\":",
           (unsigned long long)slice.done, (unsigned long long)slice.errors,
           (unsigned long long)slice.mismatch, (double)elapsed_ns / 1e3,
           (unsigned long long)cpu_us, (double)slice.late / 1e3,
           (unsigned long long)slice.batches, histogram_percentile(latencies, 0.5) / 1e3,
           histogram_percentile(latencies, 0.9) / 1e3, histogram_percentile(latencies, 0.99) / 1e3,
           histogram_percentile(latencies, 0.999) / 1e3, (double)latencies->max / 1e3);
    histogram_print(latencies, stdout);
    puts("}");
}

static void fail(const char *why) {
    printf("{\"error\":\"%s\"}\n", why);
}

static void do_slice(struct contestant *contestant, uint64_t rate, uint64_t ms) {
    reset_slice();
    if (!revive(contestant)) {
        fail("a lost connection cannot be opened again");
        return;
    }
    turn(contestant, 0); /* what is left of connecting */
    uint64_t cpu = own_cpu_us();
    slice.closed_loop = rate == 0;
    slice.start = now_ns();
    slice.end = slice.start + ms * 1000000ull;
    if (rate == 0) {
        run_closed(contestant);
    } else {
        slice.distance = 1e9 * contestant->pipeline / (double)rate;
        slice.planned = (uint64_t)((double)ms * 1e6 / slice.distance);
        run_open(contestant);
    }
    uint64_t sending = now_ns() - slice.start;
    drain(contestant);
    report(sending, own_cpu_us() - cpu);
}

static void do_lockstep(struct contestant *contestant, uint64_t requests) {
    struct connection *connection = &contestant->connections[0];
    reset_slice();
    if (!revive(contestant)) {
        fail("a lost connection cannot be opened again");
        return;
    }
    uint64_t cpu = own_cpu_us();
    slice.start = now_ns();
    while (slice.done < requests && connection->fd >= 0) {
        if (connection->sent == connection->answered) {
            uint64_t left = requests - slice.done;
            uint32_t batch = contestant->pipeline;
            send_requests(connection, left < batch ? (uint32_t)left : batch, now_ns());
        }
        struct pollfd wait = {.fd = connection->fd, .events = POLLIN};
        if (connection->fd >= 0 && poll(&wait, 1, 10000) <= 0) {
            drop(connection);
        } else if (connection->fd >= 0) {
            (void)receive(connection, false);
        }
    }
    report(now_ns() - slice.start, own_cpu_us() - cpu);
}

static bool do_open(struct contestant *contestant) {
    contestant->epoll = epoll_create1(EPOLL_CLOEXEC);
    contestant->connections = calloc(contestant->count, sizeof *contestant->connections);
    contestant->due = calloc(contestant->count, DUE_SLOTS * sizeof *contestant->due);
    if (contestant->epoll < 0 || contestant->connections == NULL || contestant->due == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < contestant->count; i++) {
        struct connection *connection = &contestant->connections[i];
        connection->contestant = contestant;
        connection->number = i;
        connection->fd = -1;
        connection->unsent = malloc(contestant->pipeline * contestant->size);
        if (connection->unsent == NULL) {
            return false;
        }
        for (uint32_t k = 0; contestant->http && k < contestant->pipeline; k++) {
            memcpy(connection->unsent + k * contestant->size, REQUEST, contestant->size);
        }
        if (!connect_one(connection)) {
            return false;
        }
    }
    return true;
}

static void open_command(const char *line) {
    char host[64];
    char mode[8];
    unsigned port;
    unsigned count;
    unsigned pipeline;
    unsigned size;
    if (contestant_count == CONTESTANTS ||
        sscanf(line, "open %63s %u %7s %u %u %u", host, &port, mode, &count, &pipeline, &size) !=
            6) {
        fail("open HOST PORT echo|http|udp CONNECTIONS PIPELINE SIZE");
        return;
    }
    struct contestant *contestant = &contestants[contestant_count];
    contestant->http = strcmp(mode, "http") == 0;
    contestant->udp = strcmp(mode, "udp") == 0;
    contestant->count = count;
    contestant->pipeline = pipeline;
    contestant->size = contestant->http ? sizeof REQUEST - 1 : size;
    contestant->answer = contestant->http ? FLOOR_RESPONSE_SIZE : size;
    contestant->address.sin_family = AF_INET;
    contestant->address.sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, host, &contestant->address.sin_addr) != 1 || port > 65535 ||
        count == 0 || pipeline == 0 || pipeline > (contestant->udp ? 1 : DUE_SLOTS) ||
        contestant->size == 0 ||
        contestant->size > MESSAGE_MAX) {
        fail("open: a value is out of range");
    } else if (!do_open(contestant)) {
        fail("open: cannot connect");
    } else {
        printf("{\"index\":%d}\n", contestant_count++);
    }
}

static void close_contestant(struct contestant *contestant) {
    for (uint32_t i = 0; i < contestant->count; i++) {
        if (contestant->connections[i].fd >= 0) {
            close(contestant->connections[i].fd);
        }
        free(contestant->connections[i].unsent);
    }
    free(contestant->connections);
    free(contestant->due);
    close(contestant->epoll);
    contestant->epoll = -1;
    puts("{}");
}

/* Handles one command other than open. */
static void other_command(const char *line) {
    int index;
    int value;
    unsigned long long first;
    unsigned long long second;
    if (sscanf(line, "spin %d", &value) == 1) {
        spin = value != 0;
        puts("{}");
        return;
    }
    if (sscanf(line, "%*s %d", &index) != 1 || index < 0 || index >= contestant_count ||
        contestants[index].epoll < 0) {
        fail("not a command, or not an index");
    } else if (sscanf(line, "slice %*d %llu %llu", &first, &second) == 2) {
        do_slice(&contestants[index], first, second);
    } else if (sscanf(line, "lockstep %*d %llu", &first) == 1) {
        do_lockstep(&contestants[index], first);
    } else if (strncmp(line, "close ", 6) == 0) {
        close_contestant(&contestants[index]);
    } else {
        fail("not a command");
    }
}

int main(void) {
    char line[256];
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL); /* wake when due, not 50 us later */
    while (fgets(line, sizeof line, stdin) != NULL && strncmp(line, "quit", 4) != 0) {
        if (strncmp(line, "open ", 5) == 0) {
            open_command(line);
        } else {
            other_command(line);
        }
        fflush(stdout);
    }
    return 0;
}
