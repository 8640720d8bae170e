"""What starts or ends programs.

One line is a module and its names; `*` is every name of the module and of its submodules. Names of
Python 2 are here too: a file below protocol 3 may hold either.
"""

from __future__ import annotations

from sdtool.scan.dangerous.danger import Danger

_PROGRAM = Danger("runs-program", "starts another program or ends a running one")

ROWS: tuple[tuple[Danger, str], ...] = (
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
)
