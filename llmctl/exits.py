"""How a command ends: the exit codes, and the exceptions that carry them.

CliError               1
├── Failed             1    done, but not all of it succeeded
├── UsageProblem       2    wrong usage or configuration
├── Unreachable        3    service, broker or provider out of reach
├── LimitNotMet        4    a threshold or time limit was not met
├── CallbackProblem    5    a callback lost, duplicated or wrong
├── GeneratorLimited   6    the load generator itself was the bottleneck
└── Interrupted      130    ended by a signal
"""

from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What a script can hold on to after any command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    LIMIT_NOT_MET = 4
    CALLBACK_PROBLEM = 5
    GENERATOR_LIMITED = 6
    INTERRUPTED = 130


class CliError(Exception):
    """Ends a command; its text is one sentence: what is wrong, where, what to do."""

    code: ClassVar[ExitCode] = ExitCode.FAILED

    @property
    def kind(self) -> str:
        """The error's name for machines."""
        return self.code.name.lower()


class Failed(CliError):
    """The command ran to its end, but not everything succeeded."""


class UsageProblem(CliError):
    """What was asked makes no sense, or a file or name does not exist."""

    code = ExitCode.USAGE


class Unreachable(CliError):
    """Service, broker or provider does not answer."""

    code = ExitCode.UNREACHABLE


class LimitNotMet(CliError):
    """A threshold was not met, or a time limit passed before what was waited for had happened."""

    code = ExitCode.LIMIT_NOT_MET


class CallbackProblem(CliError):
    """A callback was lost, came twice, or was wrong."""

    code = ExitCode.CALLBACK_PROBLEM


class GeneratorLimited(CliError):
    """What was measured is the load generator, not the service."""

    code = ExitCode.GENERATOR_LIMITED


class Interrupted(CliError):
    """A signal ended the command."""

    code = ExitCode.INTERRUPTED
