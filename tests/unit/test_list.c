/*
 * Intrusive lists and queues.
 */
#include "runtime/base/compiler.h"
#include "runtime/base/list.h"
#include "tests/support/pt.h"

/* The list holds exactly items[0..n) in this order, forwards and backwards. */
static void expect_list(const pica__link *head, pica__link *const *items, size_t n) {
    const pica__link *forward = head->next, *backward = head->prev;
    for (size_t i = 0; i < n; i++) {
        PT_CHECK(forward == items[i]);
        PT_CHECK(backward == items[n - 1 - i]);
        PT_CHECK(pica__link_linked(items[i]));
        forward = forward->next;
        backward = backward->prev;
    }
    PT_CHECK(forward == head && backward == head);
    PT_EQ(pica__list_empty(head), n == 0);
}

#define EXPECT_LIST(head, ...)                            \
    expect_list(head, (pica__link *const[]){__VA_ARGS__}, \
                sizeof((pica__link *const[]){__VA_ARGS__}) / sizeof(pica__link *))

PT_TEST(push_remove_pop) {
    pica__link head, a = {0}, b, c;
    pica__list_init(&head);
    pica__list_init(&b);
    pica__list_init(&c);
    expect_list(&head, NULL, 0);
    PT_CHECK(!pica__link_linked(&a));
    PT_CHECK(!pica__link_linked(&b));
    PT_CHECK(pica__list_first(&head) == NULL);
    PT_CHECK(pica__list_pop_front(&head) == NULL);
    pica__list_push_back(&head, &b);
    pica__list_push_back(&head, &c);
    pica__list_push_front(&head, &a);
    EXPECT_LIST(&head, &a, &b, &c);
    pica__list_remove(&b);
    PT_CHECK(!pica__link_linked(&b));
    EXPECT_LIST(&head, &a, &c);
    PT_CHECK(pica__list_first(&head) == &a);
    PT_CHECK(pica__list_pop_front(&head) == &a);
    PT_CHECK(!pica__link_linked(&a));
    PT_CHECK(pica__list_pop_front(&head) == &c);
    expect_list(&head, NULL, 0);
}

PT_TEST(splice) {
    pica__link to, from, a, b, c;
    pica__list_init(&to);
    pica__list_init(&from);
    pica__list_splice(&to, &from);
    expect_list(&to, NULL, 0);
    pica__list_push_back(&from, &a);
    pica__list_push_back(&from, &b);
    pica__list_splice(&to, &from);
    EXPECT_LIST(&to, &a, &b);
    expect_list(&from, NULL, 0);
    pica__list_push_back(&from, &c);
    pica__list_splice(&to, &from);
    EXPECT_LIST(&to, &a, &b, &c);
    pica__list_splice(&to, &from);
    EXPECT_LIST(&to, &a, &b, &c);
}

PT_TEST(fifo) {
    pica__fifo q = {0}, other;
    pica__fifo_node a, b, c;
    pica__fifo_init(&other);
    PT_CHECK(pica__fifo_empty(&q) && pica__fifo_pop(&q) == NULL);
    pica__fifo_push(&q, &a);
    pica__fifo_push(&q, &b);
    PT_CHECK(pica__fifo_pop(&q) == &a && a.next == NULL);
    pica__fifo_push_all(&other, &q); /* into an empty one */
    PT_CHECK(pica__fifo_empty(&q));
    pica__fifo_push(&q, &a);
    pica__fifo_push(&q, &c);
    pica__fifo_push_all(&other, &q); /* behind others */
    pica__fifo_push_all(&other, &q); /* nothing */
    PT_CHECK(pica__fifo_pop(&other) == &b);
    PT_CHECK(pica__fifo_pop(&other) == &a);
    pica__fifo_push(&other, &b);
    PT_CHECK(pica__fifo_pop(&other) == &c);
    PT_CHECK(pica__fifo_pop(&other) == &b);
    PT_CHECK(pica__fifo_pop(&other) == NULL && pica__fifo_empty(&other));
    PT_CHECK(other.tail == NULL);
}

PT_TEST(container) {
    struct outer {
        int before;
        pica__link link;
    } o = {0};
    PT_CHECK(PICA__CONTAINER_OF(&o.link, struct outer, link) == &o);
}

PT_MAIN()
