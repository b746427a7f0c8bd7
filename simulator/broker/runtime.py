"""Where the control sockets of running brokers live: one private folder per user."""

import os
import stat
import warnings
from pathlib import Path

import platformdirs

from simulator.broker.errors import ControlError

RUNTIME_DIR_VARIABLE = "LLMCTL_RUNTIME_DIR"
MAX_SOCKET_PATH_BYTES = 103  # sun_path holds 104 bytes on macOS and 108 on Linux, with the closing NUL


def find_runtime_folder() -> Path:
    """The folder of the control sockets, whether or not it exists yet; LLMCTL_RUNTIME_DIR overrides it."""
    if chosen := os.environ.get(RUNTIME_DIR_VARIABLE):
        return Path(chosen).absolute()
    try:
        with warnings.catch_warnings():
            # Without a login session platformdirs warns, and takes a per-user folder under the temporary one.
            warnings.simplefilter("ignore")
            return Path(platformdirs.user_runtime_dir("llmctl"))
    except OSError as error:
        raise ControlError(
            f"There is no safe folder for sockets ({error}); set {RUNTIME_DIR_VARIABLE}."
        ) from error


def open_runtime_folder() -> Path:
    """The same folder, created if need be; ControlError if somebody else could reach into it."""
    folder = find_runtime_folder()
    try:
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ControlError(
            f"The runtime folder {folder} cannot be created ({error.strerror}); "
            f"set {RUNTIME_DIR_VARIABLE} to another."
        ) from error
    check_runtime_folder(folder)
    return folder


def check_runtime_folder(folder: Path) -> None:
    """Raise ControlError unless this existing folder is ours alone."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise ControlError(f"{folder} is not a folder; remove it or set {RUNTIME_DIR_VARIABLE} to another.")
    if found.st_uid != os.getuid():
        raise ControlError(
            f"The runtime folder {folder} is another user's; set {RUNTIME_DIR_VARIABLE} to one of yours."
        )
    if found.st_mode & 0o077:
        raise ControlError(
            f"Other users can reach into the runtime folder {folder}; run `chmod 700` on it "
            f"or set {RUNTIME_DIR_VARIABLE} to another."
        )


def control_path(folder: Path, port: int) -> Path:
    """The control socket of the broker on `port`; ControlError if the system cannot hold a path that long."""
    path = folder / f"broker-{port}.sock"
    if (size := len(os.fsencode(path))) > MAX_SOCKET_PATH_BYTES:
        raise ControlError(
            f"The control socket {path} has too long a path ({size} bytes, {MAX_SOCKET_PATH_BYTES} fit); "
            f"set {RUNTIME_DIR_VARIABLE} to a shorter folder."
        )
    return path
