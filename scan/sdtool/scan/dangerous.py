"""Names known to do harm when a pickle calls them, grouped by what they do.

This list decides between two words only. A name that nobody vouches for is a finding whether it
stands here or not (`vouched.py`: default deny); one that stands here makes the file `unsafe`, and
the message can say what it does. So the list may be incomplete, and must not accuse: a name that
honest checkpoints hold (`functools.partial`, layer classes) does not belong here.

One line is a module and its names; `*` is every name of the module and of its submodules.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sdtool.checkpoint.values import Global


@dataclass(frozen=True, slots=True)
class Danger:
    """What a name does: a `kind` in one word, and `why` as the rest of "this name ..."."""

    kind: str
    why: str


_PROGRAM = Danger("runs-program", "starts another program or ends a running one")
_PYTHON = Danger("runs-python", "compiles or runs Python code")
_CALLS = Danger("calls", "calls whatever function it is given")
_IMPORTS = Danger("imports", "imports a module, which runs its code")
_RESOLVES = Danger("resolves", "looks up names or attributes, so that any function can be reached")
_UNPICKLES = Danger("unpickles", "loads another pickle, which can run anything")
_OPENS = Danger("opens", "opens, creates or reads files")
_CHANGES = Danger("changes", "deletes, moves or overwrites files or settings")
_CONNECTS = Danger("connects", "opens a network connection or a server")
_NATIVE = Danger("native", "loads native code or reaches raw memory")
_DEBUGS = Danger("debugs", "starts a debugger, a test run, an installer or an interactive session")
_HOOKS = Danger("hooks", "has something run later, or starts a thread or a process")

# Python 2 names stand beside those of today: a file below protocol 3 may hold either.
_TABLE: tuple[tuple[Danger, str], ...] = (
    (
        _PROGRAM,
        """
        os *
        posix *
        nt *
        java.lang.Runtime *
        subprocess *
        _posixsubprocess *
        _winapi *
        popen2 *
        commands *
        pty spawn fork
        platform popen _syscmd_ver _syscmd_uname _syscmd_file _syscmd_processor
        uuid _get_command_stdout _popen _ifconfig_getnode _ip_getnode _arp_getnode _lanscan_getnode
        uuid _netstat_getnode _find_mac_near_keyword _find_mac_under_heading _ipconfig_getnode
        _osx_support _read_output _find_build_tool _find_executable _get_system_version
        _osx_support _check_for_unavailable_sdk customize_compiler compiler_fixup
        _aix_support _read_cmd_output aix_platform
        _bootsubprocess *
        ctypes.util _findLib_gcc _findLib_ld _findSoname_ldconfig _get_soname find_library
        webbrowser *
        antigravity *
        imaplib IMAP4_stream
        mailcap findmatch test
        pydoc pipepager tempfilepager pager getpager cli help Helper render_doc locate safeimport
        pydoc importfile writedoc writedocs browse serve plainpager _start_server apropos
        asyncio.subprocess *
        asyncio.unix_events *
        asyncio.windows_utils *
        multiprocessing.util spawnv_passfds _exit_function _cleanup_tests Finalize
        multiprocessing.forkserver *
        multiprocessing.resource_tracker *
        multiprocessing.popen_fork *
        multiprocessing.popen_spawn_posix *
        multiprocessing.popen_forkserver *
        multiprocessing.popen_spawn_win32 *
        distutils.spawn *
        distutils.command *
        distutils.cmd *
        setuptools.command *
        setuptools.msvc *
        setuptools._distutils *
        test.support *
        test.test_support *
        test.libregrtest *
        nturl2path *
        numpy.distutils *
        numpy.f2py *
        numpy.testing._private.utils runstring rundocs
        numpy.testing runstring rundocs
        numpy.testing.utils runstring rundocs
        scipy._lib._testutils *
        torch.utils.collect_env *
        torch.utils.cpp_extension *
        torch.utils.cpp_backtrace *
        torch.utils._cpp_extension_versioner *
        torch.utils.bottleneck *
        torch.utils.hipify *
        torch.utils.benchmark *
        torch.utils.viz *
        torch._inductor *
        torch.distributed.elastic *
        torch.distributed.launch *
        torch.distributed.launcher *
        torch.distributed.rpc *
        torch.distributed.run *
        torch._sources *
        torch.testing._internal *
        torchvision.datasets.utils *
        triton *
        plumbum *
        fabric *
        invoke *
        pexpect *
        ptyprocess *
        psutil Popen Process
        paramiko *
        celery *
        docker *
        IPython *
        ipykernel *
        jupyter_client *
        nbconvert *
        papermill *
        pyautogui *
        win32api *
        win32com *
        win32process *
        """,
    ),
    (
        _PYTHON,
        """
        builtins eval exec compile execfile
        __builtin__ eval exec compile execfile
        __builtins__ *
        __main__ eval exec open getattr
        code *
        codeop *
        compiler *
        parser *
        runpy *
        timeit *
        profile *
        cProfile *
        hotshot *
        trace *
        doctest *
        symtable *
        types FunctionType LambdaType CodeType MethodType new_class
        collections namedtuple
        typing get_type_hints _eval_type ForwardRef
        typing_extensions get_type_hints evaluate_forward_ref
        annotationlib *
        dataclasses make_dataclass _create_fn
        rlcompleter *
        lib2to3 *
        new *
        site *
        idlelib *
        turtledemo *
        turtle *
        tkinter *
        Tkinter *
        _tkinter *
        cgitb *
        rexec *
        Bastion *
        ihooks *
        sitecustomize *
        usercustomize *
        this *
        __phello__ *
        numpy.core._internal _eval
        numpy.lib.utils safe_eval
        numpy safe_eval
        scipy.weave *
        numexpr *
        numba *
        llvmlite *
        cython *
        Cython *
        pyximport *
        sympy sympify parse_expr lambdify S
        sympy.core.sympify sympify
        sympy.parsing *
        sympy.utilities.lambdify *
        pandas eval
        pandas.core.computation *
        six exec_ reraise
        attr make_class _make
        attr._make _make_attr_tuple_class _compile_and_eval make_class
        jinja2 *
        mako *
        tornado.template *
        django *
        flask *
        werkzeug *
        keras Lambda deserialize
        keras.models *
        keras.layers Lambda deserialize
        keras.layers.core Lambda
        keras.saving *
        keras.src.saving *
        keras.src.legacy *
        tensorflow.io *
        tensorflow.saved_model *
        tensorflow.python.platform *
        tensorflow.keras *
        torch compile vmap
        torch.jit *
        torch.fx *
        torch.package *
        torch._dynamo *
        torch._jit_internal *
        torch.export *
        torch._export *
        torch.onnx *
        torch.utils._config_module *
        torch.utils.data.datapipes.utils *
        torch.utils.checkpoint checkpoint checkpoint_sequential
        torch.utils.data.graph traverse
        omegaconf.resolvers *
        hydra *
        hydra.utils *
        """,
    ),
    (
        _CALLS,
        """
        builtins map filter iter next reduce apply sorted
        __builtin__ map filter iter next reduce apply sorted coerce intern
        functools reduce cmp_to_key
        _functools reduce cmp_to_key
        itertools starmap accumulate takewhile dropwhile filterfalse groupby imap ifilter izip
        itertools ifilterfalse
        future_builtins map filter
        operator call _call
        _operator call
        contextlib ExitStack AsyncExitStack
        concurrent *
        asyncio *
        unittest *
        bdb *
        pdb *
        heapq merge nlargest nsmallest
        cmd *
        numpy vectorize frompyfunc apply_along_axis apply_over_axes fromfunction piecewise
        numpy.lib.function_base vectorize
        numpy.lib._function_base_impl vectorize
        numpy.lib.shape_base apply_along_axis apply_over_axes
        numpy.lib._shape_base_impl apply_along_axis apply_over_axes
        numpy.core.numeric fromfunction
        numpy._core.numeric fromfunction
        numpy.testing *
        numpy.testing._private *
        torch.utils._pytree tree_map tree_map_ tree_map_only tree_map_with_path tree_all tree_any
        toolz *
        cytoolz *
        torch.overrides handle_torch_function wrap_torch_function
        torch.func *
        torch.autograd.functional *
        torch.utils.data._utils.worker *
        torch.utils.data._utils.collate *
        torch.utils.data._utils.pin_memory *
        """,
    ),
    (
        _IMPORTS,
        """
        builtins __import__ reload
        __builtin__ __import__ reload
        importlib *
        importlib_metadata *
        importlib_resources *
        _frozen_importlib *
        _frozen_importlib_external *
        _imp *
        imp *
        zipimport *
        pkgutil *
        modulefinder *
        pkg_resources *
        test.support.import_helper *
        test.test_importlib *
        logging.config *
        encodings search_function
        pyclbr *
        _pyrepl *
        zipapp *
        transformers pipeline
        transformers.dynamic_module_utils *
        diffusers.utils.dynamic_modules_utils *
        modelscope.utils *
        timm.models._hub *
        stevedore *
        pluggy *
        entrypoints *
        six _import_module _resolve
        werkzeug.utils import_string
        django.utils.module_loading *
        numpy.core.multiarray _load_from_filelike
        torch._utils _import_dotted_name
        torch._lazy *
        torch.library *
        torch.utils.backend_registration *
        fsspec *
        """,
    ),
    (
        _RESOLVES,
        """
        builtins getattr setattr delattr hasattr vars globals locals dir super
        builtins __build_class__ __dict__ __loader__ __spec__
        __builtin__ getattr setattr delattr hasattr vars globals locals dir super
        operator attrgetter methodcaller itemgetter setitem delitem getitem
        _operator attrgetter methodcaller itemgetter setitem delitem getitem
        inspect *
        gc *
        sys *
        weakref finalize proxy WeakMethod
        _weakref proxy
        linecache *
        traceback *
        string Formatter
        dis *
        pickletools *
        xmlrpc.server *
        SimpleXMLRPCServer *
        DocXMLRPCServer *
        numpy.ctypeslib *
        torch._ops *
        torch._C import_ir_module import_ir_module_from_buffer CompilationUnit PyTorchFileReader
        torch._C PyTorchFileWriter _load_for_lite_interpreter _jit_compile_only _import_ir_module
        torch._C _load_jit_module_from_file _jit_get_operation _get_custom_class_python_wrapper
        torch.ops *
        torch._classes *
        torch.classes *
        torch._deploy *
        torch.utils._import_utils *
        """,
    ),
    (
        _UNPICKLES,
        """
        pickle *
        _pickle *
        cPickle *
        _compat_pickle *
        copyreg add_extension pickle remove_extension constructor dispatch_table
        copy_reg add_extension pickle remove_extension constructor dispatch_table
        marshal *
        shelve *
        dill *
        _dill *
        cloudpickle *
        pickle5 *
        pickle4 *
        joblib *
        sklearn.externals *
        skops *
        jsonpickle *
        hickle *
        klepto *
        compress_pickle *
        pandas read_pickle read_hdf read_sql read_html read_csv read_json
        pandas.io *
        numpy load loads fromfile memmap genfromtxt loadtxt DataSource fromregex savetxt save savez
        numpy savez_compressed ndfromtxt mafromtxt recfromcsv recfromtxt loadz
        numpy.lib load DataSource
        numpy.lib.npyio *
        numpy.lib._npyio_impl *
        numpy.lib.format *
        numpy.lib._format_impl *
        numpy.lib._datasource *
        numpy.core.records fromfile
        numpy._core.records fromfile
        numpy.rec fromfile
        numpy.core.memmap memmap
        numpy._core.memmap memmap
        multiprocessing *
        _multiprocessing *
        billiard *
        multiprocess *
        pathos *
        torch load save from_file
        torch.serialization load _load _legacy_load save _save _legacy_save _open_file
        torch.serialization _open_file_like _open_buffer_reader _open_zipfile_reader
        torch.serialization _open_zipfile_writer_file _open_zipfile_writer_buffer
        torch.serialization add_safe_globals safe_globals register_package mkdtemp
        torch.serialization set_default_load_endianness skip_data source_change_warning
        torch.storage _load_from_bytes
        torch.multiprocessing *
        torch.hub *
        torch.utils.model_zoo *
        torch.utils.model_dump *
        torch.utils.data.datapipes *
        torch.distributed.checkpoint *
        torch._weights_only_unpickler *
        torch.utils.serialization *
        torch.utils.show_pickle *
        torch.utils.tensorboard *
        yaml *
        _yaml *
        ruamel *
        ruamel_yaml *
        omegaconf.omegaconf OmegaConf
        srsly *
        redis *
        diskcache *
        fairseq.checkpoint_utils *
        """,
    ),
    (
        _OPENS,
        """
        builtins open file input raw_input
        io open open_code FileIO TextIOWrapper
        _io open open_code FileIO TextIOWrapper
        _pyio open open_code FileIO TextIOWrapper OpenWrapper
        codecs open StreamReaderWriter EncodedFile getreader getwriter
        __builtin__ open file input raw_input
        codecs register register_error lookup getencoder getdecoder unregister
        _codecs register register_error lookup unregister
        fileinput *
        dbm *
        anydbm *
        whichdb *
        dumbdbm *
        gdbm *
        _gdbm *
        _dbm *
        dbhash *
        bsddb *
        sqlite3 *
        _sqlite3 *
        tarfile *
        zipfile *
        gzip *
        bz2 BZ2File open
        lzma LZMAFile open
        compression *
        mmap *
        tempfile *
        configparser *
        logging FileHandler basicConfig
        logging.handlers *
        ConfigParser *
        netrc *
        plistlib *
        mailbox *
        mimetypes *
        mimetools *
        wave *
        aifc *
        sunau *
        sndhdr *
        imghdr *
        tokenize *
        tabnanny *
        py_compile *
        compileall *
        filecmp *
        glob *
        dircache *
        getpass *
        pwd *
        grp *
        spwd *
        crypt *
        readline *
        curses *
        tomllib *
        xml *
        _elementtree *
        pathlib Path.open Path.read_bytes Path.read_text Path.glob Path.rglob Path.iterdir
        pathlib PosixPath.open PosixPath.read_bytes PosixPath.read_text WindowsPath.open
        imageio *
        cv2 imread imwrite VideoCapture VideoWriter FileStorage
        PIL.Image open
        PIL.ImageShow *
        h5py *
        tables *
        zarr *
        safetensors *
        torchvision.io *
        torchaudio *
        toml *
        dotenv *
        """,
    ),
    (
        _CHANGES,
        """
        fickling *
        picklescan *
        modelscan *
        modelaudit *
        sdtool *
        nbdefense *
        guarddog *
        modules.safe *
        torch.serialization set_default_mmap_options
        torch.serialization add_safe_globals clear_safe_globals register_package
        torch.serialization set_default_load_endianness set_crc32_options
        torch._weights_only_unpickler *
        torch._utils_internal *
        shutil *
        pathlib Path.write_bytes Path.write_text Path.unlink Path.rename Path.replace Path.touch
        pathlib Path.mkdir Path.rmdir Path.chmod Path.symlink_to Path.hardlink_to Path.link_to
        pathlib PosixPath.write_bytes PosixPath.write_text PosixPath.unlink PosixPath.touch
        pathlib PosixPath.rename PosixPath.replace PosixPath.mkdir PosixPath.rmdir
        winreg *
        _winreg *
        fcntl *
        termios *
        tty *
        resource *
        syslog *
        nis *
        ossaudiodev *
        winsound *
        msvcrt *
        distutils *
        setuptools *
        sysconfig *
        send2trash *
        torch set_default_tensor_type set_default_dtype set_default_device set_printoptions
        torch.utils.rename_privateuse1_backend *
        """,
    ),
    (
        _CONNECTS,
        """
        socket *
        _socket *
        ssl *
        _ssl *
        socketserver *
        SocketServer *
        select *
        selectors *
        http *
        httplib *
        BaseHTTPServer *
        SimpleHTTPServer *
        CGIHTTPServer *
        Cookie *
        cookielib *
        urllib *
        urllib2 *
        urlparse *
        robotparser *
        ftplib *
        smtplib *
        smtpd *
        telnetlib *
        poplib *
        imaplib *
        nntplib *
        asyncore *
        asynchat *
        cgi *
        wsgiref *
        xmlrpc *
        xmlrpclib *
        uuid getnode
        requests *
        urllib3 *
        httpx *
        httpcore *
        aiohttp *
        websocket *
        websockets *
        pycurl *
        boto3 *
        botocore *
        s3fs *
        gcsfs *
        smart_open *
        wget *
        huggingface_hub *
        gdown *
        pip._vendor.requests *
        twisted *
        zmq *
        grpc *
        """,
    ),
    (
        _NATIVE,
        """
        ctypes *
        _ctypes *
        _ctypes_test *
        cffi *
        _cffi_backend *
        _testcapi *
        _testinternalcapi *
        _xxsubinterpreters *
        _interpreters *
        _xxinterpchannels *
        faulthandler *
        pycuda *
        cupy *
        numpy.core._multiarray_tests *
        numpy._core._multiarray_tests *
        torch.utils.dlpack *
        torch.cuda._pin_memory_utils *
        """,
    ),
    (
        _DEBUGS,
        """
        builtins breakpoint help exit quit copyright credits license
        pdb *
        bdb *
        ipdb *
        pudb *
        debugpy *
        pydevd *
        pytest *
        _pytest *
        nose *
        hypothesis *
        venv *
        ensurepip *
        pip *
        virtualenv *
        """,
    ),
    (
        _HOOKS,
        """
        atexit *
        signal *
        _signal *
        threading *
        _thread *
        thread *
        dummy_threading *
        dummy_thread *
        _dummy_thread *
        _threading_local *
        weakref finalize
        torch.monitor *
        torch.profiler *
        torch.autograd.profiler *
        """,
    ),
)

# What the name of an attribute gives away, wherever it is reached from: `x.__globals__` leads
# from any function of Python to everything that its module imported.
_LEADS_ANYWHERE = frozenset(
    """
    __globals__ __builtins__ __subclasses__ __getattribute__ __getattr__ __setattr__ __delattr__
    __dict__ __bases__ __mro__ mro __import__ __loader__ __spec__ __code__ __closure__ __func__
    __self__ __wrapped__ __reduce__ __reduce_ex__ __class__ __init__ __call__ __get__ f_globals
    f_builtins f_locals gi_frame cr_frame tb_frame func_globals func_code im_func im_self
    load_module exec_module get_data
    """.split()
)

# Modules whose `*` stops here: harmless submodules or names of a module that is dangerous.
_HARMLESS = frozenset(
    {
        "os.path",
        "xml.sax.saxutils",
        "torch.jit._pickle",
        "torch.distributed.checkpoint.metadata",
        "torch.distributed.checkpoint.filesystem._StorageInfo",
        "torch._dynamo.decorators._DimRange",
        "joblib.numpy_pickle.NumpyArrayWrapper",
    }
)
"""Modules and names inside of dangerous ones that only hold data."""

# Modules that a pickle can pick up as an attribute of another one (`torch.serialization` + `os`).
_MODULES = frozenset(
    "os sys subprocess builtins importlib pickle ctypes socket shutil marshal pty runpy".split()
)


def danger_of(module: str, name: str) -> Danger | None:
    """What `module.name` is known to do, or None when nothing is known of it.

    A dotted name is judged by all that it passes through: `torch.serialization` + `os.system` does
    what `os.system` does, and so does `argparse` + `_os.system`.
    """
    module = module.partition("\0")[0].strip()
    if found := _lookup(module, name):
        return found
    parts = name.split(".")
    for i, part in enumerate(parts):
        if i and part in _LEADS_ANYWHERE:
            return _RESOLVES
        rest = ".".join(parts[i + 1 :])
        if rest and (found := _lookup(part, rest) or _lookup(part.lstrip("_"), rest)):
            return found
        if i and (found := _lookup(module, ".".join(parts[:i]))):
            return found
    if len(parts) > 1:
        # `collections` + `abc.sys.exit`: a module on the way, or a builtin at the end.
        return _lookup("builtins", parts[-1])
    return _RESOLVES if name in _LEADS_ANYWHERE or name.lstrip("_") in _MODULES else None


def _lookup(module: str, name: str) -> Danger | None:
    exact, whole = _parsed()
    if found := exact.get(Global(module, name)):
        return found
    if module in _HARMLESS or f"{module}.{name}" in _HARMLESS:
        return None
    package = module
    while package:
        if found := whole.get(package):
            return found
        package = package.rpartition(".")[0]
    # `os` + `path`, `concurrent` + `futures`: the name may itself be a whole module.
    return whole.get(f"{module}.{name}")


@cache
def _parsed() -> tuple[dict[Global, Danger], dict[str, Danger]]:
    exact: dict[Global, Danger] = {}
    whole: dict[str, Danger] = {}
    for danger, lines in _TABLE:
        for line in lines.strip().splitlines():
            module, *names = line.split()
            for name in names:
                if name == "*":
                    whole.setdefault(module, danger)
                else:
                    exact.setdefault(Global(module, name), danger)
    return exact, whole
