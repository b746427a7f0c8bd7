"""Production is framed in red before a change, and confirmed before something stops."""

import re
from io import StringIO

import pytest
from rich.console import Console

from llmctl.commands.production import confirm_in_production, frame_production
from llmctl.exits import UsageProblem
from llmctl.render.terminal import Output, Terminal
from llmctl.targets import Target

TARGET = Target("https://ann:secret@llm.example.com", "kafka-1:9092", context="live", environment="prod")
RED = "\x1b[31m"


def frame(target: Target, *, watched: bool = True, kafka: bool = False) -> str:
    written = StringIO()
    err = Console(file=written, force_terminal=watched, color_system="standard" if watched else None)
    frame_production(target, Terminal(Console(file=StringIO()), err, Output.JSON), kafka=kafka)
    return written.getvalue()


def test_names_context_and_place_in_a_red_frame() -> None:
    said = frame(TARGET)
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert RED in said
    assert "│ PRODUCTION · context live · https://ann:…@llm.example.com │" in plain
    assert len(plain.splitlines()) == 3


def test_names_the_kafka_where_that_is_changed() -> None:
    assert "PRODUCTION · context live · kafka-1:9092" in frame(TARGET, kafka=True)


@pytest.mark.parametrize("environment", [None, "staging", "preprod"])
def test_elsewhere_nothing_is_framed_or_asked(environment: str | None) -> None:
    target = Target(context="live", environment=environment)
    assert frame(target) == ""
    confirm_in_production(target, "Drain it?", order="drain it", declined="Nothing was drained.")


def test_a_pipe_gets_no_frame() -> None:
    assert frame(TARGET, watched=False) == ""


def test_where_nobody_can_be_asked_a_yes_is_wanted() -> None:
    with pytest.raises(UsageProblem) as refused:
        confirm_in_production(TARGET, "Drain it?", order="drain it", declined="Nothing was drained.")
    assert str(refused.value) == (
        "https://ann:…@llm.example.com is production: nobody can be asked here, so say --yes to drain it."
    )
