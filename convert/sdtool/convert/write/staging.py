"""New files that appear whole or not at all, one by itself or several together."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdtool.checkpoint.errors import OutputError, SdtoolError
from sdtool.convert.copy.kernel import libc
from sdtool.convert.copy.new_file import OPEN_TO_ALL, OWNER, NewFile
from sdtool.convert.os_errors import NOTHING_LEFT, output_error
from sdtool.convert.plan.names import is_left_of, is_partial
from sdtool.convert.write.signals import signals_held

_NO_LINKS = frozenset(
    {
        errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP, errno.EMLINK, errno.EACCES,
        # drivers in user space and servers that do not know the call say it in their own ways
        errno.EINVAL, errno.EIO, errno.EXDEV, errno.ENOTTY,
    }
)  # fmt: skip
_NO_SUCH_RENAME = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY}
)


class Stage:
    """The new files of one run that take their names together: see `staged`."""

    def __init__(self, nbytes: Mapping[Path, int], mode: int = OPEN_TO_ALL) -> None:
        self._nbytes = dict(nbytes)
        self._mode = mode
        self._files: dict[Path, NewFile] = {}

    @property
    def files(self) -> tuple[NewFile, ...]:
        """Those that were opened, in the order of the announcement."""
        return tuple(self._files[out] for out in self._nbytes if out in self._files)

    def open(self, out: Path) -> NewFile:
        """Give the file that is to become `out`, in the size that was announced.

        Raises:
            OutputError: the operating system refused.
        """
        file = self._files[out] = NewFile(out, self._mode)
        file.create(self._nbytes[out])
        return file

    def add(self, out: Path, content: bytes) -> None:
        """Put a whole further file on the stage, which takes its name after those before it.

        Raises:
            OutputError: the operating system refused.
        """
        self._nbytes[out] = len(content)
        self.open(out).write_at(content, 0)

    def drop(self, out: Path) -> None:
        """Give one up; the others go on."""
        with signals_held():
            self._files[out].remove()
            del self._files[out]

    def tidy(self) -> str | None:
        """Remove all partial names; where that fails, say what is left of each."""
        left = [file.remove() for file in self.files]
        return "; ".join(what for what in left if what is not None) or None


@contextmanager
def staged(
    nbytes: Mapping[Path, int], *, force: bool = False, mode: int = OPEN_TO_ALL
) -> Generator[Stage]:
    """Give a stage for new files, `nbytes` bytes each, of which all appear on leaving, or none.

    Until then each is `.NAME.sdtool-partial-...` beside its final place, and all are removed
    when anything is raised, Ctrl-C included. They may be open at once and be filled side by side,
    or one after the other; `NewFile.finish` flushes and closes one early. On leaving, all data is
    on the disk (fsync) before the first takes its name, and they take their names in the order of
    `nbytes`, each in one step. A signal that comes while they do, or while they are removed, waits
    until that is done. Without `force` a file that has appeared under a name is never replaced.
    Where a name is refused although others are taken, these stay: they are whole. `mode` is what
    the umask is taken from; owners keep their right to read and to write.

    Raises:
        OutputError: one exists, there is no room for all, or the operating system refused.
    """
    for out in nbytes:
        check_output(out, force=force)
    _check_space(nbytes)
    stage = Stage(nbytes, mode | OWNER)
    try:
        try:
            yield stage
            for file in stage.files:
                file.finish()
            with signals_held():
                _take_names(stage.files, force=force)
                left = stage.tidy()
        except OSError as e:
            raise output_error(e, ", ".join(file.name for file in stage.files[-1:])) from e
    except BaseException as e:
        with signals_held():
            left = stage.tidy()
            if left is not None and isinstance(e, SdtoolError):
                e.what = f"{e.what.removesuffix(NOTHING_LEFT)}; {left}"
        raise
    if left is not None:
        raise OutputError(f"is written, but {left}", where=stage.files[0].name)


@contextmanager
def new_file(
    out: Path, nbytes: int, *, force: bool = False, mode: int = OPEN_TO_ALL
) -> Generator[NewFile]:
    """Give one file of `nbytes` bytes to fill; on leaving, it gets its name `out` in one step.

    Raises:
        OutputError: as `staged` does.
    """
    with staged({out: nbytes}, force=force, mode=mode) as stage:
        yield stage.open(out)


def check_output(out: Path, *, force: bool) -> None:
    """Check that `out` may be written.

    Raises:
        OutputError: it exists and `force` is false, it is no regular file (a folder, a device), or
            no file can have this name.
    """
    try:
        mode = os.stat(out).st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = None  # not there, or a link that leads nowhere
    except OSError as e:
        raise output_error(e, os.fspath(out)) from e
    except ValueError as e:  # a NUL in the name, or letters that the locale has no bytes for
        raise OutputError("no file can have this name here", where=os.fspath(out)) from e
    if mode is not None and stat.S_ISDIR(mode):
        raise OutputError("is a folder", where=os.fspath(out))
    if mode is not None and not stat.S_ISREG(mode):
        raise OutputError("is not a regular file", where=os.fspath(out))
    if not force and os.path.lexists(out):
        raise _exists(out)


def leftovers(folder: Path) -> tuple[Path, ...]:
    """List what runs that were killed have left in `folder`; they are never deleted unasked."""
    try:
        return tuple(sorted(path for path in folder.iterdir() if is_partial(path.name)))
    except OSError:  # no folder yet; whether it can be made shows when it is
        return ()


def clear_away(out: Path, pid: int) -> None:
    """Remove what process `pid`, which was killed, has left of `out`: of a file, or of a folder.

    What cannot be removed stays, and is reported by the next run as a leftover.
    """
    folders, name = [out.parent], out.name
    if out.is_dir():
        folders, name = [Path(folder) for folder, _, _ in os.walk(out, topdown=False)], ""
    for folder in folders:
        for left in leftovers(folder):
            if is_left_of(left.name, name, pid):
                with contextlib.suppress(OSError):
                    left.unlink()
        if out.is_dir():
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()


def _exists(out: Path) -> OutputError:
    return OutputError("already exists", where=os.fspath(out), hint="overwrite it with --force")


def _check_space(nbytes: Mapping[Path, int]) -> None:
    """Check that each disk has room for all that goes there."""
    by_disk: dict[int, list[Path]] = {}
    for out in nbytes:
        try:
            by_disk.setdefault(out.parent.stat().st_dev, []).append(out)
        except OSError as e:
            raise output_error(e, os.fspath(out)) from e
    for outs in by_disk.values():
        needed, where = sum(nbytes[out] for out in outs), os.fspath(outs[0])
        try:
            free = shutil.disk_usage(outs[0].parent).free
        except OSError as e:
            raise output_error(e, where) from e
        if needed > free:
            raise OutputError(
                f"not enough room: {needed:,} bytes needed, {free:,} free", where=where
            )


def _take_names(files: Sequence[NewFile], *, force: bool) -> None:
    for file in files:  # rather none than some
        check_output(file.out, force=force)
    taken: list[Path] = []
    try:
        for file in files:
            try:
                _take_name(file, force=force)
            except OSError as e:
                raise output_error(e, file.name) from e
            taken.append(file.out)
    except OutputError as e:
        if taken:
            names = ", ".join(out.name for out in taken)
            e.what = f"{e.what.removesuffix(NOTHING_LEFT)}; written before it: {names}"
        raise
    finally:
        for folder in {out.parent for out in taken}:
            sync_folder(folder)


def _take_name(file: NewFile, *, force: bool) -> None:
    if force:
        os.replace(file.partial, file.out)
    elif sys.platform == "win32":
        rename_free(file.partial, file.out)
    else:
        try:
            os.link(file.partial, file.out)  # takes a name only if it is free
        except OSError as e:
            if _is_linked(file):  # a server may answer a call twice, the second time with an error
                pass
            elif isinstance(e, FileExistsError):
                raise _exists(file.out) from None
            elif e.errno not in _NO_LINKS:
                raise
            else:
                check_output(file.out, force=False)
                rename_free(file.partial, file.out)
    file.is_named = True


def _is_linked(file: NewFile) -> bool:
    try:
        return os.path.samestat(os.lstat(file.partial), os.lstat(file.out))
    except OSError:
        return False


def rename_free(old: Path, new: Path) -> None:
    """Rename a file, and replace nothing where the system can promise so.

    Elsewhere (FAT, some network folders) a last look, before it is renamed, has to do.

    Raises:
        OutputError: `new` is taken.
        OSError: the operating system refused.
    """
    if sys.platform == "win32":
        try:
            os.rename(old, new)  # on Windows this never replaces
        except FileExistsError:
            raise _exists(new) from None
        return
    names = os.fsencode(old), os.fsencode(new)
    if sys.platform == "linux" and hasattr(libc(), "renameat2"):
        here, without_replacing = -100, 1  # AT_FDCWD, RENAME_NOREPLACE
        done = libc().renameat2(here, names[0], here, names[1], without_replacing)
    elif sys.platform == "darwin" and hasattr(libc(), "renamex_np"):
        done = libc().renamex_np(*names, 4)  # RENAME_EXCL
    else:
        _replace_free(old, new)
        return
    code = ctypes.get_errno()
    if done == 0:
        return
    if code == errno.EEXIST:
        raise _exists(new)
    if code not in _NO_SUCH_RENAME:
        raise OSError(code, os.strerror(code))
    _replace_free(old, new)


def _replace_free(old: Path, new: Path) -> None:
    if os.path.lexists(new):
        raise _exists(new)
    os.replace(old, new)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the system can do that."""
    if sys.platform == "win32":  # folders cannot be opened there
        return
    with contextlib.suppress(OSError):  # some network folders refuse; the file itself is synced
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
