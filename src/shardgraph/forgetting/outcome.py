"""What was done, as plain values that reports and programs read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangeOutcome:
    """What fitting, adding or forgetting did.

    Attributes:
        action: "fit", "add" or "forget".
        samples: samples fitted, added or forgotten.
        passed_over: samples of the input that the store held already.
        bad_files: one line for each file that was left out.
        nodes_refit: nodes fitted in this change.
        nodes_dropped: nodes that ceased to exist.
        nodes_subtracted: nodes that only tallied: updated without a refit.
        samples_refit: sum over the fitted nodes of the samples that each read.
        generation: the number of the generation that answers now.
        digest: the digest of the influence state.
        seconds: wall time of the whole change.
        seconds_to_fence: wall time until the influenced nodes had stopped answering.
        seconds_to_publish: wall time until the new generation answered.
        request: the key of the request, for a forget.
    """

    action: str
    samples: int
    nodes_refit: tuple[int, ...]
    nodes_dropped: tuple[int, ...]
    samples_refit: int
    generation: int
    digest: str
    seconds: float
    nodes_subtracted: tuple[int, ...] = ()
    passed_over: int = 0
    bad_files: tuple[str, ...] = ()
    seconds_to_fence: float | None = None
    seconds_to_publish: float | None = None
    request: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """One node whose refit differs from what is stored."""

    node: int
    what: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of fitting nodes again in a fresh process and comparing bytes."""

    nodes: tuple[int, ...]
    differences: tuple[Difference, ...]
    bytes_compared: int
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether every byte was equal."""
        return not self.differences


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Accuracy of the ensemble on labelled samples that are not stored.

    ``unknown_labels`` are labels in the data that no live sample has; they count as wrong.
    """

    accuracy: float
    samples: int
    classes: int
    unknown_labels: tuple[str, ...]
    nodes: int
    fenced: tuple[int, ...]
    generation: int
    seconds: float
    bad_files: tuple[str, ...] = ()
