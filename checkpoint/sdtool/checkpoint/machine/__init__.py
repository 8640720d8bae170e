"""The inert pickle machine: what any loader would do with a stream, as data.

It keeps the real stack, marks and memo, imports nothing and calls nothing. Where CPython's C
unpickler, its Python unpickler and torch disagree, the Trace holds the union of what any of them
would run, an Anomaly says so, and the value is the C unpickler's (none, if that one fails).

Only names, calls, mutations and persistent ids are recorded.

    80 02             PROTO 2
    63 ... 0a ... 0a  GLOBAL 'collections OrderedDict'   -> Resolve
    29 52             EMPTY_TUPLE, REDUCE                -> Instance(OrderedDict, ())
    28 58 ... 75      MARK, keys and values, SETITEMS    -> Mutation, pairs of the Instance
    62                BUILD                              -> Mutation, states of the Instance
    2e                STOP

`loop.py` runs, `opcodes.py`, `names.py` and `text.py` have a `load_*` for each opcode that is not
in the loop, named as in Lib/pickle.py, `state.py` has what they share.

Source: CPython 3.11, Modules/_pickle.c (`load_*`, `_Unpickler_Read*`, `find_class`) and
Lib/pickle.py (`_Unpickler`, `_Unframer`); the opcodes in Lib/pickletools.py.
"""

from sdtool.checkpoint.machine.loop import run_pickle
from sdtool.checkpoint.machine.names import COMPUTED
from sdtool.checkpoint.machine.repeats import run_or_repeat
from sdtool.checkpoint.machine.state import Bounds

__all__ = ["COMPUTED", "Bounds", "run_or_repeat", "run_pickle"]
