"""Structured logs on stderr: JSON lines, or colored text on a terminal.

Events carry ids, codes, sizes and durations; never a prompt, an essay, an answer or a key. An exception is
logged by its type and its frames, because its message may quote what it stumbled over.
"""

import asyncio
import logging
import sys
import time
import traceback
from collections.abc import Iterable
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

LIBRARY_REPEAT_SECONDS = 10.0
"""A library that says the same again and again (a broker that is away) is heard once in this time."""

LEVELS = ("debug", "info", "warning", "error")
"""What a service can be told to log from; critical events are always logged."""

_QUIET_LIBRARIES = ("aiokafka", "asyncio", "httpcore", "httpx", "uvicorn")


class LevelledLogger(structlog.make_filtering_bound_logger("debug")):  # type: ignore[misc]  # made at run time
    """A logger whose level can change while it is in use: structlog fixes it when a logger is made."""

    minimum = logging.INFO

    def debug(self, event: str, *args: Any, **facts: Any) -> Any:
        """Logs what is of use to whoever looks into something."""
        return super().debug(event, *args, **facts) if self.minimum <= logging.DEBUG else None

    def info(self, event: str, *args: Any, **facts: Any) -> Any:
        """Logs what goes as it should."""
        return super().info(event, *args, **facts) if self.minimum <= logging.INFO else None

    def warning(self, event: str, *args: Any, **facts: Any) -> Any:
        """Logs what somebody may want to look at."""
        return super().warning(event, *args, **facts) if self.minimum <= logging.WARNING else None


class LogLevel:
    """The level of this process's logs, for as long as somebody wants it."""

    def __init__(self, usual: str) -> None:
        self._usual = usual
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        set_log_level(usual)

    @property
    def current(self) -> str:
        """From which level on is logged."""
        return logging.getLevelName(LevelledLogger.minimum).lower()

    @property
    def seconds_left(self) -> float | None:
        """How long it stays so; None where it stays until it is changed."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def change(self, level: str, seconds: float | None) -> None:
        """Logs from this level on, for so long or, with None, until it is changed again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = self._until = None
        set_log_level(level)
        if seconds is not None:
            self._until = time.monotonic() + seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self._return)
        structlog.get_logger("service.logs").warning("log level changed", level=level, seconds=seconds)

    def _return(self) -> None:
        self.change(self._usual, None)


def set_log_level(level: str) -> None:
    """From here on everything below `level` is left out, by loggers in use, too."""
    LevelledLogger.minimum = logging.getLevelNamesMapping()[level.upper()]


def configure_logs(level: str = "info") -> None:
    """Sets up this process's logs, once, at its start."""
    set_log_level(level)
    terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
    ]
    if terminal:
        structlog.configure(
            processors=[
                *shared,
                structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
            ],
            wrapper_class=LevelledLogger,
            logger_factory=structlog.WriteLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=_to_json)],
            wrapper_class=LevelledLogger,
            logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    for name in _QUIET_LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)


def _to_json(event: EventDict, **_: Any) -> bytes:
    # Text from outside may hold half a surrogate pair, which UTF-8 cannot carry.
    try:
        return orjson.dumps(event, default=str)
    except orjson.JSONEncodeError:
        return orjson.dumps({key: ascii(value) for key, value in event.items()})


def _describe_exception(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["exception"] = type(error).__name__
        event["frames"] = list(_frames(error))
    return event


def _frames(error: BaseException) -> Iterable[str]:
    for frame in traceback.extract_tb(error.__traceback__):
        yield f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}"


class _LibraryHandler(logging.Handler):
    """Brings what libraries log into the same stream, each sentence at most once in ten seconds."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        key = (record.name, str(record.msg))
        now = time.monotonic()
        if now - self._said.get(key, -LIBRARY_REPEAT_SECONDS) < LIBRARY_REPEAT_SECONDS:
            return
        self._said[key] = now
        logger = structlog.get_logger(record.name)
        logger.log(
            record.levelno, record.getMessage(), exc_info=record.exc_info[1] if record.exc_info else None
        )
