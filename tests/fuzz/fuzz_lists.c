/* The containers under the scheduler, on one thread, each against the same model, an array: the deque
 * (runtime/deque.h, of eight entries, so that it is full and wraps), the linked list and the FIFO
 * (runtime/base/list.h), and the inbox (runtime/base/inbox.h). What does not fit into the deque goes where a worker
 * sends it: half of the deque, and then the new one, to a FIFO. */
#define PICA__DEQUE_CAPACITY 8u
#include "runtime/deque.h"

#include <string.h>

#include "runtime/base/inbox.h"
#include "runtime/base/list.h"
#include "tests/fuzz/fuzz.h"

enum { ITEMS = 64, STEPS = 2000 };

struct item {
    pica__link link;
    pica__fifo_node fifo;
    bool used; /* it is in one of the containers */
};

static struct item item[ITEMS];

/* The model: items by number, first one first. */
struct model {
    unsigned at[ITEMS];
    unsigned count;
};

static struct model in_deque, in_shared, in_list[2], in_fifo[2], in_inbox;
static pica__deque deque;
static pica__link list[2];
static pica__fifo fifo[2], shared;
static pica__inbox inbox;

static void add(struct model *m, unsigned place, unsigned number) {
    memmove(&m->at[place + 1], &m->at[place], (m->count - place) * sizeof m->at[0]);
    m->at[place] = number;
    m->count++;
}

static unsigned drop(struct model *m, unsigned place) {
    unsigned number = m->at[place];
    m->count--;
    memmove(&m->at[place], &m->at[place + 1], (m->count - place) * sizeof m->at[0]);
    return number;
}

/* Moves all of `from` behind `to`. */
static void append(struct model *to, struct model *from) {
    memcpy(&to->at[to->count], from->at, from->count * sizeof from->at[0]);
    to->count += from->count;
    from->count = 0;
}

static struct item *item_new(void) {
    for (unsigned i = 0; i < ITEMS; i++) {
        if (!item[i].used) {
            memset(&item[i], 0, sizeof item[i]);
            item[i].used = true;
            return &item[i];
        }
    }
    return NULL;
}

static unsigned number_of(const struct item *i) {
    return (unsigned)(i - item);
}

static void item_gone(unsigned number) {
    item[number].used = false;
}

static uintptr_t entry_of(unsigned number) {
    return (uintptr_t)(number + 1) * 2;
}

/* --- the deque and what overflows from it --- */

static size_t steal(size_t max) {
    uintptr_t out[PICA__DEQUE_CAPACITY];
    size_t n = pica__deque_steal(&deque, out, max);
    size_t half = in_deque.count - in_deque.count / 2;
    FUZZ_EQ(n, half < max ? half : max);
    for (size_t i = 0; i < n; i++) {
        FUZZ_EQ(out[i], entry_of(in_deque.at[0]));
        item_gone(drop(&in_deque, 0));
    }
    return n;
}

static void deque_push(struct item *i) {
    unsigned number = number_of(i);
    bool fits = pica__deque_push(&deque, entry_of(number));
    FUZZ_EQ(fits, in_deque.count < PICA__DEQUE_CAPACITY);
    if (fits) {
        add(&in_deque, in_deque.count, number);
        return;
    }
    uintptr_t out[PICA__DEQUE_CAPACITY];
    size_t n = pica__deque_steal(&deque, out, PICA__DEQUE_CAPACITY);
    FUZZ_EQ(n, PICA__DEQUE_CAPACITY / 2);
    for (size_t k = 0; k < n; k++) {
        unsigned moved = drop(&in_deque, 0);
        FUZZ_EQ(out[k], entry_of(moved));
        pica__fifo_push(&shared, &item[moved].fifo);
        add(&in_shared, in_shared.count, moved);
    }
    pica__fifo_push(&shared, &i->fifo);
    add(&in_shared, in_shared.count, number);
}

static void deque_step(struct script *s) {
    struct item *i;
    uintptr_t entry;
    switch (script_below(s, 5)) {
    case 0:
    case 1:
        if ((i = item_new()) != NULL) {
            deque_push(i);
        }
        break;
    case 2:
        entry = script_below(s, 2) == 0 ? pica__deque_take(&deque) : pica__deque_take_alone(&deque);
        FUZZ_EQ(entry, in_deque.count == 0 ? 0 : entry_of(in_deque.at[0]));
        if (entry != 0) {
            item_gone(drop(&in_deque, 0));
        }
        break;
    case 3:
        (void)steal(script_below(s, PICA__DEQUE_CAPACITY + 1));
        break;
    default: {
        pica__fifo_node *n = pica__fifo_pop(&shared);
        FUZZ_CHECK(n == (in_shared.count == 0 ? NULL : &item[in_shared.at[0]].fifo));
        if (n != NULL) {
            item_gone(drop(&in_shared, 0));
        }
    }
    }
    FUZZ_EQ(pica__deque_size(&deque), in_deque.count);
}

/* --- the list --- */

static void list_check(const pica__link *head, const struct model *m) {
    const pica__link *l = head;
    for (unsigned i = 0; i < m->count; i++) {
        FUZZ_CHECK(l->next == &item[m->at[i]].link && l->next->prev == l);
        l = l->next;
        FUZZ_CHECK(pica__link_linked(l));
    }
    FUZZ_CHECK(l->next == head && head->prev == l);
    FUZZ_EQ(pica__list_empty(head), m->count == 0);
    FUZZ_CHECK(pica__list_first(head) == (m->count == 0 ? NULL : &item[m->at[0]].link));
}

static void list_step(struct script *s) {
    unsigned which = script_below(s, 2);
    pica__link *head = &list[which];
    struct model *m = &in_list[which];
    struct item *i;
    switch (script_below(s, 5)) {
    case 0:
    case 1:
        if ((i = item_new()) != NULL) {
            FUZZ_CHECK(!pica__link_linked(&i->link));
            bool back = script_below(s, 2) == 0;
            (back ? pica__list_push_back : pica__list_push_front)(head, &i->link);
            add(m, back ? m->count : 0, number_of(i));
        }
        break;
    case 2:
        if (m->count > 0) {
            unsigned number = drop(m, script_below(s, m->count));
            pica__list_remove(&item[number].link);
            FUZZ_CHECK(!pica__link_linked(&item[number].link));
            item_gone(number);
        }
        break;
    case 3: {
        pica__link *first = pica__list_pop_front(head);
        FUZZ_CHECK(first == (m->count == 0 ? NULL : &item[m->at[0]].link));
        if (first != NULL) {
            item_gone(drop(m, 0));
        }
        break;
    }
    default:
        pica__list_splice(head, &list[!which]);
        append(m, &in_list[!which]);
    }
    list_check(&list[0], &in_list[0]);
    list_check(&list[1], &in_list[1]);
}

/* --- the FIFO and the inbox --- */

static void fifo_check(const pica__fifo *q, const struct model *m) {
    const pica__fifo_node *n = q->head;
    for (unsigned i = 0; i < m->count; i++) {
        FUZZ_CHECK(n == &item[m->at[i]].fifo && (n->next != NULL) == (i + 1 < m->count));
        FUZZ_CHECK(n->next != NULL || q->tail == n);
        n = n->next;
    }
    FUZZ_EQ(pica__fifo_empty(q), m->count == 0);
    FUZZ_CHECK(n == NULL && (m->count > 0 || q->tail == NULL));
}

static void fifo_step(struct script *s) {
    unsigned which = script_below(s, 2);
    pica__fifo *q = &fifo[which];
    struct model *m = &in_fifo[which];
    struct item *i;
    switch (script_below(s, 5)) {
    case 0:
        if ((i = item_new()) != NULL) {
            pica__fifo_push(q, &i->fifo);
            add(m, m->count, number_of(i));
        }
        break;
    case 1: {
        pica__fifo_node *n = pica__fifo_pop(q);
        FUZZ_CHECK(n == (m->count == 0 ? NULL : &item[m->at[0]].fifo));
        if (n != NULL) {
            FUZZ_CHECK(n->next == NULL);
            item_gone(drop(m, 0));
        }
        break;
    }
    case 2:
        pica__fifo_push_all(q, &fifo[!which]);
        append(m, &in_fifo[!which]);
        break;
    case 3:
        if ((i = item_new()) != NULL) {
            FUZZ_EQ(pica__inbox_push(&inbox, &i->fifo), in_inbox.count == 0);
            add(&in_inbox, in_inbox.count, number_of(i));
        }
        break;
    default:
        pica__fifo_push_chain(q, pica__inbox_take(&inbox));
        append(m, &in_inbox);
    }
    FUZZ_EQ(pica__inbox_empty(&inbox), in_inbox.count == 0);
    fifo_check(&fifo[0], &in_fifo[0]);
    fifo_check(&fifo[1], &in_fifo[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct script s = {data, size};
    memset(item, 0, sizeof item);
    in_deque.count = in_shared.count = in_inbox.count = 0;
    pica__deque_init(&deque);
    pica__fifo_init(&shared);
    pica__inbox_init(&inbox);
    for (unsigned i = 0; i < 2; i++) {
        in_list[i].count = in_fifo[i].count = 0;
        pica__list_init(&list[i]);
        pica__fifo_init(&fifo[i]);
    }
    for (unsigned steps = 0; !script_ended(&s) && steps < STEPS; steps++) {
        switch (script_below(&s, 3)) {
        case 0:
            deque_step(&s);
            break;
        case 1:
            list_step(&s);
            break;
        default:
            fifo_step(&s);
        }
    }
    return 0;
}
