"""`llmctl`: runs a command, and says in one sentence why it did not do what was asked."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import TextIO, cast

import typer
from typer.main import get_command

from llmctl.app import app
from llmctl.completion import refuse_unknown_shell
from llmctl.exits import CliError, ExitCode, Failed, Interrupted
from llmctl.misspellings import explain_misuse
from llmctl.render.safe import safe_line

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command and ends the process with its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        # Where the terminal cannot show a character, its code is better than a crash.
        cast("TextIO", stream).reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    try:
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        code = ExitCode.FAILED
        _give_up_stdout()
    except OSError as problem:
        if problem.errno not in _CANNOT_WRITE or problem.filename is not None:
            raise
        code = ExitCode.FAILED
        _give_up_stdout()
        _complain(f"The output cannot be written: {problem.strerror}.", code, Failed("").kind, words)
    sys.exit(code)


def _give_up_stdout() -> None:
    # Python flushes stdout once more at its end, and would complain there.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(words: Sequence[str]) -> int:
    try:
        refuse_unknown_shell(words)
        returned = get_command(app).main(words, prog_name="llmctl", standalone_mode=False)
    except CliError as problem:
        _complain(str(problem), problem.code, problem.kind, words)
        return problem.code
    except (KeyboardInterrupt, typer.Abort):
        returned = ExitCode.INTERRUPTED
    except typer.TyperException as problem:
        if problem.format_message():  # none where it was the help text, which stands on stdout
            _complain(explain_misuse(problem), ExitCode.USAGE, "usage", words)
        return ExitCode.USAGE
    if returned == ExitCode.INTERRUPTED:
        _complain("Interrupted.", Interrupted.code, "interrupted", words)
    return returned if isinstance(returned, int) else ExitCode.DONE


def _complain(sentence: str, code: int, kind: str, words: Sequence[str]) -> None:
    """Says what went wrong on stderr, in the form in which data was asked for."""
    if _wants_json(words):
        document = {"error": {"kind": kind, "message": sentence, "exit_code": int(code)}}
        sys.stderr.write(json.dumps(document) + "\n")
    else:
        sys.stderr.write(safe_line(sentence) + "\n")


def _wants_json(words: Sequence[str]) -> bool:
    # Asked of the words themselves, since they may be what is wrong.
    pairs = pairwise(words)
    return any(word in {"--output=json", "-ojson"} for word in words) or any(
        (option, value) in {("--output", "json"), ("-o", "json")} for option, value in pairs
    )


if __name__ == "__main__":
    main()
