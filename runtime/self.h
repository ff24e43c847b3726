/* Who runs here: the calling thread's worker.
 *
 * A task may continue on another thread after any suspension, and compilers keep the ADDRESS of a
 * thread-local in a register or a stack slot across calls (neither noinline nor -fPIC prevents
 * it). So nobody outside this file touches the thread-local: the accessor loads its VALUE anew
 * each time, in an asm volatile with a memory clobber, which no compiler may reuse.
 */
#ifndef PICA__RUNTIME_SELF_H
#define PICA__RUNTIME_SELF_H

struct pica__worker;

/* NULL on threads that are no workers. Initial-exec: eight bytes of static thread storage. */
extern _Thread_local struct pica__worker *pica__tls_worker
    __attribute__((visibility("hidden"), tls_model("initial-exec")));

static inline struct pica__worker *pica__self(void) {
    struct pica__worker *worker;
#if defined(__x86_64__)
    __asm__ volatile("movq pica__tls_worker@gottpoff(%%rip), %0\n\t"
                     "movq %%fs:(%0), %0"
                     : "=r"(worker)
                     :
                     : "memory");
#elif defined(__aarch64__)
    void *offset;
    __asm__ volatile("adrp %1, :gottprel:pica__tls_worker\n\t"
                     "ldr %1, [%1, :gottprel_lo12:pica__tls_worker]\n\t"
                     "mrs %0, tpidr_el0\n\t"
                     "ldr %0, [%0, %1]"
                     : "=&r"(worker), "=&r"(offset)
                     :
                     : "memory");
#else
#error "this architecture has no accessor yet"
#endif
    return worker;
}

/* Makes worker the calling thread's; NULL when the thread leaves. */
void pica__self_set(struct pica__worker *worker);

#endif
