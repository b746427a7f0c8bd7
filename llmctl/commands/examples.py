"""What stands under each help text: command lines to copy. A test reads each with the real parser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

import typer

PROGRAM = "llmctl"
_QUEUE_ID = "5f0c6f0e-2f0b-4a53-9a0c-6d1f1c1f5b1e"

EXAMPLES: Mapping[str, tuple[str, ...]] = {
    "": (
        "llmctl demo",
        "llmctl submit --file pairs.jsonl --callback-topic results --wait",
        "llmctl --context production monitor",
    ),
    "demo": ("llmctl demo", "llmctl demo --output json | jq .ledger"),
    "up": (
        "llmctl up",
        "llmctl up --scenario chaos --data-dir ./stack --usage-topic usage",
        "llmctl up --replicas 3 --queue-backend kafka",
    ),
    "serve": ("llmctl serve", "LLM_PROVIDER_SERVICE_PORT=8081 llmctl serve"),
    "submit": (
        "llmctl submit --file pairs.jsonl --callback-topic results --wait",
        "llmctl submit --file pairs.jsonl --receipts sent.jsonl --swap-check",
        "llmctl submit --file pairs.jsonl --callback-topic results --dry-run",
    ),
    "tail-callbacks": (
        "llmctl tail-callbacks results --from-beginning",
        "llmctl tail-callbacks --since 10m --where 'status:error e2e>5s'",
        "llmctl tail-callbacks results --output json | jq .envelope.data.winner",
    ),
    "rank": (
        "llmctl rank results",
        "llmctl rank results --where meta.prompt_id:phones --next 20",
        "llmctl tail-callbacks results --count 500 -o json | llmctl rank --file -",
    ),
    "cancel": (f"llmctl cancel {_QUEUE_ID}", "llmctl cancel --receipts sent.jsonl"),
    "audit": ("llmctl audit --receipts sent.jsonl", "llmctl audit results --journal --since 1h --late 1m"),
    "topics": ("llmctl topics list",),
    "topics bootstrap": (
        "llmctl topics bootstrap results --partitions 6",
        "llmctl topics bootstrap results --config retention.ms=604800000 --apply",
        "llmctl topics bootstrap --queue --dry-run",
    ),
    "topics list": ("llmctl topics list", "llmctl topics list --bootstrap-servers kafka-1:9092"),
    "topics describe": ("llmctl topics describe results",),
    "drain": (
        "llmctl drain --timeout 2m",
        "llmctl --context production drain --until-empty",
        "llmctl drain --resume",
    ),
    "doctor": (
        "llmctl doctor results",
        "llmctl --context production doctor --strict",
        "llmctl doctor results --round-trip",
    ),
    "providers": ("llmctl providers list",),
    "providers list": ("llmctl providers list", "llmctl providers list --output json | jq .circuit"),
    "providers hold": ("llmctl providers hold openai --for 15m",),
    "providers release": ("llmctl providers release openai",),
    "undelivered": ("llmctl undelivered list",),
    "undelivered list": ("llmctl undelivered list --topic results",),
    "undelivered resend": (f"llmctl undelivered resend {_QUEUE_ID}", "llmctl undelivered resend --all"),
    "usage": ("llmctl usage --days 7 --by day", "llmctl usage results --since 1h --by model"),
    "log-level": ("llmctl log-level debug --for 10m", "llmctl log-level"),
    "monitor": (
        "llmctl monitor --mock",
        "llmctl monitor --alert 'e2e:p99 > 5s for 20s' --record today.llmrec",
        "llmctl monitor --once --output json | jq .service.queue",
    ),
    "simulate": ("llmctl simulate load --rate 200/s --duration 30s",),
    "simulate load": (
        "llmctl simulate load --rate 200/s --duration 30s --report out",
        "llmctl simulate load --rate 50/s --threshold 'publish:p99 < 100ms'",
        "llmctl simulate load --shape 'poisson 50/s 1m' --fault 'broker cut at 9s'",
    ),
    "simulate sweep": ("llmctl simulate sweep --threshold 'e2e:p99 < 2s' --from 50/s --to 800/s",),
    "simulate compare": (
        "llmctl simulate compare before after",
        "llmctl simulate compare before after --fail-on-regression 10%",
    ),
    "simulate capacity": (
        "llmctl simulate capacity --rate 200/s --replicas 3",
        "llmctl simulate capacity --rate 3000000/h --latency 'p50=800ms p99=6s'",
    ),
    "simulate provider": (
        "llmctl simulate provider",
        "llmctl simulate provider --port 8090 --scenario flaky",
    ),
    "simulate broker": (
        "llmctl simulate broker --topic results:3",
        "llmctl simulate broker down",
    ),
    "simulate broker down": ("llmctl simulate broker down",),
    "simulate broker up": ("llmctl simulate broker up",),
    "simulate broker cut": ("llmctl simulate broker cut",),
    "simulate broker slow": ("llmctl simulate broker slow 500ms", "llmctl simulate broker slow 0s"),
    "simulate broker lose-acks": ("llmctl simulate broker lose-acks 2s",),
    "simulate broker topic-error": (
        "llmctl simulate broker topic-error results TOPIC_AUTHORIZATION_FAILED",
        "llmctl simulate broker topic-error results none",
    ),
    "simulate broker error": ("llmctl simulate broker error NOT_ENOUGH_REPLICAS --count 5",),
    "schema": ("llmctl schema openapi",),
    "schema openapi": ("llmctl schema openapi | jq .paths",),
    "schema asyncapi": ("llmctl schema asyncapi | jq .channels",),
    "schema jsonschema": (
        "llmctl schema jsonschema --output-dir schemas",
        "llmctl schema jsonschema llm-comparison-request",
    ),
    "config": ("llmctl config show",),
    "config show": ("llmctl config show", "llmctl --context production config show"),
    "config contexts": ("llmctl config contexts",),
    "config use": ("llmctl config use production",),
}
"""By the command's name without the program's; none for the program itself."""


def add_examples(app: typer.Typer) -> None:
    """Puts the examples under the help texts of all commands and groups."""
    for name, info in chain([("", app.registered_callback or app.info)], _walk(app)):
        examples = EXAMPLES.get(name)
        if examples:
            info.epilog = say_examples(examples)


def say_examples(examples: Iterable[str]) -> str:
    """The end of a help text."""
    return "\n".join(["Examples:", *(f"  $ {line}" for line in examples)])


def _walk(
    app: typer.Typer, path: str = ""
) -> Iterator[tuple[str, typer.models.CommandInfo | typer.models.TyperInfo]]:
    """Every command and group below one, by its full name."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{path}{command.name or command.callback.__name__.replace('_', '-')}", command
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield f"{path}{group.name}", group
        yield from _walk(group.typer_instance, f"{path}{group.name} ")
