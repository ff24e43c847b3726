/* Heads of HTTP/1 messages, for a program between two others: read strictly, because what two programs
 * can understand in two ways lets one smuggle requests past the other. Refused are: bytes that are not
 * printable, line ends of one byte, folded lines, space before a colon, Content-Length together with
 * Transfer-Encoding, either of them twice, codings other than chunked, a second Connection or Host.
 * What is kept of a head is what concerns the peers on both sides, not only this connection. */
#ifndef PICA_EXAMPLES_PROXY_HEAD_H
#define PICA_EXAMPLES_PROXY_HEAD_H

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD_MAX = 16 << 10 };
/* Of what head_parse keeps there is room left for HEAD_ROOM bytes more. */
enum { HEAD_ROOM = 64 };

struct head {
    int status;       /* of an answer */
    long long length; /* of the body, by Content-Length; -1: not given */
    bool chunked, old /* HTTP/1.0 */, close, is_head, repeatable;
    size_t size; /* of text: what goes on of it, without its last line */
    char text[HEAD_MAX + HEAD_ROOM];
};

/* What a reader shows ends with no zero, so nothing here may look for one. How many bytes from at on are of a set: */
static size_t head_span(const char *at, const char *end, const char *set) {
    const char *from = at;
    while (at < end && *at != '\0' && strchr(set, *at) != NULL) {
        at++;
    }
    return (size_t)(at - from);
}

/* A number of so many digits, at most 18. */
static unsigned long long head_number(const char *at, size_t digits, int base) {
    char text[20] = "";
    memcpy(text, at, digits);
    return strtoull(text, NULL, base);
}

static unsigned long long head_length(const struct head *h) {
    return h->length > 0 ? (unsigned long long)h->length : 0;
}

#define LISTS(literal, name, length) lists(literal, sizeof(literal) - 1, name, length)

/* Whether name is an item of a list with commas, as a header's value is one. */
static bool lists(const char *list, size_t size, const char *name, size_t length) {
    for (const char *end = list + size, *comma; list < end; list = comma + 1) {
        comma = memchr(list, ',', (size_t)(end - list));
        comma = comma != NULL ? comma : end;
        const char *last = comma;
        list += head_span(list, end, " \t");
        while (last > list && (last[-1] == ' ' || last[-1] == '\t')) {
            last--;
        }
        if (list + length == last && strncasecmp(list, name, length) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_token(const char *at, size_t size) {
    size_t i = 0;
    while (i < size && (isalnum((unsigned char)at[i]) || strchr("!#$%&'*+-.^_`|~", at[i]) != NULL)) {
        i++;
    }
    return size > 0 && i == size;
}

/* Only printable bytes, tabs, and line ends of both bytes. */
static bool is_clean(const char *at, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)at[i];
        if (c == '\r' ? at[i + 1] != '\n' : c == '\n' ? i == 0 || at[i - 1] != '\r'
                                            : (c < ' ' && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static void head_add(struct head *h, const char *at, size_t size) {
    memcpy(h->text + h->size, at, size);
    h->size += size;
}

static bool head_parse_first(struct head *h, const char *at, size_t size, bool request) {
    const char *space = memchr(at, ' ', size), *version = at;
    if (space == NULL || size < 12) {
        return false;
    }
    if (request) {
        size_t method = (size_t)(space - at);
        version = at + size - 8;
        h->is_head = method == 4 && memcmp(at, "HEAD", 4) == 0;
        h->repeatable = LISTS("GET,HEAD,OPTIONS,TRACE,PUT,DELETE", at, method);
        if (!is_token(at, method) || LISTS("CONNECT", at, method) || version < space + 3 ||
            memchr(space + 1, ' ', (size_t)(version - space - 1)) != version - 1) {
            return false;
        }
    } else if (space != at + 8 || head_span(at + 9, at + size, "0123456789") != 3 || at[9] == '0' ||
               (size > 12 && at[12] != ' ')) {
        return false;
    }
    h->status = request ? 0 : (int)head_number(at + 9, 3, 10);
    h->old = version[7] == '0';
    return memcmp(version, "HTTP/1.", 7) == 0 && (h->old || version[7] == '1');
}

static const char *next_line(const char *at, const char *end) {
    return (const char *)memchr(at, '\n', (size_t)(end - at)) + 1;
}

/* Reads a head of at most HEAD_MAX bytes; at its end, and only there, is an empty line. */
static bool head_parse(struct head *h, const char *at, size_t size, bool request) {
    const char *first, *next, *options = "", *end = at + size;
    size_t options_size = 0;
    int hosts = 0, connections = 0;
    if (!is_clean(at, size)) {
        return false;
    }
    at += request && size > 4 && *at == '\r' ? 2 : 0; /* some clients end a body with a line too many */
    first = next_line(at, end);
    h->size = 0;
    h->length = -1;
    h->chunked = false;
    if (!head_parse_first(h, at, (size_t)(first - at) - 2, request)) {
        return false;
    }
    head_add(h, at, (size_t)(first - at));
    for (at = first; *at != '\r'; at = next) {
        next = next_line(at, end);
        const char *colon = memchr(at, ':', (size_t)(next - at));
        size_t name = colon != NULL ? (size_t)(colon - at) : 0;
        if (!is_token(at, name)) {
            return false;
        }
        const char *value = colon + 1 + head_span(colon + 1, end, " \t");
        size_t length = (size_t)(next - 2 - value);
        while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t')) {
            length--;
        }
        if (LISTS("content-length", at, name)) {
            size_t digits = head_span(value, end, "0123456789");
            if (h->length >= 0 || digits == 0 || digits > 18 || digits != length) {
                return false;
            }
            h->length = (long long)head_number(value, digits, 10);
        } else if (LISTS("transfer-encoding", at, name)) {
            if (h->chunked || !LISTS("chunked", value, length)) {
                return false;
            }
            h->chunked = true;
        } else if (LISTS("connection", at, name)) {
            options = value;
            options_size = length;
            connections++;
        }
        hosts += LISTS("host", at, name);
    }
    for (at = first; *at != '\r'; at = next) {
        next = next_line(at, end);
        size_t name = (size_t)((const char *)memchr(at, ':', (size_t)(next - at)) - at);
        if (LISTS("host,content-length,transfer-encoding", at, name) ||
            !(lists(options, options_size, at, name) ||
              LISTS("connection,keep-alive,proxy-connection,te,trailer,upgrade", at, name))) {
            head_add(h, at, (size_t)(next - at));
        }
    }
    h->close = h->old || lists(options, options_size, "close", 5);
    return connections <= 1 && !(h->chunked && (h->length >= 0 || h->old)) &&
           (!request || hosts == 1 || (h->old && hosts == 0));
}

#endif
