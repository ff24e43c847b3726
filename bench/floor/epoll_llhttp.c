/* The epoll floor with a parser: the same server, which has llhttp find the requests instead of their empty
 * lines. No floor of the table, but what a raw server needs that understands what Pica's understands, so that a
 * runtime's own share can be told from the parser's. HTTP only. */
#define FLOOR_LLHTTP 1
#include "bench/floor/epoll.c"
