"""Structured logs on stderr: JSON lines, or colored text on a terminal.

Events carry ids, codes, sizes and durations; never a prompt, an essay, an answer or a key. An exception is
logged by its type and its frames, because its message may quote what it stumbled over.
"""

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

_QUIET_LIBRARIES = ("aiokafka", "asyncio", "httpcore", "httpx", "uvicorn")


def configure_logs(level: str = "info") -> None:
    """Sets up this process's logs, once, at its start."""
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
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.WriteLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=_to_json)],
            wrapper_class=structlog.make_filtering_bound_logger(level),
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
