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
        list += strspn(list, " \t");
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
    } else if (space != at + 8 || strspn(at + 9, "0123456789") != 3 || at[9] == '0' ||
               (size > 12 && at[12] != ' ')) {
        return false;
    }
    h->status = request ? 0 : atoi(at + 9);
    h->old = version[7] == '0';
    return memcmp(version, "HTTP/1.", 7) == 0 && (h->old || version[7] == '1');
}

/* Reads a head of at most HEAD_MAX bytes; at its end, and only there, is an empty line. */
static bool head_parse(struct head *h, const char *at, size_t size, bool request) {
    const char *first, *next, *options = "";
    size_t options_size = 0;
    int hosts = 0, connections = 0;
    if (!is_clean(at, size)) {
        return false;
    }
    at += request && size > 4 && *at == '\r' ? 2 : 0; /* some clients end a body with a line too many */
    first = strchr(at, '\n') + 1;
    h->size = 0;
    h->length = -1;
    h->chunked = false;
    if (!head_parse_first(h, at, (size_t)(first - at) - 2, request)) {
        return false;
    }
    head_add(h, at, (size_t)(first - at));
    for (at = first; *at != '\r'; at = next) {
        next = strchr(at, '\n') + 1;
        size_t name = strcspn(at, ":\n");
        const char *value = at + name + 1 + strspn(at + name + 1, " \t");
        if (at[name] != ':' || !is_token(at, name)) {
            return false;
        }
        size_t length = (size_t)(next - 2 - value);
        while (length > 0 && (value[length - 1] == ' ' || value[length - 1] == '\t')) {
            length--;
        }
        if (LISTS("content-length", at, name)) {
            size_t digits = strspn(value, "0123456789");
            bool good = h->length < 0 && digits > 0 && digits < 19 && digits == length;
            h->length = strtoll(value, NULL, 10);
            if (!good) {
                return false;
            }
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
        next = strchr(at, '\n') + 1;
        size_t name = strcspn(at, ":");
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
