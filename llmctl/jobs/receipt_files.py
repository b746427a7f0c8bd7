"""Receipts of `submit` as others read them: a file, or standard input, that nobody writes to meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llmctl.jobs.batches import open_lines
from llmctl.jobs.receipt import Receipt, read_receipts


def read_receipt_file(path: str) -> Iterator[Receipt]:
    """Every receipt of a file, `-` is standard input; UsageProblem where it holds anything else."""
    with open_lines(path, "--receipts") as file:
        yield from read_receipts(file, Path(path))
