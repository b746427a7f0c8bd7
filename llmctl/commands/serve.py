"""`llmctl serve`: the service alone."""

from __future__ import annotations

import os
import sys


def serve() -> None:
    """Run the service alone; its settings are LLM_PROVIDER_SERVICE_* variables or a .env file."""
    # -P: a folder named `service` where the user stands is not ours.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "service"])  # noqa: S606 - replacing is the point
