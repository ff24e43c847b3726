/* Code addresses in words. */
#ifndef PICA__RUNTIME_BASE_SYMBOL_H
#define PICA__RUNTIME_BASE_SYMBOL_H

#include <stddef.h>

/* Writes "function+0x1a (module+0x4b1a)", or "module+0x4b1a" if no symbol is known, or the bare address; cut
 * at size, which is not 0. The symbol table of the module's file is asked first, since it knows static
 * functions too, and where it was stripped the dynamic symbols. Opens files and takes the dynamic linker's
 * locks: not in signal handlers. Any thread; does not suspend. */
void pica__symbol(const void *address, char *text, size_t size);

#endif
