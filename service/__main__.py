"""`python -m service`: the service alone, configured by its environment."""

import argparse
import asyncio
import sys

import uvloop

from service.core.errors import BrokerUnavailable, ServiceError
from service.kafka.connection import KafkaMisconfigured
from service.lifecycle import run
from service.settings import Settings, SettingsInvalid, load_settings
from service.telemetry.logs import configure_logs
from service.telemetry.tracing import TracingUnavailable
from service.web.listener import HandedOverSocketUnusable
from service.wiring import build

EXIT_FAILED = 1
EXIT_WRONG_CONFIGURATION = 2
EXIT_OUT_OF_REACH = 3


def main(arguments: list[str] | None = None) -> int:
    """Runs the service until it is told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="The comparison service. Settings are environment variables LLM_PROVIDER_SERVICE_*.",
    )
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="drain and stop when stdin ends (the parent holds it)"
    )
    options = parser.parse_args(arguments)
    configure_logs()
    try:
        settings = load_settings()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(settings, exit_with_parent=options.exit_with_parent))
    except (SettingsInvalid, KafkaMisconfigured, HandedOverSocketUnusable, TracingUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_WRONG_CONFIGURATION
    except BrokerUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_OUT_OF_REACH
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    except ExceptionGroup:
        return EXIT_FAILED  # the task that died has said so in the log


async def _run(settings: Settings, *, exit_with_parent: bool) -> int:
    return await run(build(settings), exit_with_parent=exit_with_parent)


if __name__ == "__main__":
    sys.exit(main())
