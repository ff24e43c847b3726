/* Looking names up, for those who connect and listen by name. */
#ifndef PICA__IO_NAMES_H
#define PICA__IO_NAMES_H

#include <pica/names.h>

/* The stream addresses of host, with the port in each, as pica_getaddrinfo finds them: suspends, in a task. flags:
 * AI_... An error but PICA_ECANCELED leaves an error object with the task. *list is the caller's. */
int pica__look_up(pica_addrinfo **list, const char *host, unsigned port, int flags);

#endif
