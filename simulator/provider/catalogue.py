"""The models that the fake provider knows, as far as the vendors' model pages and SDKs describe them.

Prices are USD per million tokens. They are what the fake provider says it bills, nobody's price list.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model by the name that callers use and by the dated one that answers carry."""

    vendor: str
    """Whose API offers it: `openai`, `anthropic`, `google` or `openrouter`."""
    name: str
    snapshot: str
    title: str
    created: int
    """Seconds since the epoch, as the vendor's model list gives it."""
    context_window_tokens: int
    output_limit_tokens: int
    prompt_usd_per_million: float
    cached_prompt_usd_per_million: float
    completion_usd_per_million: float
    thinks: bool = False
    """It thinks before it answers, which is billed as output."""
    owner: str = "system"
    """At OpenRouter the provider that the call goes on to."""

    def price(self, prompt_tokens: int, cached_tokens: int, completion_tokens: int) -> float:
        """What a call costs in USD; cached tokens are part of the prompt's."""
        return (
            (prompt_tokens - cached_tokens) * self.prompt_usd_per_million
            + cached_tokens * self.cached_prompt_usd_per_million
            + completion_tokens * self.completion_usd_per_million
        ) / 1_000_000


def _model(
    vendor: str,
    name: str,
    snapshot: str,
    title: str,
    created: int,
    limits: tuple[int, int],
    usd: tuple[float, float, float],
    *,
    thinks: bool = False,
    owner: str = "system",
) -> Model:
    return Model(vendor, name, snapshot, title, created, *limits, *usd, thinks, owner)


_SMALL, _LARGE = (128_000, 16_384), (1_047_576, 32_768)
_GPT_5 = (400_000, 128_000)
_CLAUDE_5 = (1_000_000, 128_000)
_GPT_6 = (1_050_000, 128_000)
_CLAUDE, _GEMINI, _OLD_GEMINI = (200_000, 64_000), (1_048_576, 65_536), (1_048_576, 8_192)

_THINKERS = ("o4", "gpt-5", "gpt-6")

OPENAI_MODELS: tuple[Model, ...] = tuple(
    _model("openai", name, f"{name}-{day}", name, created, limits, usd, thinks=name.startswith(_THINKERS))
    for name, day, created, limits, usd in (
        ("gpt-6-luna", "2026-09-15", 1_789_430_400, _GPT_6, (0.10, 0.01, 0.50)),
        ("gpt-6-sol", "2026-09-15", 1_789_430_400, _GPT_6, (2.00, 0.20, 10.00)),
        ("gpt-4o-mini", "2024-07-18", 1_721_172_741, _SMALL, (0.15, 0.075, 0.60)),
        ("gpt-4o", "2024-08-06", 1_715_367_049, _SMALL, (2.50, 1.25, 10.00)),
        ("gpt-4.1-mini", "2025-04-14", 1_744_318_173, _LARGE, (0.40, 0.10, 1.60)),
        ("gpt-4.1", "2025-04-14", 1_744_316_542, _LARGE, (2.00, 0.50, 8.00)),
        ("gpt-4.1-nano", "2025-04-14", 1_744_321_707, _LARGE, (0.10, 0.025, 0.40)),
        ("o4-mini", "2025-04-16", 1_744_225_351, (200_000, 100_000), (1.10, 0.275, 4.40)),
        ("gpt-5", "2025-08-07", 1_754_425_777, _GPT_5, (1.25, 0.125, 10.00)),
        ("gpt-5-mini", "2025-08-07", 1_754_425_928, _GPT_5, (0.25, 0.025, 2.00)),
        ("gpt-5-nano", "2025-08-07", 1_754_426_384, _GPT_5, (0.05, 0.005, 0.40)),
    )
)

ANTHROPIC_MODELS: tuple[Model, ...] = tuple(
    _model(
        "anthropic",
        name,
        f"{name}-{day}" if day else name,
        title,
        created,
        limits,
        usd,
        thinks=name.endswith("-5-5"),
    )
    for name, day, title, created, limits, usd in (
        ("claude-opus-5-5", "", "Claude Opus 5.5", 1_790_000_000, _CLAUDE_5, (4.00, 0.20, 20.00)),
        ("claude-sonnet-5-5", "", "Claude Sonnet 5.5", 1_790_000_000, _CLAUDE_5, (2.00, 0.10, 10.00)),
        ("claude-haiku-5-5", "", "Claude Haiku 5.5", 1_790_000_000, _CLAUDE_5, (0.10, 0.01, 0.50)),
        ("claude-opus-4-5", "20251101", "Claude Opus 4.5", 1_763_942_400, _CLAUDE, (5.00, 0.50, 25.00)),
        ("claude-haiku-4-5", "20251001", "Claude Haiku 4.5", 1_760_486_400, _CLAUDE, (1.00, 0.10, 5.00)),
        ("claude-sonnet-4-5", "20250929", "Claude Sonnet 4.5", 1_759_104_000, _CLAUDE, (3.00, 0.30, 15.00)),
    )
)

GOOGLE_MODELS: tuple[Model, ...] = tuple(
    _model("google", name, snapshot, title, 0, limits, usd, thinks=thinks)
    for name, snapshot, title, limits, usd, thinks in (
        (
            "gemini-3.8-flash", "gemini-3.8-flash", "Gemini 3.8 Flash", _GEMINI,
            (0.75, 0.075, 3.75), True,
        ),
        (
            "gemini-3.1-pro-preview", "gemini-3.1-pro-preview", "Gemini 3.1 Pro", _GEMINI,
            (2.00, 0.20, 12.00), True,
        ),
        (
            "gemini-3.5-flash-lite", "gemini-3.5-flash-lite", "Gemini 3.5 Flash-Lite", _GEMINI,
            (0.30, 0.03, 2.50), False,
        ),
        ("gemini-2.5-pro", "gemini-2.5-pro", "Gemini 2.5 Pro", _GEMINI, (1.25, 0.125, 10.00), True),
        ("gemini-2.5-flash", "gemini-2.5-flash", "Gemini 2.5 Flash", _GEMINI, (0.30, 0.03, 2.50), True),
        (
            "gemini-2.5-flash-lite", "gemini-2.5-flash-lite", "Gemini 2.5 Flash-Lite", _GEMINI,
            (0.10, 0.01, 0.40), False,
        ),
        (
            "gemini-2.0-flash", "gemini-2.0-flash-001", "Gemini 2.0 Flash", _OLD_GEMINI,
            (0.10, 0.025, 0.40), False,
        ),
        (
            "gemini-2.0-flash-lite", "gemini-2.0-flash-lite-001", "Gemini 2.0 Flash-Lite", _OLD_GEMINI,
            (0.075, 0.075, 0.30), False,
        ),
    )
)  # fmt: skip

OPENROUTER_MODELS: tuple[Model, ...] = tuple(
    _model("openrouter", name, name, title, created, limits, usd, owner=owner, thinks=thinks)
    for name, title, owner, created, limits, usd, thinks in (
        (
            "openai/gpt-4o-mini", "OpenAI: GPT-4o-mini", "OpenAI", 1_721_260_800, _SMALL,
            (0.15, 0.075, 0.60), False,
        ),
        ("openai/gpt-4o", "OpenAI: GPT-4o", "OpenAI", 1_715_558_400, _SMALL, (2.50, 1.25, 10.00), False),
        (
            "openai/gpt-4.1-mini", "OpenAI: GPT-4.1 Mini", "OpenAI", 1_744_651_381, _LARGE,
            (0.40, 0.10, 1.60), False,
        ),
        (
            "google/gemini-3.5-flash-lite", "Google: Gemini 3.5 Flash Lite", "Google AI Studio",
            1_790_000_000, _GEMINI, (0.30, 0.03, 2.50), False,
        ),
        (
            "openai/gpt-5-mini", "OpenAI: GPT-5 Mini", "OpenAI", 1_754_587_407, _GPT_5,
            (0.25, 0.025, 2.00), True,
        ),
        (
            "anthropic/claude-haiku-4.5", "Anthropic: Claude Haiku 4.5", "Anthropic", 1_760_547_638, _CLAUDE,
            (1.00, 0.10, 5.00), False,
        ),
        (
            "anthropic/claude-sonnet-4.5", "Anthropic: Claude Sonnet 4.5", "Anthropic", 1_759_161_676,
            _CLAUDE, (3.00, 0.30, 15.00), False,
        ),
        (
            "google/gemini-2.0-flash-001", "Google: Gemini 2.0 Flash", "Google AI Studio", 1_738_769_413,
            _OLD_GEMINI, (0.10, 0.025, 0.40), False,
        ),
        (
            "google/gemini-2.5-flash", "Google: Gemini 2.5 Flash", "Google AI Studio", 1_750_172_488, _GEMINI,
            (0.30, 0.03, 2.50), True,
        ),
    )
)  # fmt: skip


def find_model(models: tuple[Model, ...], name: str) -> Model | None:
    """The model of that name or dated name, None where there is none."""
    return next((model for model in models if name in (model.name, model.snapshot)), None)
