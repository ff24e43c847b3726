/* What the compiler calls for each access in code that was built with -fsanitize=thread: the interface of its
 * run-time library (tsan_interface_atomic.h), with the explorer behind it. This file itself is not built so. */
#include <string.h>

#include "tests/explore/model.h"

#define CALLER __builtin_return_address(0)

/* --- plain accesses --- */

void __tsan_init(void);
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);

void __tsan_init(void) {
}
void __tsan_func_entry(void *pc) {
    (void)pc;
}
void __tsan_func_exit(void) {
}

static void plain(const void *address, size_t size, unsigned how) {
    if (ex_run.running != NULL) {
        ex_access(address, size, how);
    }
}

#define PLAIN(name, size, how)          \
    void __tsan_##name(void *address);  \
    void __tsan_##name(void *address) { \
        plain(address, size, how);      \
    }
#define SIZES(size)                                      \
    PLAIN(read##size, size, 0)                           \
    PLAIN(write##size, size, EX_WRITES)                  \
    PLAIN(unaligned_read##size, size, 0)                 \
    PLAIN(unaligned_write##size, size, EX_WRITES)        \
    PLAIN(volatile_read##size, size, 0)                  \
    PLAIN(volatile_write##size, size, EX_WRITES)         \
    PLAIN(read##size##_pc, size, 0)                      \
    PLAIN(write##size##_pc, size, EX_WRITES)             \
    PLAIN(read_write##size, size, EX_WRITES)             \
    PLAIN(unaligned_read_write##size, size, EX_WRITES)
SIZES(1)
SIZES(2)
SIZES(4)
SIZES(8)
SIZES(16)

void __tsan_read_range(void *address, unsigned long size);
void __tsan_write_range(void *address, unsigned long size);
void *__tsan_memcpy(void *to, const void *from, size_t size);
void *__tsan_memset(void *to, int byte, size_t size);
void *__tsan_memmove(void *to, const void *from, size_t size);

void __tsan_read_range(void *address, unsigned long size) {
    plain(address, size, 0);
}
void __tsan_write_range(void *address, unsigned long size) {
    plain(address, size, EX_WRITES);
}
void *__tsan_memcpy(void *to, const void *from, size_t size) {
    plain(from, size, 0);
    plain(to, size, EX_WRITES);
    return memcpy(to, from, size);
}
void *__tsan_memmove(void *to, const void *from, size_t size) {
    plain(from, size, 0);
    plain(to, size, EX_WRITES);
    return memmove(to, from, size);
}
void *__tsan_memset(void *to, int byte, size_t size) {
    plain(to, size, EX_WRITES);
    return memset(to, byte, size);
}

/* --- atomic operations --- */

static uint64_t change_exchange(uint64_t old, uint64_t by) {
    (void)old;
    return by;
}
static uint64_t change_add(uint64_t old, uint64_t by) {
    return old + by;
}
static uint64_t change_sub(uint64_t old, uint64_t by) {
    return old - by;
}
static uint64_t change_and(uint64_t old, uint64_t by) {
    return old & by;
}
static uint64_t change_or(uint64_t old, uint64_t by) {
    return old | by;
}
static uint64_t change_xor(uint64_t old, uint64_t by) {
    return old ^ by;
}

#define RMW(bits, type, name, change)                                                         \
    type __tsan_atomic##bits##_##name(volatile type *address, type value, int order);         \
    type __tsan_atomic##bits##_##name(volatile type *address, type value, int order) {        \
        order = ex_site(CALLER, EX_RMW, order, -1, NULL);                                     \
        return (type)ex_rmw((void *)(uintptr_t)address, sizeof(type), change, value, order);  \
    }

static bool cas(void *address, unsigned size, uint64_t *expected, uint64_t value, int order, int failure,
                const void *pc) {
    order = ex_site(pc, EX_RMW, order, failure, &failure);
    return ex_cas(address, size, expected, value, order, failure);
}

#define CAS(bits, type, name)                                                                        \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *address, type *expected,        \
                                                      type value, int order, int failure);           \
    int __tsan_atomic##bits##_compare_exchange_##name(volatile type *address, type *expected,        \
                                                      type value, int order, int failure) {          \
        uint64_t old = *expected;                                                                    \
        bool done = cas((void *)(uintptr_t)address, sizeof(type), &old, value, order, failure,       \
                        CALLER);                                                                     \
        *expected = (type)old;                                                                       \
        return done;                                                                                 \
    }

#define ATOMIC(bits, type)                                                                           \
    type __tsan_atomic##bits##_load(const volatile type *address, int order);                        \
    type __tsan_atomic##bits##_load(const volatile type *address, int order) {                       \
        order = ex_site(CALLER, EX_LOAD, order, -1, NULL);                                           \
        return (type)ex_load((const void *)(uintptr_t)address, sizeof(type), order);                 \
    }                                                                                                \
    void __tsan_atomic##bits##_store(volatile type *address, type value, int order);                 \
    void __tsan_atomic##bits##_store(volatile type *address, type value, int order) {                \
        order = ex_site(CALLER, EX_STORE, order, -1, NULL);                                          \
        ex_store((void *)(uintptr_t)address, sizeof(type), value, order);                            \
    }                                                                                                \
    RMW(bits, type, exchange, change_exchange)                                                       \
    RMW(bits, type, fetch_add, change_add)                                                           \
    RMW(bits, type, fetch_sub, change_sub)                                                           \
    RMW(bits, type, fetch_and, change_and)                                                           \
    RMW(bits, type, fetch_or, change_or)                                                             \
    RMW(bits, type, fetch_xor, change_xor)                                                           \
    CAS(bits, type, strong)                                                                          \
    CAS(bits, type, weak)                                                                            \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *address, type expected,           \
                                                    type value, int order, int failure);             \
    type __tsan_atomic##bits##_compare_exchange_val(volatile type *address, type expected,           \
                                                    type value, int order, int failure) {            \
        uint64_t old = expected;                                                                     \
        (void)cas((void *)(uintptr_t)address, sizeof(type), &old, value, order, failure, CALLER);    \
        return (type)old;                                                                            \
    }

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

void __tsan_atomic_thread_fence(int order);
void __tsan_atomic_signal_fence(int order);

void __tsan_atomic_thread_fence(int order) {
    order = ex_site(CALLER, EX_FENCE, order, -1, NULL);
    if (order >= 0) {
        ex_fence(order);
    }
}
void __tsan_atomic_signal_fence(int order) {
    (void)order;
}
