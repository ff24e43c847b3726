/* Claims: how a task becomes the one that sends, at its place between the writes of a stream.
 *
 * With nothing pending it takes FLUSHING at once. Else it appends a place to "waiting" and suspends; the flush
 * that comes to the place takes the claim out of it, under the writer's lock, and fires its wait: the task
 * then owns FLUSHING. When the connection is lost or aborted, whoever drops the place fires the wait with
 * the reason. A cancellation takes the claim out of the place, which stays in its list without meaning. Who
 * frees the place is thus always the writer, once it was appended.
 *
 * Lock order: the writer's lock, under which the task's word changes.
 */
#include "io/writer.h"

#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/compiler.h"
#include "runtime/task.h"

static void place_set(struct pica__chunk *place, struct pica__claim *claim) {
    memcpy(place->data, &claim, sizeof claim);
}

struct pica__claim *pica__claim_take(struct pica__chunk *place) {
    struct pica__claim *claim;
    memcpy(&claim, place->data, sizeof claim);
    if (claim != NULL) {
        claim->place = NULL;
    }
    return claim;
}

static struct pica__chunk *place_new(struct pica__claim *claim) {
    struct pica__chunk *place = pica__alloc(sizeof *place + sizeof claim);
    if (place != NULL) {
        *place = (struct pica__chunk){.next = NULL};
        place_set(place, claim);
    }
    return place;
}

static bool claim_withdraw(pica__wait *wait) {
    struct pica__claim *claim = PICA__CONTAINER_OF(wait, struct pica__claim, wait);
    struct pica_writer *writer = claim->writer;
    pica__lock(&writer->lock);
    bool linked = claim->place != NULL;
    if (linked) {
        place_set(claim->place, NULL);
        claim->place = NULL;
    }
    pica__unlock(&writer->lock);
    return linked;
}

static const struct pica__wait_ops claim_ops = {"writer", claim_withdraw};

/* Result 0: FLUSHING is free again. */
static bool claim_commit(pica__wait *wait) {
    struct pica__claim *claim = PICA__CONTAINER_OF(wait, struct pica__claim, wait);
    struct pica_writer *writer = claim->writer;
    bool waits = false;
    pica__lock(&writer->lock);
    uint32_t state = atomic_load_explicit(&writer->state, memory_order_relaxed);
    int rc = pica__writer_refusal(writer);
    wait->task->outcome = rc;
    if (rc == 0 && (state & PICA__WRITER_FLUSHING) != 0 && pica__wait_publish(wait)) {
        waits = true;
        claim->placed = true;
        if (writer->waiting.first == NULL) {
            writer->waiting.first = claim->place;
        } else {
            writer->waiting.last->next = claim->place;
        }
        writer->waiting.last = claim->place;
    }
    pica__unlock(&writer->lock);
    return waits;
}

/* Waits in line. 0: look again. */
static int claim_wait(struct pica_writer *writer, pica_task *task) {
    struct pica__claim claim = {.wait = {&claim_ops, task, NULL, 0}, .writer = writer};
    struct pica__chunk *place = place_new(&claim);
    if (place == NULL) {
        return -ENOMEM;
    }
    claim.place = place;
    int rc = pica__suspend(&claim.wait, claim_commit);
    if (!claim.placed) {
        pica__free(place, sizeof *place + sizeof(struct pica__claim *));
    }
    return rc;
}

int pica__writer_claim(struct pica_writer *writer, pica_task *task) {
    for (;;) {
        pica__lock(&writer->lock);
        uint32_t state = atomic_load_explicit(&writer->state, memory_order_relaxed);
        int rc = pica__writer_refusal(writer);
        bool flushing = (state & PICA__WRITER_FLUSHING) != 0;
        bool corked = !flushing && writer->waiting.first != NULL;
        if (rc == 0 && !flushing && !corked) {
            atomic_store_explicit(&writer->state, state | PICA__WRITER_FLUSHING, memory_order_release);
        }
        pica__unlock(&writer->lock);
        if (rc < 0 || (!flushing && !corked)) {
            return rc;
        }
        if (corked) {
            pica__writer_kick(writer);
            continue;
        }
        rc = claim_wait(writer, task);
        if (rc != 0) {
            return rc == PICA__CLAIM_GRANTED ? 0 : rc;
        }
    }
}
