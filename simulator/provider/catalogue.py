"""The models that the fake provider knows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A model by the name that callers use and by the dated one that answers carry."""

    name: str
    snapshot: str
    created: int
    """Seconds since the epoch, as the vendor's model list gives it."""
    owner: str = "system"


OPENAI_MODELS: tuple[Model, ...] = (
    Model("gpt-4o-mini", "gpt-4o-mini-2024-07-18", 1_721_172_741),
    Model("gpt-4o", "gpt-4o-2024-08-06", 1_715_367_049),
    Model("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14", 1_744_318_173),
    Model("gpt-4.1", "gpt-4.1-2025-04-14", 1_744_316_542),
)


def find_openai_model(name: str) -> Model | None:
    """The model of that name or dated name, None where the catalogue has none."""
    for model in OPENAI_MODELS:
        if name in (model.name, model.snapshot):
            return model
    return None
