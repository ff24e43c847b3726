/* Requests for files, as a server takes them from the head of an HTTP/1.1 message: the path, GET or HEAD, whether the
 * connection stays, and which part of the file is wanted, and when (RFC 9110, sections 13 and 14). What a client may ask
 * for but need not be given is taken as if it had not asked: several ranges at once, units other than bytes, and
 * whatever cannot be read. Files have no tags here: none that a client sends is that of a file. */
#ifndef PICA_EXAMPLES_FILES_REQUEST_H
#define PICA_EXAMPLES_FILES_REQUEST_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MAX_PATH = 1 << 10, DATE_SIZE = 32 };

struct request {
    char path[MAX_PATH];
    bool head, keep;
    int status; /* 0, or why it is refused */
    /* Range: from first to last, both included; last -1: to the end; first -1: the `last` last bytes. */
    enum { WHOLE, RANGE, RANGES /* there were two such lines */ } part;
    int64_t first, last;
    enum { ALWAYS, SINCE, TAGS, NEVER /* any tag will do: there is one */ } when;
    time_t since;      /* SINCE: only if it was changed later */
    bool only_if;      /* the part only if it was not changed since if_time (0: never), else all of it */
    time_t if_time;
};

static int hex(char c) {
    const char *digits = "0123456789abcdefABCDEF", *at = c != 0 ? strchr(digits, c) : NULL;
    return at == NULL ? -1 : at - digits < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

/* Takes the escapes out, and what is behind the path; makes it relative. */
static int take_path(struct request *r, const char *from, size_t size) {
    size_t n = 0;
    if (size == 0 || from[0] != '/') {
        return 400;
    }
    for (size_t i = 0; i < size && from[i] != '?' && from[i] != '#'; i++) {
        int c = (unsigned char)from[i];
        if (c == '%') {
            int high = i + 2 < size ? hex(from[i + 1]) : -1, low = i + 2 < size ? hex(from[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0) {
                return 400;
            }
            c = high * 16 + low;
            i += 2;
        }
        if (n == MAX_PATH - sizeof("index.html")) {
            return 414;
        }
        if (n > 0 || c != '/') {
            r->path[n++] = (char)c;
        }
    }
    strcpy(r->path + n, n == 0 || r->path[n - 1] == '/' ? "index.html" : "");
    return 0;
}

/* Whether a line has that name (with its colon); then value and length are what it says. */
static bool line_is(const char *line, size_t size, const char *name, const char **value, size_t *length) {
    size_t n = strlen(name);
    if (size < n || strncasecmp(line, name, n) != 0) {
        return false;
    }
    for (; n < size && (line[n] == ' ' || line[n] == '\t'); n++) {
    }
    for (; size > n && strchr(" \t\r", line[size - 1]) != NULL; size--) {
    }
    *value = line + n;
    *length = size - n;
    return true;
}

static bool value_is(const char *value, size_t length, const char *text) {
    return length == strlen(text) && strncasecmp(value, text, length) == 0;
}

/* The three ways to write a date; 0: it is none. */
static time_t take_date(const char *value, size_t length) {
    static const char *const forms[] = {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT",
                                        "%a %b %e %H:%M:%S %Y"};
    char text[2 * DATE_SIZE];
    if (length >= sizeof text) {
        return 0;
    }
    memcpy(text, value, length);
    text[length] = 0;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct tm tm = {.tm_mday = 1};
        const char *end = strptime(text, forms[i], &tm);
        if (end != NULL && *end == 0) {
            return timegm(&tm);
        }
    }
    return 0;
}

static void put_date(char out[DATE_SIZE], time_t date) {
    struct tm tm;
    if (gmtime_r(&date, &tm) == NULL || strftime(out, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0) {
        *out = 0;
    }
}

/* Digits, with as much as fits; -1: there are none. Moves *at behind them. */
static int64_t take_number(const char **at, const char *end) {
    int64_t n = -1;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        int64_t digit = **at - '0';
        n = n < 0 ? digit : n > (INT64_MAX - digit) / 10 ? INT64_MAX : n * 10 + digit;
    }
    return n;
}

/* "bytes=1-5", "bytes=1-", "bytes=-5". */
static void take_range(struct request *r, const char *value, size_t length) {
    const char *end = value + length;
    bool again = r->part != WHOLE;
    r->part = again ? RANGES : WHOLE;
    if (again || length < 6 || strncasecmp(value, "bytes=", 6) != 0) {
        return;
    }
    value += 6;
    r->first = take_number(&value, end);
    bool dash = value < end && *value++ == '-';
    r->last = dash ? take_number(&value, end) : -1;
    if (dash && value == end && (r->first >= 0 || r->last >= 0) && (r->last < 0 || r->first <= r->last)) {
        r->part = RANGE;
    }
}

static void take_line(struct request *r, const char *line, size_t n) {
    const char *value;
    size_t length;
    if (line_is(line, n, "connection:", &value, &length)) {
        r->keep = r->keep && (length < 5 || strncasecmp(value, "close", 5) != 0);
    } else if (line_is(line, n, "transfer-encoding:", &value, &length)) {
        r->keep = false; /* there is a body, which nobody reads */
    } else if (line_is(line, n, "content-length:", &value, &length)) {
        r->keep = r->keep && value_is(value, length, "0");
    } else if (line_is(line, n, "range:", &value, &length)) {
        take_range(r, value, length);
    } else if (line_is(line, n, "if-range:", &value, &length)) {
        r->only_if = true;
        r->if_time = take_date(value, length);
    } else if (line_is(line, n, "if-none-match:", &value, &length)) { /* it outdoes the date */
        r->when = value_is(value, length, "*") ? NEVER : TAGS;
    } else if (r->when == ALWAYS && line_is(line, n, "if-modified-since:", &value, &length)) {
        r->since = take_date(value, length);
        r->when = r->since != 0 ? SINCE : ALWAYS;
    }
}

/* The head, which ends with an empty line. */
static void parse(struct request *r, const char *head, size_t size) {
    const char *end = head + size, *line_end = memchr(head, '\n', size);
    const char *path = memchr(head, ' ', (size_t)(line_end - head));
    const char *version = path != NULL ? memchr(path + 1, ' ', (size_t)(line_end - path - 1)) : NULL;
    *r = (struct request){.status = 400};
    if (version == NULL || line_end - version < 9 || memcmp(version, " HTTP/1.", 8) != 0) {
        return;
    }
    r->keep = version[8] != '0';
    r->head = path - head == 4 && memcmp(head, "HEAD", 4) == 0;
    r->status = take_path(r, path + 1, (size_t)(version - path - 1));
    if (!r->head && (path - head != 3 || memcmp(head, "GET", 3) != 0)) {
        r->status = 405;
        r->keep = false; /* there may be a body */
    }
    for (const char *line = line_end + 1; line < end; line = line_end + 1) {
        line_end = memchr(line, '\n', (size_t)(end - line));
        take_line(r, line, (size_t)(line_end - line));
    }
}

/* The status for a file that is there, of this size and changed at that time; then *first and *size are what of it
 * to send. */
static int choose(const struct request *r, int64_t *first, int64_t *size, time_t changed) {
    *first = 0;
    if (r->when == NEVER || (r->when == SINCE && changed <= r->since)) {
        return 304;
    }
    /* A file that was changed within this second may be changed again, and keep its date. */
    bool same = !r->only_if || (r->if_time == changed && changed < time(NULL));
    if (r->part != RANGE || r->head || !same || (r->first < 0 && *size == 0 && r->last > 0)) {
        return 200;
    }
    if (r->first >= *size || (r->first < 0 && r->last == 0)) {
        return 416;
    }
    *first = r->first >= 0 ? r->first : r->last < *size ? *size - r->last : 0;
    *size = r->first >= 0 && r->last >= 0 && r->last < *size ? r->last + 1 - *first : *size - *first;
    return 206;
}

#endif
