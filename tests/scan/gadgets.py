"""Calls that leave a trace on the disk: each a module, a name and the arguments that do it.

All of them run when a pickle is loaded, and what they do is harmless: an empty file or folder
called `MARKER` in the working folder. Few of them stand on anybody's deny list, which is the point:
a scanner that knows bad names instead of good ones lets the others through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.forge import Ops, build, call, name, newobj, obj, pickled

MARKER = "sdtool-marker"
PYTHON = f"open('{MARKER}', 'w').close()"
SHELL = f"echo > {MARKER}"
TOUCH = ["touch", MARKER]


@dataclass(frozen=True)
class Gadget:
    """One call. `until` is the last minor version of CPython 3 that has it."""

    module: str
    name: str
    args: tuple[Any, ...]
    until: int = 99
    known: bool = False
    """Whether the scanner must know what it does, rather than not know the name."""
    torch: bool = False
    """Whether only a process that has torch (and so numpy) can run it."""

    @property
    def id(self) -> str:
        return f"{self.module}.{self.name}"


def g(module: str, name: str, *args: Any, until: int = 99, torch: bool = False) -> Gadget:
    return Gadget(module, name, args, until, torch=torch)


def k(module: str, name: str, *args: Any, until: int = 99, torch: bool = False) -> Gadget:
    return Gadget(module, name, args, until, known=True, torch=torch)


OS = name("shutil", "os")
"""The module `os` itself, as an attribute of another one."""
MKDIR = name("os", "mkdir")


def attribute(target: Any, attribute_name: str) -> Ops:
    """getattr."""
    return call(name("builtins", "getattr"), target, attribute_name)


NESTED = pickled(call(MKDIR, MARKER))

DIRECT: tuple[Gadget, ...] = (
    # runs Python
    k("builtins", "eval", PYTHON),
    k("builtins", "exec", PYTHON),
    k("timeit", "timeit", "pass", PYTHON, name("time", "time"), 1),
    k("timeit", "repeat", "pass", PYTHON, name("time", "time"), 1, 1),
    k("timeit", "main", ["-n", "1", "-r", "1", PYTHON]),
    k("cProfile", "run", PYTHON),
    k("cProfile", "runctx", PYTHON, {}, {}),
    k("profile", "run", PYTHON),
    k("profile", "runctx", PYTHON, {}, {}),
    k("runpy", "_run_code", PYTHON, {}),
    g("dataclasses", "_create_fn", "f", [f"x=open('{MARKER}','w')"], ["pass"], until=12),
    g("typing", "_eval_type", call(name("typing", "ForwardRef"), PYTHON), {}, {}, until=12),
    k("numpy.f2py.crackfortran", "myeval", PYTHON, torch=True),
    k("numpy.testing._private.utils", "runstring", PYTHON, {}, torch=True),
    k("numpy.testing", "runstring", PYTHON, {}, torch=True),
    k("torch.fx.graph_module", "_exec_with_source", PYTHON, {}, torch=True),
    k("torch.fx.graph_module", "_forward_from_src", PYTHON + "\nforward = 1", {}, torch=True),
    k("torch.fx.graph_module", "_method_from_src", "f", PYTHON + "\nf = 1", {}, torch=True),
    # runs programs
    k("os", "system", SHELL),
    k("posix", "system", SHELL),
    k("os", "popen", SHELL),
    k("os", "spawnlp", 0, "touch", *TOUCH),
    k("os", "spawnvp", 0, "touch", TOUCH),
    k("os", "posix_spawn", "/usr/bin/touch", TOUCH, {}),
    k("posix", "posix_spawn", "/usr/bin/touch", TOUCH, {}),
    k("subprocess", "Popen", TOUCH),
    k("subprocess", "run", TOUCH),
    k("subprocess", "call", TOUCH),
    k("subprocess", "check_call", TOUCH),
    k("subprocess", "check_output", TOUCH),
    k("subprocess", "getoutput", SHELL),
    k("subprocess", "getstatusoutput", SHELL),
    k("pty", "spawn", TOUCH),
    k("pydoc", "pipepager", "x", f"touch {MARKER}"),
    k("pydoc", "tempfilepager", "x", f"touch {MARKER}; true"),
    k("imaplib", "IMAP4_stream", f"touch {MARKER}"),
    k("uuid", "_get_command_stdout", "touch", MARKER),
    k("_osx_support", "_read_output", f"touch {MARKER}"),
    k("distutils.spawn", "spawn", TOUCH, until=11),
    k(
        "mailcap",
        "findmatch",
        {"x/y": [{"view": "true", "test": f"touch {MARKER}"}]},
        "x/y",
        until=12,
    ),
    k("torch.utils.collect_env", "run", f"touch {MARKER}", torch=True),
    k("torch.utils.collect_env", "run_and_read_all", name("subprocess", "getstatusoutput"), SHELL,
      torch=True),
    g("multiprocessing.util", "spawnv_passfds", b"/usr/bin/touch", TOUCH, []),
    # opens files
    k("builtins", "open", MARKER, "w"),
    k("io", "open", MARKER, "w"),
    k("_io", "open", MARKER, "w"),
    k("_pyio", "open", MARKER, "w"),
    k("io", "FileIO", MARKER, "w"),
    k("_io", "FileIO", MARKER, "w"),
    k("_pyio", "FileIO", MARKER, "w"),
    k("codecs", "open", MARKER, "w"),
    k("os", "open", MARKER, 0o102),
    k("posix", "open", MARKER, 0o102),
    k("os", "fdopen", call(name("os", "open"), MARKER, 0o102), "w"),
    k("gzip", "open", MARKER, "w"),
    k("gzip", "GzipFile", MARKER, "w"),
    k("bz2", "open", MARKER, "w"),
    k("bz2", "BZ2File", MARKER, "w"),
    k("lzma", "open", MARKER, "w"),
    k("lzma", "LZMAFile", MARKER, "w"),
    k("zipfile", "ZipFile", MARKER, "w"),
    k("zipfile", "PyZipFile", MARKER, "w"),
    k("tarfile", "open", MARKER, "w"),
    k("tarfile", "TarFile", MARKER, "w"),
    k("shelve", "open", MARKER),
    k("shelve", "DbfilenameShelf", MARKER),
    k("dbm.dumb", "open", MARKER, "c"),
    k("sqlite3", "connect", MARKER),
    k("_sqlite3", "connect", MARKER),
    k("sqlite3", "Connection", MARKER),
    k("logging", "FileHandler", MARKER),
    k("logging.handlers", "RotatingFileHandler", MARKER),
    k("logging.handlers", "TimedRotatingFileHandler", MARKER),
    k("logging.handlers", "WatchedFileHandler", MARKER),
    k("mailbox", "mbox", MARKER),
    k("mailbox", "MMDF", MARKER),
    k("mailbox", "Babyl", MARKER),
    k("mailbox", "MH", MARKER),
    k("mailbox", "Maildir", MARKER),
    k("tempfile", "mkdtemp", "", MARKER, "."),
    k("tempfile", "mkstemp", "", MARKER, "."),
    k("tempfile", "_mkstemp_inner", ".", MARKER, "", 0o102, name("builtins", "str"), until=11),
    k("wave", "open", MARKER, "wb"),
    k("aifc", "open", MARKER, "wb", until=12),
    k("sunau", "open", MARKER, "wb", until=12),
    k("readline", "write_history_file", MARKER),
    k("numpy", "save", MARKER, [1], torch=True),
    k("numpy", "savetxt", MARKER, [1], torch=True),
    k("numpy", "savez", MARKER, torch=True),
    k("numpy", "savez_compressed", MARKER, torch=True),
    k("numpy", "memmap", MARKER, "uint8", "w+", 0, (1,), torch=True),
    k("numpy.lib.format", "open_memmap", MARKER, "w+", "uint8", (1,), torch=True),
    k("torch", "save", {}, MARKER, torch=True),
    k("torch.serialization", "save", {}, MARKER, torch=True),
    k("torch", "from_file", MARKER, True, 4, torch=True),
    k("torch._C", "PyTorchFileWriter", MARKER, torch=True),
    # changes files and folders
    k("os", "mkdir", MARKER),
    k("posix", "mkdir", MARKER),
    k("os", "makedirs", MARKER),
    k("os", "mkfifo", MARKER),
    k("posix", "mkfifo", MARKER),
    k("os", "mknod", MARKER),
    k("os", "symlink", "x", MARKER),
    k("posix", "symlink", "x", MARKER),
    k("distutils.file_util", "write_file", MARKER, ["x"], until=11),
    k("distutils.dir_util", "mkpath", MARKER, until=11),
    k("pathlib", "Path.touch", call(name("pathlib", "PosixPath"), MARKER)),
    k("pathlib", "Path.mkdir", call(name("pathlib", "PosixPath"), MARKER)),
    k("pathlib", "PosixPath.touch", call(name("pathlib", "PosixPath"), MARKER)),
    k("pathlib", "Path.write_text", call(name("pathlib", "PosixPath"), MARKER), "x"),
    k("pathlib", "Path.write_bytes", call(name("pathlib", "PosixPath"), MARKER), b"x"),
    k("pathlib", "Path.symlink_to", call(name("pathlib", "PosixPath"), MARKER), "x"),
    k("pathlib", "Path.open", call(name("pathlib", "PosixPath"), MARKER), "w"),
    # connects
    k("urllib.request", "urlretrieve", "data:,x", MARKER),
    k("socketserver", "UnixStreamServer", MARKER, None),
    k("socketserver", "UnixDatagramServer", MARKER, None),
    k("socketserver", "ThreadingUnixStreamServer", MARKER, None),
    # loads another pickle
    k("pickle", "loads", NESTED),
    k("pickle", "_loads", NESTED),
    k("_pickle", "loads", NESTED),
    k("pickle", "load", call(name("io", "BytesIO"), NESTED)),
    k("_pickle", "load", call(name("io", "BytesIO"), NESTED)),
    k("pickle", "_load", call(name("io", "BytesIO"), NESTED)),
    k("torch.storage", "_load_from_bytes", NESTED, torch=True),
    # calls what it is given
    k("functools", "reduce", MKDIR, [MARKER, 0o777]),
    k("_functools", "reduce", MKDIR, [MARKER, 0o777]),
    k("operator", "call", MKDIR, MARKER),
    k("_operator", "call", MKDIR, MARKER),
    k("builtins", "list", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "tuple", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "set", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "frozenset", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "bytes", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "bytearray", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "dict", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "sum", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "any", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "sorted", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "max", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "next", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("builtins", "list", call(name("builtins", "filter"), MKDIR, [MARKER])),
    k("collections", "deque", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("collections", "Counter", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("collections", "OrderedDict", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("array", "array", "b", call(name("builtins", "map"), MKDIR, [MARKER])),
    k("torch", "Size", call(name("builtins", "map"), MKDIR, [MARKER]), torch=True),
    k("builtins", "list", call(name("itertools", "starmap"), MKDIR, [(MARKER,)])),
    k("builtins", "list", call(name("itertools", "filterfalse"), MKDIR, [MARKER])),
    k("builtins", "list", call(name("itertools", "dropwhile"), MKDIR, [MARKER])),
    k("builtins", "list", call(name("itertools", "takewhile"), MKDIR, [MARKER])),
    k("builtins", "list", call(name("itertools", "accumulate"), [MARKER, 0o777], MKDIR)),
    k("builtins", "list", call(name("itertools", "groupby"), [MARKER], MKDIR)),
    k("builtins", "list", call(name("itertools", "chain"),
      call(name("builtins", "map"), MKDIR, [MARKER]))),
    k("builtins", "list", call(name("builtins", "zip"),
      call(name("builtins", "map"), MKDIR, [MARKER]))),
    k("builtins", "list", call(name("builtins", "enumerate"),
      call(name("builtins", "map"), MKDIR, [MARKER]))),
    k("bdb", "Bdb.runcall", call(name("bdb", "Bdb")), MKDIR, MARKER),
    k("trace", "Trace.runfunc", call(name("trace", "Trace"), 0, 0), MKDIR, MARKER),
    k("cProfile", "Profile.runcall", call(name("cProfile", "Profile")), MKDIR, MARKER),
    k("profile", "Profile.runcall", call(name("profile", "Profile")), MKDIR, MARKER),
    k("contextvars", "Context.run", call(name("contextvars", "Context")), MKDIR, MARKER),
    g("heapq", "nsmallest", 1, [MARKER], MKDIR),
    g("heapq", "nlargest", 1, [MARKER], MKDIR),
    g("copy", "_reconstruct", 0, None, MKDIR, (MARKER,)),
    k("multiprocessing.pool", "mapstar", (MKDIR, [MARKER])),
    k("concurrent.futures.process", "_process_chunk", MKDIR, [(MARKER,)]),
    k("torch.utils._pytree", "tree_map", MKDIR, [MARKER], torch=True),
    k("torch.utils._pytree", "tree_map_", MKDIR, [MARKER], torch=True),
    # imports and resolves
    k("logging.config", "dictConfig",
      {"version": 1, "filters": {"f": {"()": "os.mkdir", "path": MARKER}}}),
    k("logging.config", "dictConfig",
      {"version": 1, "handlers": {"h": {"class": "logging.FileHandler", "filename": MARKER}}}),
)  # fmt: skip


def chain(ident: str, body: Ops, *, protocol: int = 2, until: int = 99, known: bool = True,
          torch: bool = False) -> Chain:  # fmt: skip
    return Chain(ident, body, protocol, until, known, torch)


@dataclass(frozen=True)
class Chain:
    """Several calls that reach a harmful one through harmless looking names."""

    id: str
    body: Ops
    protocol: int
    until: int
    known: bool
    torch: bool


CHAINS: tuple[Chain, ...] = (
    chain("getattr", call(attribute(OS, "mkdir"), MARKER)),
    chain("sys-modules", call(attribute(call(attribute(name("sys", "modules"), "get"), "os"),
                                        "mkdir"), MARKER)),
    chain("vars", call(call(attribute(call(name("builtins", "vars"), OS), "get"), "mkdir"),
                       MARKER)),
    chain("import-module", call(attribute(call(name("importlib", "import_module"), "os"), "mkdir"),
                                MARKER)),
    chain("gcd-import", call(attribute(call(name("importlib._bootstrap", "_gcd_import"), "os"),
                                       "mkdir"), MARKER)),
    chain("find-and-load", call(attribute(call(name("importlib._bootstrap", "_find_and_load"),
                                               "os", name("builtins", "__import__")), "mkdir"),
                                MARKER)),
    chain("getattr-static", call(call(name("inspect", "getattr_static"), OS, "mkdir"), MARKER)),
    chain("attrgetter", call(call(call(name("operator", "attrgetter"), "mkdir"), OS), MARKER)),
    chain("methodcaller", call(call(name("operator", "methodcaller"), "mkdir", MARKER), OS)),
    chain("itemgetter", call(call(call(name("operator", "itemgetter"), "mkdir"),
                                  call(name("builtins", "vars"), OS)), MARKER)),
    chain("partial", call(call(name("functools", "partial"), MKDIR, MARKER))),
    chain("partial-setstate", call(build(newobj(name("functools", "partial"),
                                                name("builtins", "print")),
                                         (MKDIR, (MARKER,), {}, None)))),
    chain("resolve-name", call(call(name("pkgutil", "resolve_name"), "os:mkdir"), MARKER)),
    chain("pydoc-locate", call(call(name("pydoc", "locate"), "os.mkdir"), MARKER)),
    chain("logging-resolve", call(call(name("logging.config", "_resolve"), "os.mkdir"), MARKER)),
    chain("xmlrpc-resolve", call(call(name("xmlrpc.server", "resolve_dotted_attribute"),
                                      name("argparse", "_os"), "mkdir"), MARKER)),
    chain("entry-point", call(call(name("importlib.metadata", "EntryPoint.load"),
                                   call(name("importlib.metadata", "EntryPoint"), "n", "os:mkdir",
                                        "g")), MARKER), protocol=4),
    chain("entry-point-getattr", call(call(attribute(
        call(name("importlib.metadata", "EntryPoint"), "n", "os:mkdir", "g"), "load")), MARKER)),
    chain("compile-function-type", call(call(name("types", "FunctionType"),
                                             call(name("builtins", "compile"), PYTHON, "x",
                                                  "exec"), {}))),
    chain("compile-lambda-type", call(call(name("types", "LambdaType"),
                                           call(name("codeop", "compile_command"), PYTHON), {}))),
    chain("compile-exec", call(name("builtins", "exec"),
                               call(name("codeop", "compile_command"), PYTHON))),
    chain("method-type", call(call(name("types", "MethodType"), MKDIR, MARKER))),
    chain("interpreter", call(attribute(call(name("code", "InteractiveInterpreter")), "runcode"),
                              call(name("builtins", "compile"), PYTHON, "x", "exec"))),
    chain("interpreter-source", call(attribute(call(name("code", "InteractiveInterpreter")),
                                               "runsource"), PYTHON)),
    chain("bdb-run", call(attribute(call(name("trace", "Trace"), 0, 0), "run"), PYTHON)),
    chain("timer", call(attribute(call(name("timeit", "Timer"), PYTHON), "timeit"), 1)),
    chain("thread", call(attribute(call(name("threading", "Thread"), None, MKDIR, None, (MARKER,)),
                                   "run"))),
    chain("timer-thread", call(attribute(call(name("threading", "Timer"), 0, MKDIR, [MARKER]),
                                         "run"))),
    chain("reduce-of-getattr", call(call(name("functools", "reduce"), name("builtins", "getattr"),
                                         [OS, "mkdir"]), MARKER)),
    chain("ctypes", call(attribute(call(name("ctypes", "CDLL"), None), "system"),
                         SHELL.encode())),
    chain("ctypes-pydll", call(attribute(call(name("ctypes", "PyDLL"), None), "system"),
                               SHELL.encode())),
    chain("next-iter", call(name("builtins", "next"), call(name("builtins", "iter"), call(
        name("functools", "partial"), MKDIR, MARKER), 1))),
    chain("property", call(attribute(call(name("builtins", "property"), MKDIR), "fget"), MARKER)),
    chain("copyreg-reconstructor", call(name("copyreg", "_reconstructor"),
                                        name("subprocess", "Popen"), name("subprocess", "Popen"),
                                        TOUCH)),
    chain("rebuild-from-type", call(name("torch._tensor", "_rebuild_from_type_v2"), MKDIR,
                                    name("torch", "Tensor"), (MARKER,), {}), torch=True),
    chain("unittest-call", call(attribute(call(name("unittest.case", "FunctionTestCase"),
                                               name("builtins", "print"), call(
                                                   name("functools", "partial"), MKDIR, MARKER)),
                                          "setUp"))),
    chain("asyncio-handle", call(attribute(call(name("asyncio.events", "Handle"), MKDIR, (MARKER,),
                                                call(name("asyncio", "new_event_loop"))), "_run"))),
    chain("future-workitem", call(attribute(call(name("concurrent.futures.thread", "_WorkItem"),
                                                 call(name("concurrent.futures", "Future")),
                                                 MKDIR, (MARKER,), {}), "run")), until=13),
    chain("pickle-unpickler", call(attribute(call(name("pickle", "Unpickler"), call(
        name("io", "BytesIO"), NESTED)), "load"))),
    chain("pickle-py-unpickler", call(attribute(call(name("pickle", "_Unpickler"), call(
        name("io", "BytesIO"), NESTED)), "load"))),
    chain("shelf", call(attribute(call(name("shelve", "Shelf"), {b"a": NESTED}), "get"), "a")),
    chain("marshal", call(call(name("types", "FunctionType"), call(
        attribute(call(name("marshal", "loads"), call(name("marshal", "dumps"), call(
            name("builtins", "compile"), PYTHON, "x", "exec"))), "replace")), {}))),
    chain("grammar", call(attribute(call(name("lib2to3.pgen2.grammar", "Grammar")), "loads"),
                          NESTED), until=12),
    chain("obj-of-a-call", obj(attribute(OS, "mkdir"), MARKER)),
    chain("numpy-vectorize", call(call(name("numpy", "vectorize"), MKDIR), [MARKER]), torch=True),
    chain("numpy-frompyfunc", call(call(name("numpy", "frompyfunc"), MKDIR, 1, 1), MARKER),
          torch=True),
    chain("torch-storage-from-file", call(attribute(name("torch", "UntypedStorage"), "from_file"),
                                          MARKER, True, 4), torch=True),
    chain("dataloader-fetch", call(attribute(call(
        name("torch.utils.data._utils.fetch", "_MapDatasetFetcher"), [MARKER], False, MKDIR,
        False), "fetch"), 0), torch=True),
)  # fmt: skip
