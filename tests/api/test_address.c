/* Addresses from text and to text. */
#include <pica.h>

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "tests/support/pt.h"

static void round_trip(const char *host, unsigned port, const char *expected) {
    pica_address a;
    char text[160];
    if (PT_EQ(pica_address_ip(&a, host, port), 0)) {
        PT_EQ(pica_address_format(&a, text, sizeof text), strlen(expected));
        PT_STR_EQ(text, expected);
        PT_EQ(pica_address_port(&a), port);
    }
}

PT_TEST(numeric) {
    round_trip("127.0.0.1", 80, "127.0.0.1:80");
    round_trip("0.0.0.0", 0, "0.0.0.0:0");
    round_trip("255.255.255.255", 65535, "255.255.255.255:65535");
    round_trip("::1", 80, "[::1]:80");
    round_trip("::", 443, "[::]:443");
    round_trip("2001:db8:0:0:0:0:0:1", 1, "[2001:db8::1]:1");
    round_trip("::ffff:10.0.0.1", 9, "[::ffff:10.0.0.1]:9");
}

PT_TEST(scope) {
    /* Interface 1 is the loopback interface in every network namespace. */
    round_trip("fe80::1%lo", 80, "[fe80::1%lo]:80");
    round_trip("fe80::1%1", 80, "[fe80::1%lo]:80");
    round_trip("fe80::1%4000000000", 80, "[fe80::1%4000000000]:80");
    pica_address a;
    PT_EQ(pica_address_ip(&a, "fe80::1%no-such-if", 80), -EINVAL);
    PT_EQ(pica_address_ip(&a, "fe80::1%4294967296", 80), -EINVAL);
    PT_EQ(pica_address_ip(&a, "fe80::1%", 80), -EINVAL);
}

PT_TEST(not_numeric) {
    static const char *const bad[] = {"localhost",  "1.2.3",   "1.2.3.4.5",  "256.1.1.1",
                                      "[::1]",      "127.1",   "0x7f.0.0.1", " 127.0.0.1",
                                      "127.0.0.1 ", "1::2::3", "12345::",    "127.0.0.1:80"};
    pica_address a;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (!PT_EQ(pica_address_ip(&a, bad[i], 80), -EINVAL)) {
            PT_FAIL("for \"%s\"", bad[i]);
        }
    }
    char longest[600];
    memset(longest, '1', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    PT_EQ(pica_address_ip(&a, longest, 80), -EINVAL);
    PT_EQ(pica_address_ip(&a, "127.0.0.1", 65536), -EINVAL);
    PT_EQ(pica_address_ip(&a, NULL, 65536), -EINVAL);
}

PT_TEST(all_interfaces) {
    pica_address a, b;
    PT_EQ(pica_address_ip(&a, NULL, 7), 0);
    PT_EQ(pica_address_ip(&b, "", 7), 0);
    PT_EQ(a.length, b.length);
    PT_EQ(memcmp(&a.storage, &b.storage, a.length), 0);
    char text[64];
    pica_address_format(&a, text, sizeof text);
    PT_CHECK(strcmp(text, "[::]:7") == 0 || strcmp(text, "0.0.0.0:7") == 0);
}

PT_TEST(unix_paths) {
    pica_address a;
    char text[200];
    PT_EQ(pica_address_unix(&a, "/tmp/x.sock"), 0);
    PT_EQ(a.length, offsetof(struct sockaddr_un, sun_path) + strlen("/tmp/x.sock") + 1);
    pica_address_format(&a, text, sizeof text);
    PT_STR_EQ(text, "unix:/tmp/x.sock");
    PT_EQ(pica_address_port(&a), 0);

    PT_EQ(pica_address_unix(&a, "@name"), 0);
    struct sockaddr_un un;
    memcpy(&un, &a.storage, sizeof un);
    PT_EQ(un.sun_path[0], 0);
    PT_EQ(a.length, offsetof(struct sockaddr_un, sun_path) + 5);
    pica_address_format(&a, text, sizeof text);
    PT_STR_EQ(text, "unix:@name");

    PT_EQ(pica_address_unix(&a, ""), -EINVAL);
    PT_EQ(pica_address_unix(&a, "@"), -EINVAL);
    PT_EQ(pica_address_unix(&a, NULL), -EINVAL);
}

PT_TEST(unix_lengths) {
    pica_address a;
    char path[120], text[200], expected[200];
    for (size_t n = 100; n < sizeof path; n++) {
        memset(path, 'a', n);
        path[n] = '\0';
        path[0] = '/';
        PT_EQ(pica_address_unix(&a, path), n <= 107 ? 0 : -ENAMETOOLONG);
        if (n <= 107) {
            snprintf(expected, sizeof expected, "unix:%s", path);
            PT_EQ(pica_address_format(&a, text, sizeof text), n + 5);
            PT_STR_EQ(text, expected);
        }
        path[0] = '@';
        PT_EQ(pica_address_unix(&a, path), n <= 108 ? 0 : -ENAMETOOLONG);
        if (n <= 108) {
            PT_EQ(pica_address_format(&a, text, sizeof text), n + 5);
        }
    }
}

PT_TEST(format_cuts) {
    pica_address a;
    PT_EQ(pica_address_ip(&a, "127.0.0.1", 80), 0);
    char text[16];
    for (size_t size = 0; size <= sizeof text; size++) {
        memset(text, '#', sizeof text);
        PT_EQ(pica_address_format(&a, text, size), 12);
        if (size != 0) {
            PT_EQ(strlen(text), size - 1 < 12 ? size - 1 : 12);
            PT_EQ(strncmp(text, "127.0.0.1:80", strlen(text)), 0);
        }
        if (size < sizeof text) {
            PT_EQ(text[size], '#');
        }
    }
    PT_EQ(pica_address_format(&a, NULL, 0), 12);
}

PT_TEST(format_of_strange_ones) {
    pica_address a;
    char text[32] = "x";
    memset(&a, 0, sizeof a);
    PT_EQ(pica_address_format(&a, text, sizeof text), 0);
    PT_STR_EQ(text, "");
    /* An unnamed Unix socket, as the peer of a connection is. */
    a.storage.ss_family = AF_UNIX;
    a.length = sizeof(sa_family_t);
    PT_EQ(pica_address_format(&a, text, sizeof text), 5);
    PT_STR_EQ(text, "unix:");
}

PT_MAIN()
