/* Datagram endpoints for tests, and small helpers. */
#ifndef DATAGRAMS_H
#define DATAGRAMS_H

#include <pica.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/tasks.h"

typedef pica_datagram_endpoint endpoint;

static inline pica_address ip(const char *host, unsigned port) {
    pica_address address;
    PT_REQUIRE(pica_address_ip(&address, host, port) == 0);
    return address;
}

static inline pica_address name_of(endpoint *e) {
    pica_address address;
    PT_REQUIRE(pica_datagram_name(e, &address) == 0);
    return address;
}

static inline endpoint *open_on(const char *host) {
    pica_address local = ip(host, 0);
    endpoint *e = NULL;
    PT_REQUIRE(pica_datagram_open(&e, &local, NULL, NULL) == 0);
    return e;
}

/* Connected to another endpoint. */
static inline endpoint *open_to(endpoint *other) {
    pica_address remote = name_of(other);
    endpoint *e = NULL;
    PT_REQUIRE(pica_datagram_open(&e, NULL, &remote, NULL) == 0);
    return e;
}

static inline pica_address unix_name(void) {
    static int count;
    char name[64];
    pica_address address;
    snprintf(name, sizeof name, "@pica-datagram-%d-%d", (int)getpid(), count++);
    PT_REQUIRE(pica_address_unix(&address, name) == 0);
    return address;
}

static inline bool same(const pica_address *a, const pica_address *b) {
    char x[160], y[160];
    (void)pica_address_format(a, x, sizeof x);
    (void)pica_address_format(b, y, sizeof y);
    return PT_STR_EQ(x, y);
}

static inline void expect(endpoint *e, const char *text) {
    char buffer[256];
    unsigned flags = 99;
    ssize_t n = pica_datagram_recv(e, buffer, sizeof buffer, NULL, &flags);
    if (PT_EQ(n, strlen(text)) && n >= 0) {
        PT_EQ(memcmp(buffer, text, (size_t)n), 0);
        PT_EQ(flags, 0);
    }
}

#define SEND_TEXT(e, text, to) PT_EQ(pica_datagram_send(e, text, strlen(text), to), 0)

#endif
