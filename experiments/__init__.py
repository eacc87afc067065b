"""One readable script a method: python -m experiments.edm digits.

Python's garbage collector runs rarely from here on: imports and tracing make
many objects, and little garbage.
"""

import gc

gc.set_threshold(100_000, 20, 100)
