"""Counts, sizes and spans as people read them, and what stands in a sentence of an error."""

from __future__ import annotations

_STEP = 1024
_DAY_SECONDS = 86_400


def say_bytes(count: int) -> str:
    """`1.5 GiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:,.1f} TiB"


def say_milliseconds(count: int) -> str:
    """`7 days`, `90 min`, `20 s`: rounded, for what is kept so long."""
    seconds = count / 1000
    for name, length in (("days", _DAY_SECONDS), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {name}"
    return f"{seconds:.3g} s"


def say_count(count: int, noun: str) -> str:
    """`1 broker`, `1,000 brokers`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def split_advice(sentence: str, otherwise: str) -> tuple[str, str]:
    """What is wrong and what to do, out of a sentence that says both; `otherwise` where it says only one."""
    seen, mark, advice = sentence.partition("; ")
    if not mark:
        return sentence.rstrip("."), otherwise
    return seen, f"{advice[:1].upper()}{advice[1:].rstrip('.')}{'' if advice.endswith('?') else '.'}"
