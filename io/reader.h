/*
 * The reading half of a stream: see reader.c. It lies inside a pica__stream and is never alone.
 */
#ifndef PICA__IO_READER_H
#define PICA__IO_READER_H

#include <stdbool.h>
#include <stddef.h>

#include <pica/stream.h>

struct pica_reader {
    /*
     * Who uses the reader stands in the socket's use word: READING while a task is in a read call,
     * RELEASED once the pair was given back; whoever of the two comes last drops the caller's
     * reference. Entering and leaving are partners: one reading task sees what the one before it
     * wrote to the fields below.
     */
    int error; /* what ended receiving, 0 as long as nothing did */
    bool bulk; /* the last receive brought more than a block holds */
    bool eof;  /* the peer has ended; what is buffered can still be read */

    /* The bytes from begin to end of buffer are unread. buffer is NULL while capacity is 0. */
    char *buffer;
    size_t capacity;
    size_t begin;
    size_t end;

    size_t turn; /* bytes received since the reading task last waited or yielded in here */
    size_t limit;
};

void pica__reader_init(struct pica_reader *reader, size_t limit);
/* Frees the buffer. Nobody may be reading. */
void pica__reader_destroy(struct pica_reader *reader);
/* The caller gives its reference to the pair away: dropped now, or by the read that is under way. */
void pica__reader_release(struct pica_reader *reader);

#endif
