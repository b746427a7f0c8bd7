"""`llmctl --help` is fast because it loads nothing that it does not need."""

import subprocess
import sys

from tests.waiting import HANG_SECONDS

HEAVY = (
    *("aiokafka", "confluent_kafka", "starlette", "fastapi", "uvicorn", "textual", "httpx", "pydantic"),
    *("numpy", "scipy"),
)


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from llmctl.__main__ import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit as ended:\n    assert ended.code == 0\n"
        "sys.stderr.write(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG_SECONDS, check=True
    )
    loaded = set(done.stderr.split())
    assert "typer" in loaded
    assert loaded.isdisjoint(HEAVY)
