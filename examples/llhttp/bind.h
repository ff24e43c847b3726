/* Binds llhttp's callbacks when the program is built.
 *
 * llhttp's parser calls a function llhttp__on_NAME for each thing it finds. Those of its api.c look
 * through the parser into a table, fourteen times for a request with one header, and mostly find
 * NULL. The ones below do the same for a program whose only table is a constant named settings: the
 * compiler knows what stands there, so nothing is left of those that are NULL, and with link-time
 * optimization the others become a part of the parser.
 *
 * Included twice: by the compiler's command line before api.c, with LLHTTP_BIND_WEAK defined, so
 * that its functions give way to the program's; and by the program, behind settings. A callback
 * that is not in the list works as ever. */
#include <llhttp.h>

#if LLHTTP_VERSION_MAJOR * 100 + LLHTTP_VERSION_MINOR >= 801
#define LLHTTP_BIND_ALL(EVENT, SPAN)                                                               \
    EVENT(message_begin)                                                                           \
    SPAN(method)                                                                                   \
    EVENT(method_complete)                                                                         \
    SPAN(url)                                                                                      \
    EVENT(url_complete)                                                                            \
    SPAN(version)                                                                                  \
    EVENT(version_complete)                                                                        \
    SPAN(header_field)                                                                             \
    EVENT(header_field_complete)                                                                   \
    SPAN(header_value)                                                                             \
    EVENT(header_value_complete)                                                                   \
    EVENT(headers_complete)                                                                        \
    SPAN(body)                                                                                     \
    EVENT(chunk_header)                                                                            \
    EVENT(chunk_complete)                                                                          \
    EVENT(message_complete)                                                                        \
    EVENT(reset)
#else /* some of them are not there yet */
#define LLHTTP_BIND_ALL(EVENT, SPAN)
#endif

#ifdef LLHTTP_BIND_WEAK

#define LLHTTP_BIND_PRAGMA(text) _Pragma(#text)
#define LLHTTP_BIND(name) LLHTTP_BIND_PRAGMA(weak llhttp__on_##name)
LLHTTP_BIND_ALL(LLHTTP_BIND, LLHTTP_BIND)

#else

#define LLHTTP_BIND_EVENT(name)                                                                    \
    int llhttp__on_##name(llhttp_t *parser, const char *at, const char *end);                      \
    int llhttp__on_##name(llhttp_t *parser, const char *at, const char *end) {                     \
        (void)at;                                                                                  \
        (void)end;                                                                                 \
        return settings.on_##name != NULL ? settings.on_##name(parser) : 0;                        \
    }
#define LLHTTP_BIND_SPAN(name)                                                                     \
    int llhttp__on_##name(llhttp_t *parser, const char *at, const char *end);                      \
    int llhttp__on_##name(llhttp_t *parser, const char *at, const char *end) {                     \
        size_t size = (size_t)(end - at);                                                          \
        return settings.on_##name != NULL ? settings.on_##name(parser, at, size) : 0;              \
    }
LLHTTP_BIND_ALL(LLHTTP_BIND_EVENT, LLHTTP_BIND_SPAN)

#endif
