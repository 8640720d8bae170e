"""What runs, calls, imports, finds or unpickles code.

One line is a module and its names; `*` is every name of the module and of its submodules. Names of
Python 2 are here too: a file below protocol 3 may hold either.
"""

from __future__ import annotations

from sdtool.scan.dangerous.danger import Danger

_PYTHON = Danger("runs-python", "compiles or runs Python code")
_CALLS = Danger("calls", "calls whatever function it is given")
_IMPORTS = Danger("imports", "imports a module, which runs its code")
RESOLVES = Danger("resolves", "looks up names or attributes, so that any function can be reached")
_UNPICKLES = Danger("unpickles", "loads another pickle, which can run anything")

ROWS: tuple[tuple[Danger, str], ...] = (
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
        RESOLVES,
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
)
