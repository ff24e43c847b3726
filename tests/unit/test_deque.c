/* The deque as the workers have it. */
#include "tests/unit/deque_cases.h"

PT_MAIN()
