/*
 * Datagrams in the simulator: sockets of UDP and of Unix in memory.
 *
 * UDP: a datagram under way may be lost, come twice or be overtaken (faults); it is dropped where the receiver has no
 * room, and a connected sender whose peer does not exist learns that with a later call. A sender has room for a few
 * that are under way. Unix: nothing is lost or overtaken, and the receiver's room is what a sender waits for; who
 * names the receiver in the call is not told when there is room. Multicast is not simulated.
 */
#ifndef PICA__RUNTIME_BASE_SIM_DATAGRAM_H
#define PICA__RUNTIME_BASE_SIM_DATAGRAM_H

#include "runtime/base/sim/net.h"

struct mmsghdr;

/* Makes a fresh socket one for datagrams. */
void pica__sim_datagram_init(pica__sim_file *file);
int pica__sim_datagram_connect(pica__sim_file *file, const struct sockaddr *address, unsigned length);
unsigned pica__sim_datagram_poll(const pica__sim_file *file);
void pica__sim_datagram_close(pica__sim_file *file);
/* All that is under way is dropped. */
void pica__sim_datagrams_end(void);

/* Never block. to: NULL: the peer. receive: the whole length, *flags gets MSG_TRUNC if that is more than size; from and
 * flags may be NULL. */
ssize_t pica__sim_datagram_send(pica__sim_file *file, const void *buffer, size_t size,
                                const struct sockaddr *to, unsigned length);
ssize_t pica__sim_datagram_receive(pica__sim_file *file, void *buffer, size_t size, pica_address *from,
                                   int *flags);

#endif
