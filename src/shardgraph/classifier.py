"""`SafeClassifier`: the scikit-learn face, for activations that are in memory."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from shardgraph.data.arrays import ArrayDataset
from shardgraph.errors import DataError, UsageError
from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.outcome import ChangeOutcome, Verification
from shardgraph.forgetting.plan import Plan
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.model import SafeModel

Names = str | int | Iterable[str | int]


class SafeClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of frozen activations that can forget any of its training samples exactly.

    Samples are split into shards by a keyed hash of their owner (of their id where there is
    none). Each node of the shard graph is a light attention adapter trained on the shards that it
    reads; the nodes are ensembled. `forget` refits only the nodes that the samples influenced, and
    the result is byte-identical to a fit from scratch on what is left.

    Args:
        shards: number of shards; None takes it from ``graph``, or 16.
        graph: a topology (``"isolated"``, ``"cliques:4"``, ``"ring:3"``, ``"hub:1"``,
            ``"complete"``, a path to a JSON file) or a `ShardGraph`.
        epochs: passes of every node over what it reads; None for the default of the recipe.
        recipe: further settings of the adapters, by name; see `shardgraph.nodes.recipe.Recipe`.
        seed: decides shards, order and every node's random stream.
        store: directory to keep everything in; None for a temporary one that goes with the object.

    Attributes:
        classes_: the sorted labels of the live samples, [C]; shrinks when a class is forgotten.
        n_features_in_: width D of a token.
        model_: the `SafeModel` underneath.

    Example:
        >>> import numpy as np
        >>> from shardgraph import SafeClassifier
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 40)
        >>> X = rng.normal(size=(80, 8)) + 3 * y[:, None]
        >>> model = SafeClassifier(shards=4, epochs=10).fit(X, y, owners=np.arange(80) // 2)
        >>> outcome = model.forget(owners=3)
        >>> outcome.samples, len(outcome.nodes_refit), model.verify().equal
        (2, 1, True)

    Not guaranteed: equal bits on another machine or with other library versions (a change is
    refused); anything about the encoder that made the activations; copies that were made before.
    """

    def __init__(
        self,
        *,
        shards: int | None = None,
        graph: str | ShardGraph = "isolated",
        epochs: int | None = None,
        recipe: dict[str, Any] | None = None,
        seed: int = 0,
        store: str | Path | None = None,
    ) -> None:
        self.shards = shards
        self.graph = graph
        self.epochs = epochs
        self.recipe = recipe
        self.seed = seed
        self.store = store

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        ids: Sequence[str | int] | None = None,
        owners: Sequence[Any] | None = None,
        sources: Sequence[Any] | None = None,
    ) -> Self:
        """Fit on activations ``X`` [N, D] or [N, T, D] with labels ``y`` [N].

        ``ids`` name the samples (by default their row numbers), ``owners`` and ``sources`` may
        hold None. All are turned into text. A second call starts anew, in a new temporary store.

        Raises:
            DataError: shapes or names do not fit, or a value does not fit into float16.
            StoreExistsError: ``store`` is given and holds a store already.
        """
        X, y = validate_data(self, X, y, allow_nd=True, dtype=np.float32)
        _check_dimensions(X)
        check_classification_targets(y)
        self._close()
        labels = np.unique(y)
        dataset = ArrayDataset(X, y.tolist(), ids=ids, owners=owners, sources=sources)
        settings = FitSettings(
            shards=self.shards,
            graph=self.graph,
            epochs=self.epochs,
            recipe=self.recipe or {},
            seed=self.seed,
            label_type=labels.dtype.str if labels.dtype.kind in "biuf" else "text",
        )
        path = self._directory()
        self.model_, _ = SafeModel.fit(dataset, path, settings)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities [N, C] over ``classes_`` for activations [N, D] or [N, T, D].

        Nodes that an unfinished request has fenced take no part.

        Raises:
            UsageError: no node is left that can answer.
        """
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, allow_nd=True, dtype=np.float32)
        _check_dimensions(X)
        return self._answer(X)[1]

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each activation, [N]."""
        check_is_fitted(self, "model_")
        X = validate_data(self, X, reset=False, allow_nd=True, dtype=np.float32)
        _check_dimensions(X)
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
        ids: Sequence[str | int],
        owners: Sequence[Any] | None = None,
        sources: Sequence[Any] | None = None,
    ) -> ChangeOutcome:
        """Add samples, exactly as if they had been there from the first fit."""
        check_is_fitted(self, "model_")
        X, y = validate_data(self, X, y, reset=False, allow_nd=True, dtype=np.float32)
        _check_dimensions(X)
        dataset = ArrayDataset(X, y.tolist(), ids=ids, owners=owners, sources=sources)
        return self.model_.add(dataset)

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
    def load(cls, path: str | Path) -> Self:
        """A fitted classifier on the store at ``path``, which it then writes to."""
        model = SafeModel.open(path, write=True)
        config = model.store.config
        classifier = cls(
            graph=model.graph, recipe=dict(config.recipe), seed=config.seed, store=path
        )
        classifier.model_ = model
        classifier.n_features_in_ = model.token_shape[1]
        return classifier

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

    def _answer(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Classes in the order of their own type, and probabilities with columns in that order."""
        answer = self.model_.answer(X if X.ndim == 3 else X[:, np.newaxis, :])
        labels = _labels(answer.classes, self.model_.label_type)
        order = np.argsort(labels)
        return labels[order], answer.probabilities[:, order]

    def _directory(self) -> Path:
        if self.store is not None:
            return Path(self.store)
        directory = tempfile.mkdtemp(prefix="shardgraph-")
        self._cleaner = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        return Path(directory) / "store"

    def _close(self) -> None:
        if hasattr(self, "model_"):
            self.model_.close()
            del self.model_
        if hasattr(self, "_cleaner"):
            self._cleaner()
            del self._cleaner


def _check_dimensions(X: np.ndarray) -> None:
    if X.ndim not in (2, 3):
        raise DataError(
            f"X has {X.ndim} dimensions.", advice="Pass [N, D], or [N, T, D] for T tokens each."
        )


def _labels(names: Sequence[str], label_type: str) -> np.ndarray:
    """Stored labels, which are text, in the type they were fitted with; in the order given."""
    if label_type == "text":
        return np.array(names)
    dtype = np.dtype(label_type)
    if dtype.kind == "b":
        return np.array([name == "True" for name in names])
    return np.array([dtype.type(name) for name in names])


def _names(value: Names) -> list[str]:
    return [str(value)] if isinstance(value, str | int) else [str(name) for name in value]


def _request(samples: Names, owners: Names, sources: Names) -> ForgetRequest:
    return ForgetRequest.of(samples=_names(samples), owners=_names(owners), sources=_names(sources))
