"""The files of a batch: what a crash leaves behind is set right, and what is none of ours stays untouched."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from llmctl.exits import UsageProblem
from llmctl.jobs.batch_file import HEADER_BYTES, find_batch_file
from llmctl.jobs.batches import Defaults, Line
from llmctl.jobs.receipt import Receipt
from llmctl.jobs.receipts import Receipts, open_receipts, peek_standing
from llmctl.jobs.survey import Batch, Survey, survey
from llmctl.jobs.swaps import NameKeys
from service.contracts.requests import LLMQueuedResponse
from tests.flow.cli.conftest import GOOD as TEXTS
from tests.flow.cli.conftest import as_lines, read_lines

GOOD = TEXTS | {"callback_topic": "t"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receipts.jsonl"


@contextmanager
def open_batch(path: Path, lines: bytes, *, swaps: bool = False) -> Iterator[tuple[Batch, Receipts]]:
    with open_receipts(path) as receipts:
        yield Batch(BytesIO(lines), Defaults(), NameKeys() if swaps else None, receipts), receipts


def look(path: Path, lines: bytes, *, swaps: bool = False) -> Survey:
    with open_batch(path, lines, swaps=swaps) as (batch, _):
        return survey(batch)


def accept(line: Line, receipts: Receipts) -> None:
    receipts.note(line)
    answer = LLMQueuedResponse(
        queue_id=str(uuid4()), correlation_id=uuid4(), callback_topic="t", queue_position=1, message="m"
    )
    receipts.write(Receipt.of(line, answer))


def run(path: Path, lines: bytes, *, swaps: bool = False) -> UUID:
    with open_batch(path, lines, swaps=swaps) as (batch, receipts):
        survey(batch)
        for line in batch.read():
            if not receipts.holds(line):
                accept(line, receipts)
        return receipts.batch_id


LINES = as_lines(GOOD, GOOD)


@pytest.mark.parametrize("cut", [1, 20, -1])
def test_a_torn_receipt_is_cut_off(path: Path, cut: int) -> None:
    batch_id = run(path, LINES)
    whole = path.read_bytes()
    end_of_first = whole.index(b"\n") + 1
    torn = bytes(30) if cut < 0 else whole[end_of_first : end_of_first + cut]
    path.write_bytes(whole[:end_of_first] + torn)
    assert peek_standing(path).count == 1
    with open_batch(path, LINES) as (batch, receipts):
        assert (receipts.torn_bytes, receipts.batch_id) == (len(torn), batch_id)
        first, second = batch.read()
        assert (receipts.holds(first), receipts.is_in_doubt(first)) == (True, False)
        assert (receipts.holds(second), receipts.is_in_doubt(second)) == (False, True)
        accept(second, receipts)
        assert [receipt.line for receipt in receipts.read()] == [1, 2]


def test_a_receipt_without_its_newline_is_whole(path: Path) -> None:
    run(path, LINES)
    path.write_bytes(path.read_bytes()[:-1])
    run(path, LINES + as_lines(GOOD))
    assert [each["line"] for each in read_lines(path.read_text())] == [1, 2, 3]


def test_a_batch_outlives_crashes_but_not_its_receipts(path: Path) -> None:
    with open_receipts(path) as receipts:
        batch_id = receipts.batch_id
        assert not receipts.goes_on
    with open_receipts(path) as receipts:  # the run before died before its first receipt
        assert (receipts.batch_id, receipts.goes_on) == (batch_id, True)
    run(path, LINES)
    path.write_bytes(path.read_bytes()[:5])  # the first receipt was torn
    with open_receipts(path) as receipts:
        assert (receipts.batch_id, path.read_bytes()) == (batch_id, b"")
    with open_receipts(path) as receipts:
        assert receipts.batch_id == batch_id
    path.write_bytes(b"")
    with open_receipts(path) as receipts:
        emptied = receipts.batch_id
    path.unlink()
    with open_receipts(path) as receipts:
        assert len({batch_id, emptied, receipts.batch_id}) == 3
        assert not any(receipts.is_in_doubt(Line(number, GOOD)) for number in (1, 2))


def test_a_batch_file_that_was_just_made_is_no_batch(path: Path) -> None:
    """The process died after it created the file: nothing had been sent."""
    find_batch_file(path).touch()
    with open_receipts(path) as receipts:
        assert not receipts.goes_on
    assert find_batch_file(path).stat().st_size == HEADER_BYTES


@pytest.mark.parametrize(
    ("lines", "swaps", "said"),
    [
        (as_lines(GOOD, GOOD | {"essay_a": "x"}), False, "Line 2 is not what was accepted as line 2"),
        (as_lines(GOOD | {"priority": 1}, GOOD), False, "the file or the options have changed"),
        (as_lines(GOOD) + b"no JSON\n", False, "Line 2 is not what was accepted"),
        (b"\n" + LINES, False, "hold 1 requests that the file does not have"),
        (as_lines(GOOD), False, "(the last is of line 2)"),
        (LINES, True, "Line 1 is not what was accepted"),
    ],
)
def test_receipts_of_other_lines_are_refused(path: Path, lines: bytes, swaps: bool, said: str) -> None:
    """Skipping a line by its number alone would lose a request."""
    run(path, LINES)
    with pytest.raises(UsageProblem) as refusal:
        look(path, lines, swaps=swaps)
    assert said in str(refusal.value)


def test_the_same_said_otherwise_is_the_same(path: Path) -> None:
    run(path, LINES)
    reordered = json.dumps(dict(reversed(GOOD.items())), indent=None, separators=(" , ", " : ")).encode()
    assert look(path, reordered + b"\n" + as_lines(GOOD, GOOD)) == Survey(3, 2, frozenset({"t"}))


def test_both_halves_of_a_pair_have_receipts(path: Path) -> None:
    run(path, LINES, swaps=True)
    marks = [(each["line"], each.get("swapped")) for each in read_lines(path.read_text())]
    assert marks == [(1, None), (1, True), (2, None), (2, True)]
    assert look(path, LINES, swaps=True) == Survey(4, 4, frozenset({"t"}))
    with pytest.raises(UsageProblem, match="Line 1 is not what was accepted"):
        look(path, LINES)


def test_receipts_are_enough_without_what_stands_beside_them(path: Path) -> None:
    run(path, LINES)
    find_batch_file(path).unlink()
    with open_batch(path, as_lines(GOOD | {"essay_a": "x"}, GOOD, GOOD)) as (batch, receipts):
        assert (receipts.is_orphaned, survey(batch).standing) == (True, 2)
        accept(list(batch.read())[2], receipts)
    with open_batch(path, as_lines(GOOD | {"essay_a": "x"}, GOOD, GOOD)) as (batch, receipts):
        assert (receipts.is_orphaned, survey(batch).standing) == (False, 3)


def test_receipts_of_swaps_without_the_swap_check_are_told_apart(path: Path) -> None:
    run(path, LINES, swaps=True)
    find_batch_file(path).unlink()
    with pytest.raises(UsageProblem, match="of a run with --swap-check; give it again"):
        look(path, LINES)


@pytest.mark.parametrize("text", ["An essay.", '{"line": 1}\n', '{"user_prompt": "p"}\n{"line": ', "[]\n"])
def test_a_file_that_holds_no_receipts_is_not_touched(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(UsageProblem, match="is no receipt"), open_receipts(path):
        pass
    assert path.read_text() == text
    assert not find_batch_file(path).exists()


def test_a_file_with_the_name_of_the_batch_is_not_touched(path: Path) -> None:
    find_batch_file(path).write_text("mine")
    with pytest.raises(UsageProblem, match="take another --receipts"), open_receipts(path):
        pass
    assert find_batch_file(path).read_text() == "mine"


def test_receipts_belong_to_one_process_at_a_time(path: Path) -> None:
    with open_receipts(path) as receipts:
        with (
            pytest.raises(UsageProblem, match="Another process is at work with the receipts"),
            open_receipts(path),
        ):
            pass
        accept(Line(1, GOOD), receipts)
    with open_receipts(path) as receipts:
        assert receipts.standing.count == 1


@pytest.mark.parametrize("place", ["folder", "folder/missing/receipts"])
def test_a_place_that_cannot_hold_a_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageProblem, match="cannot be opened"), open_receipts(tmp_path / place):
        pass


def test_looking_leaves_no_trace(path: Path) -> None:
    assert peek_standing(path).count == 0
    assert not path.exists()
