"""`SafeClassifier`: the scikit-learn face, for activations that are in memory."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from shardgraph.data.arrays import ArrayDataset
from shardgraph.data.precision import check_half_precision, check_overflow
from shardgraph.errors import DataError, UsageError
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.outcome import ChangeOutcome, Verification
from shardgraph.forgetting.plan import Plan
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.model import SafeModel

Names = str | int | np.integer[Any] | Iterable[str | int | np.integer[Any]]
"""One name or several; numbers stand for their text."""

DEFAULT_SHARDS = 16
"""Shards where neither ``shards`` nor ``graph`` says how many."""


class SafeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of frozen activations that can forget any of its training samples exactly.

    Samples are split into shards by a keyed hash of their owner (of their id where there is
    none). Each node of the shard graph is a light attention adapter trained on the shards that it
    reads, or a head solved from sums over those that it tallies; the nodes are ensembled. `forget`
    brings up to date only the nodes that the samples influenced, and the result is byte-identical
    to a fit from scratch on what is left.

    Args:
        shards: number of shards; None takes it from ``graph``, or 16.
        graph: a topology (``"tallied"``, ``"isolated"``, ``"cliques:4"``, ``"ring:3"``,
            ``"hub:1"``, ``"complete"``, a path to a JSON file) or a `ShardGraph`.
        epochs: passes of every node over what it reads; None for the default of the recipe.
        recipe: further settings of the adapters, by name; see `shardgraph.nodes.recipe.Recipe`.
        tallies: shards that each node tallies beside what it reads: ``"none"``, ``"own"``,
            ``"all"`` or ``"all-but:G"``; None leaves the graph as it is.
        tally: further settings of nodes that tally, by name; see
            `shardgraph.nodes.tally_recipe.TallyRecipe`.
        seed: decides shards, order and every node's random stream.
        store: directory to keep everything in; None for a temporary one that goes with the object.

    Attributes:
        classes_: the sorted labels of the live samples, [C]; shrinks when a class is forgotten.
        n_features_in_: numbers per sample, T * D.
        model_: the `SafeModel` underneath.

    Example:
        >>> import numpy as np
        >>> from shardgraph import SafeClassifier
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 40)
        >>> X = rng.normal(size=(80, 8)) + 3 * y[:, None]
        >>> model = SafeClassifier(shards=4).fit(X, y, owners=np.arange(80) // 2)
        >>> outcome = model.forget(owners=3)
        >>> outcome.samples, len(outcome.nodes_refit), model.verify().equal
        (2, 0, True)

    Not guaranteed: equal bits on another machine or with other library versions (a change is
    refused); anything about the encoder that made the activations; copies that were made before.
    """

    def __init__(
        self,
        *,
        shards: int | None = None,
        graph: str | ShardGraph = "tallied",
        epochs: int | None = None,
        recipe: dict[str, Any] | None = None,
        tallies: str | None = None,
        tally: dict[str, Any] | None = None,
        seed: int = 0,
        store: str | Path | None = None,
    ) -> None:
        self.shards = shards
        self.graph = graph
        self.epochs = epochs
        self.recipe = recipe
        self.tallies = tallies
        self.tally = tally
        self.seed = seed
        self.store = store

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        ids: Sequence[Any] | None = None,
        owners: Sequence[Any] | None = None,
        sources: Sequence[Any] | None = None,
    ) -> Self:
        """Fit on activations ``X`` [N, D] or [N, T, D] with labels ``y`` [N].

        ``ids`` name the samples (by default their row numbers), ``owners`` and ``sources`` may
        hold None. All are turned into text. A second call starts anew; the earlier fit goes when
        the new one is complete.

        Raises:
            DataError: shapes or names do not fit, or ``X`` does not fit into float16.
            GraphError, RecipeError: impossible parameters.
            StoreExistsError: ``store`` is given and holds a store already.
        """
        tokens, y = self._validated(X, y, reset=True)
        check_classification_targets(y)
        check_half_precision(tokens)
        labels = np.unique(y)
        settings = FitSettings(
            shards=DEFAULT_SHARDS if self._needs_shards() else self.shards,
            graph=self.graph,
            epochs=self.epochs,
            recipe=self.recipe or {},
            tallies=self.tallies,
            tally=self.tally or {},
            seed=self.seed,
            label_type=labels.dtype.str if labels.dtype.kind in "biuf" else "text",
        )
        dataset = _dataset(tokens, y, ids, owners, sources)
        with ExitStack() as on_failure:
            path, cleaner = self._directory()
            if cleaner is not None:
                on_failure.callback(cleaner)
            model, _ = SafeModel.fit(dataset, path, settings)
            on_failure.pop_all()
        self.close()
        self.model_, self._cleaner = model, cleaner
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C] over ``classes_`` for activations [N, D] or [N, T, D].

        ``X`` is rounded to float16, as what was fitted is. Nodes that an unfinished request has
        fenced take no part.

        Raises:
            DataError: ``X`` has another shape than what was fitted, or exceeds float16.
            UsageError: no node is left that can answer.
        """
        return self._answer(X)[1]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each activation, [N]; see `predict_proba`."""
        classes, probabilities = self._answer(X)
        predicted: np.ndarray = classes[probabilities.argmax(axis=1)]
        return predicted

    def forget(
        self, samples: Names = (), *, owners: Names = (), sources: Names = ()
    ) -> ChangeOutcome:
        """Forget samples, owners or whole sources, and refit what they influenced.

        Raises:
            UnknownIdError: a name is unknown; nothing has changed.
        """
        check_is_fitted(self, "model_")
        return self.model_.forget(_request(samples, owners, sources))

    def plan(self, samples: Names = (), *, owners: Names = (), sources: Names = ()) -> Plan:
        """What `forget` with these names would do; nothing changes."""
        check_is_fitted(self, "model_")
        return self.model_.plan(_request(samples, owners, sources))

    def add(
        self,
        X: Any,
        y: Any,
        *,
        ids: Sequence[Any],
        owners: Sequence[Any] | None = None,
        sources: Sequence[Any] | None = None,
    ) -> ChangeOutcome:
        """Add samples, exactly as if they had been there from the first fit.

        Raises:
            DataError: labels of another type than those fitted, or an id that the store holds
                with another label, owner or source; nothing has changed.
        """
        check_is_fitted(self, "model_")
        tokens, y = self._validated(X, y, reset=False)
        check_half_precision(tokens)
        labels = _as_fitted(y, self.model_.label_type)
        return self.model_.add(_dataset(tokens, labels, ids, owners, sources))

    def verify(self, nodes: Sequence[int] | None = None) -> Verification:
        """Fit nodes from scratch in a fresh process and compare every byte."""
        check_is_fitted(self, "model_")
        return self.model_.verify(nodes)

    def save(self, path: str | Path) -> None:
        """Copy the store to ``path``, which must not exist.

        A copy knows nothing of requests that are made of this object later: forget there too.
        """
        check_is_fitted(self, "model_")
        self.model_.copy_to(Path(path))

    @classmethod
    def load(cls, path: str | Path, *, write: bool = True) -> Self:
        """A fitted classifier on the store at ``path``, which it then writes to.

        With ``write`` False it only answers, plans and verifies, and any number of processes may
        do so at once.

        Raises:
            StoreError: there is no store, or it cannot be opened.
            EnvironmentChangedError: refits here would give other bits; ``write`` False answers.
        """
        model = SafeModel.open(path, write=write)
        config = model.store.config
        classifier = cls(
            graph=model.graph,
            recipe=dict(config.recipe["adapter"]),
            tally=dict(config.recipe["tally"]),
            seed=config.seed,
            store=path,
        )
        classifier.model_ = model
        classifier.n_features_in_ = math.prod(model.token_shape)
        return classifier

    def close(self) -> None:
        """Release the store, and remove a temporary one; the object is not fitted afterwards."""
        if hasattr(self, "model_"):
            self.model_.close()
            del self.model_
        cleaner = self.__dict__.pop("_cleaner", None)
        if cleaner is not None:
            cleaner()

    @property
    def classes_(self) -> np.ndarray:
        """The sorted labels of the live samples, [C]."""
        if not hasattr(self, "model_"):
            raise AttributeError("SafeClassifier has no classes_ before fit.")
        labels = _labels(self.model_.classes, self.model_.label_type)
        return labels[np.argsort(labels)]

    def __getstate__(self) -> dict[str, Any]:
        if hasattr(self, "model_"):
            raise UsageError(
                "A fitted SafeClassifier is not pickled: the copy would escape every request.",
                advice="Use save and load.",
            )
        state: dict[str, Any] = super().__getstate__()
        return state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _validated(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """``X`` as float32, [N, D] or [N, T, D], checked as scikit-learn does; with ``y`` if given.

        An array of tokens is checked as one row of T * D numbers per sample.
        """
        shape: tuple[int, ...] = ()
        if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) > 2:
            X = np.asarray(X)
            shape = X.shape[1:]
            if len(shape) != 2 or 0 in shape:
                raise DataError(
                    f"X has the shape {X.shape}.",
                    advice="Pass [N, D], or [N, T, D] for T tokens each.",
                )
            X = X.reshape(len(X), -1)
        checked = validate_data(self, X, y, reset=reset, dtype=np.float32)
        X, *rest = checked if isinstance(checked, tuple) else (checked,)
        X = X.reshape(len(X), *shape) if shape else X
        return (X, *rest) if rest else X

    def _answer(self, X: Any) -> tuple[np.ndarray, np.ndarray]:
        """Classes in the order of their own type, and probabilities with columns in that order."""
        check_is_fitted(self, "model_")
        tokens = self._validated(X, reset=False)
        check_overflow(tokens)
        tokens = tokens.astype(np.float16)
        answer = self.model_.answer(tokens if tokens.ndim == 3 else tokens[:, np.newaxis, :])
        labels = _labels(answer.classes, self.model_.label_type)
        order = np.argsort(labels)
        return labels[order], answer.probabilities[:, order]

    def _needs_shards(self) -> bool:
        """Whether neither ``shards`` nor ``graph`` says how many shards there are."""
        preset = isinstance(self.graph, str) and not self.graph.endswith(".json")
        return self.shards is None and preset

    def _directory(self) -> tuple[Path, Callable[[], Any] | None]:
        """Where to fit, and for a temporary place what removes it."""
        if self.store is not None:
            return Path(self.store), None
        directory = tempfile.mkdtemp(prefix="shardgraph-")
        cleaner = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return Path(directory) / "store", cleaner


def _dataset(
    tokens: np.ndarray, y: np.ndarray, ids: Any, owners: Any, sources: Any
) -> ArrayDataset:
    return ArrayDataset(
        tokens,
        y.tolist(),
        ids=_column("ids", ids),
        owners=_column("owners", owners),
        sources=_column("sources", sources),
    )


def _column(name: str, values: Sequence[Any] | None) -> list[Any] | None:
    """Names as a list. NaN, with which tables say "nothing", would become one owner of many."""
    if values is None:
        return None
    names = list(values)
    for position, value in enumerate(names):
        if isinstance(value, float | np.floating) and np.isnan(value):
            raise DataError(
                f"{name}[{position}] is NaN.", advice="Use None where there is nothing to name."
            )
    return names


def _as_fitted(y: np.ndarray, label_type: str) -> np.ndarray:
    """Labels to be added, in the type of those that were fitted; refused if that changes them."""
    if label_type == "text":
        same = y.dtype.kind not in "biuf"
        converted = y
    else:
        same = y.dtype.kind in "biuf"
        converted = y.astype(label_type) if same else y
        same = same and bool((converted == y).all())
    if not same:
        raise DataError(
            f"The labels to be added are not of the type that was fitted ({label_type}).",
            advice="Convert them first.",
        )
    return converted


def _labels(names: Sequence[str], label_type: str) -> np.ndarray:
    """Stored labels, which are text, in the type they were fitted with; in the order given."""
    if label_type == "text":
        return np.array(names)
    dtype = np.dtype(label_type)
    if dtype.kind == "b":
        return np.array([name == "True" for name in names])
    return np.array([dtype.type(name) for name in names])


def _names(value: Names) -> list[str]:
    if isinstance(value, str | int | np.integer):
        return [str(value)]
    return [str(name) for name in value]


def _request(samples: Names, owners: Names, sources: Names) -> ForgetRequest:
    return ForgetRequest.of(samples=_names(samples), owners=_names(owners), sources=_names(sources))
