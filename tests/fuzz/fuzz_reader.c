/* The reader (io/reader.c) over a socket that is a script: bytes come in pieces of any size, with waits between
 * them, cancellations, shortages of memory, a close, and one of three ends. Against reader_model.h.
 *
 * The reader is compiled in, and the functions around it are the script's. So a case takes microseconds, and what
 * the reader allocates has its exact size for AddressSanitizer. */
#include "io/reader.c"

#include "tests/fuzz/reader_model.h"

enum { STREAM_MAX = 160 << 10, PIECES_MAX = 64, SCRATCH = 8192 };

/* What happens behind a piece. */
enum { NOTHING, WAIT, WAIT_UNTRIED, CANCEL, NO_MEMORY, CLOSE, NO_BUFFERS, EVENTS };

static struct pica_socket sock;
static struct pica__stream stream;
static struct reader_model model;

static struct {
    char bytes[STREAM_MAX];
    struct {
        size_t end; /* in bytes */
        int event;
    } piece[PIECES_MAX];
    size_t pieces, piece_now;
    size_t came;
    bool end_by_writer; /* receive says 0, and the writer knows why */
    bool lost;          /* the writer was told of an error */
    bool reading, closed_at_entry;
    bool cancel_next;  /* the next checkpoint is cancelled */
    unsigned short_in; /* the n-th allocation from now on fails; 0: none */
    int excuse[4];     /* what calls may have failed with, 0: nothing */
    size_t allocated, blocks, scratches;
    char *scratch;
} world;

static void excuse(int rc) {
    unsigned i = 0;
    while (world.excuse[i] != 0 && world.excuse[i] != rc) {
        i++;
    }
    world.excuse[i] = rc;
}

static bool excused(int rc) {
    for (unsigned i = 0; i < sizeof world.excuse / sizeof world.excuse[0]; i++) {
        if (world.excuse[i] == rc) {
            return true;
        }
    }
    return rc == PICA_ECLOSED && pica__writer_closing(&stream.writer);
}

static size_t came(void) {
    return world.came;
}

/* --- memory --- */

static bool short_of_memory(void) {
    if (world.short_in == 0 || --world.short_in != 0) {
        return false;
    }
    excuse(-ENOMEM);
    return true;
}

void *pica__alloc(size_t size) {
    if (short_of_memory()) {
        return NULL;
    }
    world.allocated += size;
    return malloc(size);
}

void pica__free(void *p, size_t size) {
    world.allocated -= p != NULL ? size : 0;
    free(p);
}

void *pica__block_get(void) {
    if (short_of_memory()) {
        return NULL;
    }
    world.blocks++;
    return malloc(PICA__BLOCK_SIZE);
}

void pica__block_put(void *block) {
    world.blocks--;
    free(block);
}

void *pica__scratch(size_t *size) {
    *size = SCRATCH;
    if (short_of_memory()) {
        return NULL;
    }
    FUZZ_CHECK(world.scratch == NULL);
    world.scratch = malloc(SCRATCH); /* a new one each time: nobody may look into an old one */
    return world.scratch;
}

void pica__scratch_done(void *scratch) {
    FUZZ_CHECK(world.scratch == scratch);
    free(scratch);
    world.scratch = NULL;
}

/* --- the socket, the writer and the task --- */

int pica__socket_read_begin(pica_socket *socket) {
    FUZZ_CHECK(socket == &sock && !world.reading);
    world.reading = true;
    atomic_fetch_or(&sock.use, (uint32_t)PICA__SOCKET_READING);
    world.closed_at_entry = pica__writer_closing(&stream.writer);
    return 0;
}

bool pica__socket_read_end(pica_socket *socket) {
    FUZZ_CHECK(socket == &sock && world.reading && world.scratch == NULL);
    world.reading = false;
    atomic_fetch_and(&sock.use, ~(uint32_t)PICA__SOCKET_READING);
    return false;
}

bool pica__socket_read_release(pica_socket *socket) {
    (void)socket;
    return false;
}

void pica__stream_unref(struct pica__stream *of) {
    (void)of;
}

/* The event behind the piece that has been received whole is what the next receive meets. */
static int event_now(void) {
    if (world.piece_now < world.pieces && world.came == world.piece[world.piece_now].end) {
        return world.piece[world.piece_now++].event;
    }
    return NOTHING;
}

static void may_recv(bool may) {
    atomic_store(&sock.rd.state, may ? PICA__SIDE_READY : 0u);
}

ssize_t pica__socket_recv_begun(pica_socket *socket, void *buffer, size_t size) {
    FUZZ_CHECK(socket == &sock && world.reading && !world.closed_at_entry && size != 0);
    FUZZ_CHECK(size <= PICA__SOCKET_TURN);
    int event = event_now();
    switch (event) {
    case NOTHING:
        break;
    case NO_BUFFERS:
        excuse(-ENOBUFS);
        return -ENOBUFS;
    case NO_MEMORY:
        world.short_in = 1;
        break;
    default:
        world.piece_now--; /* the wait meets it again */
        return -EAGAIN;
    }
    size_t left =
        world.piece_now < world.pieces ? world.piece[world.piece_now].end - world.came : 0;
    if (world.came == model.total) {
        return world.end_by_writer ? 0 : model.end;
    }
    size_t n = size < left ? size : left;
    memcpy(buffer, world.bytes + world.came, n);
    world.came += n;
    bool next = world.piece_now < world.pieces && world.came == world.piece[world.piece_now].end &&
                world.piece[world.piece_now].event == WAIT_UNTRIED;
    may_recv(!next);
    return (ssize_t)n;
}

int pica__socket_wait_begun(pica_socket *socket) {
    FUZZ_CHECK(socket == &sock && world.reading && world.scratch == NULL);
    may_recv(true);
    switch (event_now()) {
    case CANCEL:
        excuse(PICA_ECANCELED);
        return PICA_ECANCELED;
    case CLOSE:
        atomic_fetch_or(&stream.writer.state, (uint32_t)PICA__WRITER_CLOSING);
        return 0;
    case WAIT:
    case WAIT_UNTRIED:
        return 0;
    default:
        FUZZ_FAIL("a wait while there are bytes");
    }
}

int pica__socket_wait_ahead(pica_socket *socket, pica__ahead_fn receive, void *arg, bool *received) {
    int rc = pica__socket_wait_begun(socket);
    *received = rc == 0;
    return rc == 0 ? receive(arg) : rc;
}

int pica_checkpoint(void) {
    bool cancelled = world.cancel_next;
    world.cancel_next = false;
    if (cancelled) {
        excuse(PICA_ECANCELED);
    }
    return cancelled ? PICA_ECANCELED : 0;
}

int pica__yield_turn(void) {
    FUZZ_CHECK(world.scratch == NULL);
    return pica_checkpoint();
}

int pica__writer_error(struct pica_writer *writer) {
    FUZZ_CHECK(writer == &stream.writer);
    return world.end_by_writer ? model.end : 0;
}

void pica__writer_lost(struct pica_writer *writer, int error) {
    FUZZ_CHECK(writer == &stream.writer && error == model.end && !world.lost);
    world.lost = true;
}

/* --- the script --- */

/* Pieces: a few bytes that stand in the script, or many equal ones. */
static void make_stream(struct script *s) {
    static const unsigned many[] = {300, 3000, 20000, 65536};
    size_t size = 0;
    world.pieces = 0;
    while (!script_ended(s) && world.pieces < PIECES_MAX) {
        unsigned what = script_byte(s);
        size_t n = 1 + what / 16;
        if (what / 16 == 15) {
            n = 1 + script_below(s, many[script_below(s, 4)]);
            n = n < STREAM_MAX - size ? n : STREAM_MAX - size;
            memset(world.bytes + size, script_byte(s), n);
        } else {
            struct script bytes = script_part(s, n);
            n = bytes.size < STREAM_MAX - size ? bytes.size : STREAM_MAX - size;
            memcpy(world.bytes + size, bytes.data, n);
        }
        if (n == 0) {
            break;
        }
        size += n;
        world.piece[world.pieces].end = size;
        world.piece[world.pieces++].event = (int)(what % 16 < EVENTS ? what % 16 : NOTHING);
    }
    model.total = size;
}

static void begin(struct script *s) {
    static const size_t limits[] = {1, 2, 5, 64, 4096, 64 << 10};
    memset(&sock, 0, sizeof sock);
    memset(&stream, 0, sizeof stream);
    memset(&model, 0, sizeof model);
    world.piece_now = world.came = 0;
    world.lost = world.reading = world.cancel_next = false;
    world.short_in = 0;
    memset(world.excuse, 0, sizeof world.excuse);
    stream.socket = &sock;
    unsigned end = script_below(s, 3);
    model =
        (struct reader_model){.reader = &stream.reader,
                              .limit = limits[script_below(s, sizeof limits / sizeof limits[0])],
                              .bytes = world.bytes,
                              .end = end == 0   ? 0
                                     : end == 1 ? -ECONNRESET
                                                : -EPIPE,
                              .excused = excused,
                              .came = came};
    world.end_by_writer = end == 2;
    pica__reader_init(&stream.reader, model.limit);
    struct script bytes = script_part(s, script_below(s, 65536));
    make_stream(&bytes);
    may_recv(true);
}

/* What was received and could not be kept is lost: then the stream ends behind what is buffered. */
static void settle_loss(void) {
    if (stream.reader.error == -ENOMEM && model.end != -ENOMEM) {
        model.total = world.came = model.taken + model_buffered(&model);
        model.end = -ENOMEM;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct script s = {data, size};
    begin(&s);
    for (int steps = 0; !script_ended(&s) && steps < 200; steps++) {
        memset(world.excuse, 0, sizeof world.excuse);
        unsigned extra = script_below(&s, 16);
        world.cancel_next = extra == 1;
        world.short_in = extra == 2 ? 1 + script_below(&s, 3) : 0;
        model_step(&model, &s);
        world.short_in = 0;
        settle_loss();
        model_check(&model);
    }
    /* What is left comes, when nothing is in the way any more. */
    for (size_t i = world.piece_now; i < world.pieces; i++) {
        world.piece[i].event = WAIT;
    }
    world.cancel_next = false;
    memset(world.excuse, 0, sizeof world.excuse);
    if (!pica__writer_closing(&stream.writer)) {
        model_finish(&model);
        FUZZ_EQ(model.taken, model.total);
    }
    pica__reader_destroy(&stream.reader);
    FUZZ_CHECK(world.allocated == 0 && world.blocks == 0 && world.scratch == NULL);
    return 0;
}
