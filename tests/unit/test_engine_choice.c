/* Which engine a runtime gets, and what the log says of it. */
#include "tests/support/pt.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <pica.h>

#include "io/engine/engine.h"
#include "runtime/base/log.h"

static int lines;
static char line[400];

static void log_line(void *arg, int level, const char *message) {
    (void)arg;
    (void)level;
    lines++;
    (void)strncpy(line, message, sizeof line - 1);
}

/* Environment in pairs, ended by NULL; the engine's name, or NULL with *rc. */
static const char *chosen(const char *engine, const char *debug, int *rc) {
    pica__config config;
    pica__engine *made;
    setenv("PICA_ENGINE", engine, 1);
    setenv("PICA_DEBUG", debug, 1);
    PT_REQUIRE(pica__config_from_env(&config) == 0);
    pica__log_set_hook(log_line, NULL);
    *rc = pica__engine_create(&made, &config);
    if (*rc < 0) {
        return NULL;
    }
    const char *name = made->ops->name;
    pica__engine_destroy(made);
    return name;
}

static bool ring_works(void) {
    int rc;
    return chosen("uring", "", &rc) != NULL;
}

PT_TEST(a_name_is_taken) {
    int rc;
    PT_STR_EQ(chosen("epoll", "", &rc), "epoll");
    PT_EQ(lines, 0);
}

PT_TEST(what_is_named_and_does_not_work_is_an_error) {
    int rc;
    PT_CHECK(chosen("uring", "without=io-uring", &rc) == NULL);
    PT_EQ(rc, -ENOSYS);
    PT_EQ(lines, 1);
    PT_CHECK(strstr(line, "io_uring") != NULL);
}

PT_TEST(without_io_uring_it_is_epoll_and_one_line) {
    int rc;
    for (int i = 0; i < 3; i++) {
        PT_STR_EQ(chosen("auto", "without=io-uring", &rc), "epoll");
    }
    PT_EQ(lines, 1);
    PT_CHECK(strstr(line, "io_uring") != NULL && strstr(line, "epoll") != NULL);
}

PT_TEST(the_ring_where_it_works) {
    int rc;
    if (!ring_works()) {
        PT_SKIP("no io_uring here");
    }
    lines = 0;
    PT_STR_EQ(chosen("auto", "", &rc), "io_uring");
    PT_STR_EQ(chosen("auto", "without=newer-than-5.15", &rc), "io_uring");
    PT_EQ(lines, 0);
}

static int name_of_engine(void *arg) {
    *(const char **)arg = pica_runtime_engine(pica_current_runtime());
    return 0;
}

PT_TEST(a_program_can_ask) {
    const char *name = NULL;
    setenv("PICA_ENGINE", "epoll", 1);
    PT_EQ(pica_run(name_of_engine, &name), 0);
    PT_STR_EQ(name, "epoll");
}

PT_MAIN()
