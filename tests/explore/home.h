/* The home loop's worker and its kernel, for operations and sockets.
 *
 * The worker runs commits of tasks that are at home (ex_at_home), delivers completions and makes the loop's
 * calls, in any order. The kernel completes operations: those that are cancelled, with success or not; others
 * when the scenario says so. There is one descriptor, with a byte count in each direction.
 *
 * Checked always: the descriptor is closed once, with nothing in flight, and not used after that. */
#ifndef PICA__TESTS_EXPLORE_HOME_H
#define PICA__TESTS_EXPLORE_HOME_H

#include "tests/explore/tasks.h"

enum { EX_FD = 7 };

/* In setup, after ex_runtime and the tasks: spontaneous operations (not polls) complete without being asked. */
void ex_home(pica_runtime *rt, unsigned spontaneous, int result);
/* By model threads: the peer sends, or reads, n bytes. */
void ex_peer_sends(int n);
void ex_peer_reads(int n);
/* In finish. */
unsigned ex_in_flight(void);
unsigned ex_succeeded(void); /* operations that are no polls */
bool ex_fd_closed(void);
int ex_unread(void);
/* In setup: bytes that can be sent before the kernel is full. */
void ex_room(int n);

#endif
