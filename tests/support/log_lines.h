/* Lines of the log that tests which judge the log do not mean: where io_uring is not there or not permitted, the
 * first loop of a process says so once, whatever is tested. */
#ifndef LOG_LINES_H
#define LOG_LINES_H

#include <stdbool.h>
#include <string.h>

static inline bool log_line_of_engine(const char *text) {
    return strstr(text, "; using epoll") != NULL;
}

#endif
