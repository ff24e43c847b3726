/* What an HTTP server's parser meets, for the compiler that optimizes it by profile.
 *
 * llhttp is one generated function of some thousand states. Which of them follow each other, and which byte is the
 * usual one in each, the compiler does not know; with a profile of these requests the usual way through is one straight
 * piece of code. CMakeLists.txt builds this program with counters, runs it once, and builds the parser with what they
 * say. The profile says only what is likely: every request is parsed as before.
 *
 * The requests are those of load generators and command-line clients (few headers, often pipelined), of browsers and
 * of programs that talk to an API (many headers, bodies with a length and in chunks), some that are refused; whole,
 * and in two pieces. Exit status: 0 if each was parsed as expected. */
#include <llhttp.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

struct sample {
    const char *text;
    int times; /* how often, of about a hundred */
    enum { USUAL, LAST, REFUSED } kind; /* LAST: nothing may follow it */
};

static const struct sample samples[] = {
    {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 12, USUAL},
    {"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", 10, USUAL},
    {"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n", 8, USUAL},
    {"GET /status HTTP/1.0\r\nConnection: Keep-Alive\r\nHost: 127.0.0.1:8080\r\nUser-Agent: ApacheBench/2.3\r\n"
     "Accept: */*\r\n\r\n", 4, USUAL},
    {"HEAD /index.html HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n", 2, LAST},
    {"GET /articles/2024/05/some-title?page=2&sort=desc HTTP/1.1\r\nHost: www.example.com\r\n"
     "Connection: keep-alive\r\nCache-Control: max-age=0\r\nUpgrade-Insecure-Requests: 1\r\n"
     "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 "
     "Safari/537.36\r\n"
     "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
     "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n"
     "Referer: https://www.example.com/articles\r\nAccept-Encoding: gzip, deflate, br\r\n"
     "Accept-Language: en-US,en;q=0.9\r\nCookie: session=0123456789abcdef; theme=dark\r\n\r\n", 8, USUAL},
    {"GET /static/app.3f2a.js HTTP/1.1\r\nHost: cdn.example.com\r\nUser-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X "
     "10.15; rv:125.0) Gecko/20100101 Firefox/125.0\r\nAccept: */*\r\nAccept-Language: de,en-US;q=0.7,en;q=0.3\r\n"
     "Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\nIf-None-Match: \"5e9c-61\"\r\n"
     "If-Modified-Since: Wed, 01 May 2024 10:00:00 GMT\r\n\r\n", 6, USUAL},
    {"POST /api/v1/orders HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: application/json\r\n"
     "Authorization: Bearer abcdefghijklmnopqrstuvwxyz\r\nContent-Length: 27\r\n\r\n{\"item\": 42, \"count\": 1000}", 6,
     USUAL},
    {"PUT /objects/7 HTTP/1.1\r\nHost: store.example.com\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
     "10\r\n0123456789abcdef\r\n5;name=value\r\nhello\r\n0\r\n\r\n", 3, USUAL},
    {"DELETE /objects/7 HTTP/1.1\r\nHost: store.example.com\r\nX-Request-Id: 5d3c\r\n\r\n", 2, USUAL},
    {"OPTIONS * HTTP/1.1\r\nHost: store.example.com\r\n\r\n", 1, USUAL},
    {"GET /chat HTTP/1.1\r\nHost: www.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
     "Sec-WebSocket-Version: 13\r\n\r\n", 1, USUAL},
    {"GET / HTTP/1.1\r\nHost a\r\n\r\n", 1, REFUSED},
    {"BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", 1, REFUSED},
    {"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 1, REFUSED},
};

enum { ROUNDS = 200, PIPELINED = 16 };

static unsigned long completed;

static int on_headers_complete(llhttp_t *parser) {
    parser->upgrade = 0;
    return 0;
}

static int on_message_complete(llhttp_t *parser) {
    (void)parser;
    completed++;
    return 0;
}

static const llhttp_settings_t settings = {.on_headers_complete = on_headers_complete,
                                           .on_message_complete = on_message_complete};

/* Bytes up to `cut`, and those behind it. */
static bool parse(const char *text, size_t size, size_t cut) {
    llhttp_t parser;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    return llhttp_execute(&parser, text, cut) == HPE_OK && llhttp_execute(&parser, text + cut, size - cut) == HPE_OK;
}

static bool train(const struct sample *sample, unsigned seed) {
    char pipelined[PIPELINED * 1024];
    size_t size = strlen(sample->text), n = sample->kind == USUAL ? PIPELINED : 1;
    unsigned long before = completed;
    for (size_t i = 0; i < n; i++) {
        memcpy(pipelined + i * size, sample->text, size);
    }
    bool whole = parse(pipelined, n * size, 0);
    bool pieces = parse(sample->text, size, seed % size);
    return sample->kind == REFUSED ? !whole && !pieces : whole && pieces && completed - before == n + 1;
}

int main(void) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
            for (int n = 0; n < samples[i].times; n++) {
                if (!train(&samples[i], round * 7919u + (unsigned)n * 31u)) {
                    fprintf(stderr, "train: not parsed as expected: %s\n", samples[i].text);
                    return 1;
                }
            }
        }
    }
    return 0;
}
