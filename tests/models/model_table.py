"""What the external model checkers are asked: scenarios that must hold, and defects of each that must be found.

SPIN: name, model, environment of the verifier (the model says what it means), whether liveness is checked in the long
form ("always": in the short one, too, and defects may show there only), whether it belongs to the short form, promises,
and the defects: names of the model's own.

GenMC: name, file, macros, promises, and the defects: what to change in the library's sources. Each: name, file, what
stands there (exactly once) and what is to stand there, as pairs, and options for GenMC ("--imm": the memory model of
hardware, where a load may see a store that comes later; RC11, the usual one, excludes that).

Promises: the numbers of what a defect would break, and words.
"""

IDLE = ("1,3", "no lost wake-up, no work beside sleepers")

SPIN = [
    ("idle.alone", "idle.pml", {"WORKERS": 1, "SUBMITTERS": 1, "POSTERS": 1, "TOGETHER": 1}, True, True, IDLE,
     ["NO_FENCE_ENTER", "NO_FENCE_NOTIFY", "NO_FENCE_WAKE", "NO_RECHECK"]),
    ("idle.inbox", "idle.pml", {"WORKERS": 2, "POSTERS": 1, "TOGETHER": 1}, False, True, IDLE,
     ["NO_FENCE_ENTER", "NO_FENCE_WAKE", "NO_RECHECK"]),
    ("idle.shared", "idle.pml", {"WORKERS": 2, "SUBMITTERS": 1, "TOGETHER": 1}, False, False, IDLE,
     ["NO_FENCE_NOTIFY", "NO_RECHECK", "LIST_BEFORE_STATE", "NO_CHOSEN"]),
    ("idle.shared_two", "idle.pml", {"WORKERS": 2, "SUBMITTERS": 2, "TOGETHER": 2, "AT_ONCE": 1}, False, False, IDLE,
     ["NO_NEXT", "NO_SEARCH_ON"]),
    ("watch.chain", "watch.pml", {"WORKERS": 3, "CHAIN": 3}, "always", True,
     ("3,12", "work behind a stuck worker is taken over"),
     ["NO_WATCH", "NO_CALL", "NO_RELIEF", "KEEP_DUTY", "NO_LIFO", "NO_CHOSEN"]),
]

GENMC = []
