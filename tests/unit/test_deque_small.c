/* A deque of four entries: full, empty and wrapping all the time. */
#define PICA__DEQUE_CAPACITY 4u
#include "tests/unit/deque_cases.h"

PT_MAIN()
