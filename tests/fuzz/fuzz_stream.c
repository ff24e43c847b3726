/* A pair of streams in the simulator: one end writes what the script says, in pieces and with pauses, and ends in one
 * of three ways; the other reads it, with calls that the script chooses. Against reader_model.h.
 *
 * Slower than fuzz_reader.c by far, but with all that is under the reader: sockets that take and give parts, and
 * readiness that comes late, as the simulation's seed has it. */
#include <pica.h>
#include <pica/testing.h>

#include "tests/fuzz/reader_model.h"

enum { STREAM_MAX = 16 << 10, PORT = 7001 };

static struct {
    struct script pieces, calls;
    size_t limit;
    unsigned end;
    char bytes[STREAM_MAX];
    size_t size;
    unsigned finished; /* tasks that came to their ends */
} world;

static bool excused(int rc) {
    return rc == PICA_ECANCELED;
}

/* The bytes, as they will be written. */
static void make_stream(struct script s) {
    world.size = 0;
    while (!script_ended(&s)) {
        struct script piece = script_part(&s, 1 + script_byte(&s) / 8);
        memcpy(world.bytes + world.size, piece.data, piece.size);
        world.size += piece.size;
    }
}

static void write_pieces(pica_writer *writer) {
    struct script s = world.pieces;
    size_t at = 0;
    while (!script_ended(&s)) {
        unsigned what = script_byte(&s);
        struct script piece = script_part(&s, 1 + what / 8);
        FUZZ_EQ(pica_writer_write(writer, world.bytes + at, piece.size), 0);
        at += piece.size;
        if (what % 8 == 1) {
            FUZZ_EQ(pica_yield(), 0);
        } else if (what % 8 == 2) {
            FUZZ_EQ(pica_sleep(0.001), 0);
        } else if (what % 8 == 3) {
            FUZZ_EQ(pica_writer_drain(writer), 0);
        }
    }
    FUZZ_EQ(at, world.size);
}

static int serve(pica_reader *reader, pica_writer *writer, void *arg) {
    (void)reader;
    (void)arg;
    write_pieces(writer);
    if (world.end == 1) {
        FUZZ_EQ(pica_writer_write_eof(writer), 0);
        FUZZ_EQ(pica_sleep(0.1), 0);
    }
    world.finished++;
    return 0; /* which closes it */
}

/* One call, perhaps with little time: a call that was cut off has taken nothing but what it tells. */
static void call(struct reader_model *m, struct script *s) {
    pica_timeout timeout;
    unsigned limit = script_below(s, 8);
    FUZZ_EQ(pica_timeout_enter(&timeout, limit == 1 ? 0.0 : limit == 2 ? 0.0005 : PICA_FOREVER), 0);
    model_step(m, s);
    FUZZ_EQ(pica_timeout_exit(&timeout, 0), 0);
    model_check(m);
}

static int amain(void *arg) {
    pica_server *server = NULL;
    pica_writer *writer = NULL;
    struct reader_model m = {
        .limit = world.limit, .bytes = world.bytes, .total = world.size, .excused = excused};
    (void)arg;
    FUZZ_EQ(pica_start_server(&server, "127.0.0.1", PORT, serve, NULL, NULL), 0);
    FUZZ_EQ(pica_open_connection("127.0.0.1", PORT, world.limit, &m.reader, &writer), 0);
    for (struct script s = world.calls; !script_ended(&s);) {
        call(&m, &s);
    }
    model_finish(&m);
    FUZZ_EQ(m.taken, m.total);
    pica_writer_close(writer);
    FUZZ_EQ(pica_writer_wait_closed(writer), 0);
    pica_writer_release(writer);
    pica_server_close(server);
    FUZZ_EQ(pica_server_wait_closed(server), 0);
    pica_server_release(server);
    world.finished++;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t limits[] = {1, 2, 5, 64, 4096, 64 << 10};
    struct script s = {data, size < STREAM_MAX ? size : STREAM_MAX};
    struct pica_sim_options options = PICA_SIM_OPTIONS_INIT;
    options.faults = -1;
    options.storm = -1;
    options.check = -1;
    unsigned seed = script_below(&s, 256);
    options.workers = 1 + script_below(&s, 2);
    world.end = script_below(&s, 2);
    world.limit = limits[script_below(&s, sizeof limits / sizeof limits[0])];
    world.pieces = script_part(&s, script_below(&s, 65536));
    world.calls = s;
    world.finished = 0;
    make_stream(world.pieces);
    fuzz_quiet();
    FUZZ_EQ(pica_sim_run(seed, &options, amain, NULL), 0);
    FUZZ_EQ(world.finished, 2);
    return 0;
}
