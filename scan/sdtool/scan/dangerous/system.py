"""What reaches files, settings, networks and memory.

One line is a module and its names; `*` is every name of the module and of its submodules. Names of
Python 2 are here too: a file below protocol 3 may hold either.
"""

from __future__ import annotations

from sdtool.scan.dangerous.danger import Danger

_OPENS = Danger("opens", "opens, creates or reads files")
_CHANGES = Danger("changes", "deletes, moves or overwrites files or settings")
_CONNECTS = Danger("connects", "opens a network connection or a server")
_NATIVE = Danger("native", "loads native code or reaches raw memory")

ROWS: tuple[tuple[Danger, str], ...] = (
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
)
