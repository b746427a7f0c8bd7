"""Wrong usage of any command is code 2 and one sentence; a service that is away is code 3."""

import pytest

from tests.flow.cli.conftest import Run, RunHere

NEITHER_OR_BOTH = "either queue ids, or --receipts FILE"
RECEIPTS_OR_JOURNAL = "either --receipts FILE, or --journal"
IDS_OR_ALL = "either their queue ids, or --all"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("audit",), RECEIPTS_OR_JOURNAL),
        (("audit", "--journal", "--receipts", "x"), RECEIPTS_OR_JOURNAL),
        (("audit", "--receipts", "/nowhere/x"), "cannot be read"),
        (("audit", "--receipts", "-"), "There is nothing to audit"),
        (("cancel",), NEITHER_OR_BOTH),
        (("cancel", "x", "--receipts", "y"), NEITHER_OR_BOTH),
        (("cancel", "-"), "There is nothing to cancel"),
        (("cancel", "--receipts", "-"), "There is nothing to cancel"),
        (("drain", "--resume", "--until-empty"), "goes with no other option"),
        (("drain", "--timeout", "0s"), "--timeout must be more than 0"),
        (("drain", "--timeout", "soon"), "no duration"),
        (("log-level", "loud"), "loud"),
        (("log-level", "--for", "1m"), "--for needs a level"),
        (("monitor", "--mock"), "--once --output json"),
        (("monitor", "--once", "--headless"), "choose one"),
        (("monitor", "--replay", "x", "--mock"), "choose one"),
        (("monitor", "--mock", "--control"), "--mock shows no service"),
        (("monitor", "--serve", "--control"), "read-only"),
        (("monitor", "--headless"), "--record"),
        (("monitor", "--speed", "2"), "--replay"),
        (("monitor", "--record-payloads"), "--record"),
        (("monitor", "--alert", "colour > 5"), "no metric"),
        (("monitor", "--alert", "goodput < 50%"), "referee"),
        (("monitor", "--replay", "/nowhere/x.llmrec", "--once"), "shows no service"),
        (("providers", "hold", "openai", "--for", "0s"), "--for 0s holds nothing"),
        (("providers", "hold", "openai", "--for", "soon"), "no duration"),
        (("undelivered", "resend"), IDS_OR_ALL),
        (("undelivered", "resend", "some-id", "--all"), IDS_OR_ALL),
        (("usage", "results", "--days", "3"), "--since DURATION"),
        (("usage", "--since", "1h"), "--days N"),
        (("usage", "--by", "topic"), "name topics"),
        (("usage", "--days", "0"), "--days"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_wrong_usage_is_code_2_and_one_sentence(
    llmctl_here: RunHere, words: tuple[str, ...], said: str
) -> None:
    ended = llmctl_here(*words)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [("cancel", "x"), ("drain",), ("monitor", "--once"), ("providers", "list"), ("undelivered", "list")],
    ids=" ".join,
)
def test_a_service_that_is_away_is_code_3(
    llmctl_here: RunHere, dead_port: int, words: tuple[str, ...]
) -> None:
    url = f"http://127.0.0.1:{dead_port}"
    ended = llmctl_here(*words, "--url", url)
    assert (ended.code, ended.out) == (3, "")
    assert f"No service answers at {url}; start one with `llmctl up`" in ended.err


@pytest.mark.parametrize("words", [("tail-callbacks",), ("topics", "list")], ids=" ".join)
async def test_a_broker_that_is_away_is_code_3(llmctl: Run, dead_port: int, words: tuple[str, ...]) -> None:
    ended = await llmctl(*words, "--bootstrap-servers", f"127.0.0.1:{dead_port}")
    assert (ended.code, ended.out) == (3, "")
    (sentence,) = ended.err.splitlines()  # and nothing that a library logs
    assert "No Kafka broker answers" in sentence
