/* Binding a socket to an address. See bind.c. */
#ifndef PICA__IO_BIND_H
#define PICA__IO_BIND_H

#include <pica/net.h>

/* 0, or as bind(2). A file of a Unix socket that nobody has open any more does not count as taken. */
int pica__bind(int fd, const pica_address *address);
/* What was bound just now is not to be: takes the file of a Unix socket away. Before the socket is closed. */
void pica__unbind(const pica_address *address);

#endif
