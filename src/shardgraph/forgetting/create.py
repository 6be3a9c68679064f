"""Fit a new store, and add to one: the way in, as `carry_out` is the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shardgraph import runtime
from shardgraph.activations.backbone import PRECOMPUTED, Backbone, require_kind
from shardgraph.activations.encode import OnBadFile
from shardgraph.activations.open import DEFAULT_BACKBONE, open_backbone
from shardgraph.data.arrays import ArrayDataset
from shardgraph.data.sample import Dataset, Sample
from shardgraph.errors import (
    DataError,
    GraphError,
    RecipeError,
    StoreExistsError,
    StoreMissingError,
)
from shardgraph.forgetting.carry_out import Carried, clean_up, publish_change
from shardgraph.forgetting.ingest import ingest
from shardgraph.forgetting.machine import examine_machine
from shardgraph.forgetting.progress import Progress, silent
from shardgraph.forgetting.refit import FitSetting
from shardgraph.forgetting.speed import measure_speed
from shardgraph.graph.assignment import Assignment
from shardgraph.graph.shard_graph import ShardGraph
from shardgraph.graph.topologies import parse
from shardgraph.nodes.recipe import Recipe
from shardgraph.nodes.representation import Settings
from shardgraph.nodes.tally import bytes_needed
from shardgraph.nodes.tally_recipe import BUDGETED_SAMPLES, TallyRecipe
from shardgraph.store import Store, StoreConfig
from shardgraph.store.layout import Layout
from shardgraph.store.opening import require_room

DEFAULT_SHARDS = 64
ENCODING = "encoding"
"""Folder below the staging folder in which encoding can be resumed."""


@dataclass(frozen=True)
class FitSettings:
    """What decides a store, beside the data. None means the default.

    Attributes:
        shards: number of shards; None takes it from ``graph``, or 64.
        graph: a topology by name, a path to a JSON file, or a `ShardGraph`.
        safe_sources: sources whose samples go to the safe shards of a hub.
        backbone: the frozen encoder; not used for arrays of activations.
        layer: its layer; None for its default.
        epochs: epochs of every node.
        recipe: further settings of the adapters, by name; see `Recipe`.
        tallies: preset of tally edges: "none", "own", "all" or "all-but:G"; None leaves the graph
            as it is.
        tally: further settings of nodes that tally, by name; see `TallyRecipe`.
        tally_budget: most bytes that all tallies together may take with ``tally_classes`` classes
            and up to 133,144 samples; narrows the features of nodes that are
            not trained until they fit.
        tally_classes: how many classes the budget has to do for. Declared, since a number counted
            in the data would stay in the recipe when what was counted is forgotten.
        seed: decides shards, order, and every node's random stream.
        on_bad_file: "stop" or "skip".
        label_type: how labels are shown to the caller; they are kept as text.
    """

    shards: int | None = None
    graph: str | ShardGraph = "tallied"
    safe_sources: tuple[str, ...] = ()
    backbone: str = DEFAULT_BACKBONE
    layer: str | None = None
    epochs: int | None = None
    recipe: dict[str, Any] = field(default_factory=dict)
    tallies: str | None = None
    tally: dict[str, Any] = field(default_factory=dict)
    tally_budget: int | None = None
    tally_classes: int | None = None
    seed: int = 0
    on_bad_file: OnBadFile = "stop"
    label_type: str = "text"

    def build_graph(self) -> ShardGraph:
        """The shard graph these settings name.

        Raises:
            GraphError: it is impossible, or contradicts the number of shards.
        """
        graph = self._named_graph()
        if self.tallies is not None:
            graph = graph.with_tallies(self.tallies)
        return graph

    def _named_graph(self) -> ShardGraph:
        if isinstance(self.graph, str):
            return parse(
                self.graph,
                self.shards,
                default_shards=DEFAULT_SHARDS,
                safe_sources=self.safe_sources,
                seed=self.seed,
            )
        if self.shards not in (None, self.graph.shards):
            raise GraphError(
                f"The graph has {self.graph.shards} shards, not {self.shards}.",
                advice="Leave out the number of shards.",
            )
        return self.graph

    def build_recipe(self) -> Recipe:
        """The recipe these settings name.

        Raises:
            RecipeError: a setting is unknown or out of range, or epochs are given twice.
        """
        wanted = dict(self.recipe)
        if self.epochs is not None and wanted.setdefault("epochs", self.epochs) != self.epochs:
            raise RecipeError("Epochs are given twice.", advice="Give them once.")
        return Recipe.from_json(wanted)

    def build_tally_recipe(self, graph: ShardGraph, recipe: Recipe) -> TallyRecipe:
        """How nodes that tally are built, narrowed to the budget.

        Raises:
            RecipeError: a setting is unknown or out of range, nothing fits the budget, it is not
                said for how many classes, or adapters are to tally features whose number grows
                with the classes.
        """
        tally = TallyRecipe.from_json(self.tally)
        setting = FitSetting(graph, Settings(recipe, tally), self.seed)
        kinds = [setting.kind_of(number) for number, node in enumerate(graph.nodes) if node.tallies]
        trained = kinds.count("trained")
        if trained and recipe.kind == "open-inca":
            raise RecipeError(
                "Adapters of kind open-inca cannot tally: their features grow with the classes.",
                advice="Use the kind inca, or nodes that are discriminant or random.",
            )
        if self.tally_budget is None or not kinds:
            return tally
        if self.tally_classes is None:
            raise RecipeError(
                "It is not said for how many classes the budget of tallies is.",
                advice="Declare the most that there may be: tally_classes, --tally-classes N.",
            )
        fixed = trained * bytes_needed(recipe.features, self.tally_classes, BUDGETED_SAMPLES)
        if fixed > self.tally_budget:
            raise RecipeError(
                f"The tallies of {trained} trained nodes take {fixed} bytes, more than the "
                f"{self.tally_budget} allowed.",
                advice="Give a larger budget, or adapters of fewer heads or less width.",
            )
        return tally.within(self.tally_budget - fixed, len(kinds) - trained, self.tally_classes)


def backbone_for(dataset: Dataset, settings: FitSettings) -> Backbone:
    """The encoder for a dataset: arrays are taken as they are.

    Raises:
        DataError: the encoder takes another kind of data.
        RecipeError, UsageError: there is no such encoder or layer; see `open_backbone`.
    """
    if isinstance(dataset, ArrayDataset):
        return open_backbone(PRECOMPUTED, shape=(dataset.tokens, dataset.width))
    backbone = open_backbone(settings.backbone, settings.layer)
    require_kind(dataset, backbone)
    return backbone


@dataclass(frozen=True)
class Added:
    """What fitting or adding did."""

    carried: Carried | None
    samples: int
    passed_over: int
    bad_files: tuple[str, ...]


def fit_store(
    dataset: Dataset, path: Path, settings: FitSettings, progress: Progress = silent
) -> tuple[Store, Added]:
    """Create a store and fit every node; the store is returned open for writing.

    What can be refused is refused before anything is written: the graph, the recipe, the sources
    of all samples, an encoder of other data, files whose header shows that they are no images.
    Interrupted, the same call
    goes on where it stopped.

    Raises:
        StoreExistsError: there is a store at ``path`` already.
        GraphError: an impossible graph, or a source without shards.
        RecipeError: impossible settings.
        DataError: something is wrong with the data.
        BadFileError: a file is bad and ``on_bad_file`` is "stop". Where that shows only when it is
            decoded, the same call goes on after what was encoded before it.
    """
    graph, recipe = settings.build_graph(), settings.build_recipe()
    tally = settings.build_tally_recipe(graph, recipe)
    if tally.tune_on and all(sample.source != tally.tune_on for sample in dataset.samples):
        raise RecipeError(
            f"No sample comes from the source {tally.tune_on!r}, on which heads are to be tuned.",
            advice="Name one of the sources in the data, or leave it out.",
        )
    assignment = Assignment(graph, settings.seed)
    for sample in dataset.samples:
        assignment.shard_of(sample)
    refuse_existing(path)
    backbone = backbone_for(dataset, settings)
    if settings.on_bad_file == "stop":
        for index in range(len(dataset.samples)):
            dataset.inspect(index)
    config = configure(settings, graph, recipe, tally, backbone)
    store = Store.create(path, config)
    try:
        added = _add(store, dataset, dataset.samples, backbone, settings.on_bad_file, progress)
        measure_speed(store)
        return store, added
    except BaseException:
        store.close()
        raise


def refuse_existing(path: Path) -> None:
    """Refuse a path that holds a finished store or other files, before any work is done for it.

    Raises:
        StoreExistsError: it does.
    """
    try:
        Store.open(path).close()
    except StoreMissingError:
        require_room(Layout(path))
        return
    raise StoreExistsError(
        f"There is a store at {path} already.",
        advice="Use shardgraph add to add to it, or name another directory.",
    )


def configure(
    settings: FitSettings,
    graph: ShardGraph,
    recipe: Recipe,
    tally: TallyRecipe,
    backbone: Backbone,
) -> StoreConfig:
    """Everything that decides bytes beside the samples, with what this machine can be trusted in.

    Raises:
        UsageError: fits do not repeat on this machine.
    """
    return StoreConfig(
        seed=settings.seed,
        recipe={"adapter": recipe.to_json(), "tally": tally.to_json()},
        graph=graph.to_json(),
        backbone={
            "digest": backbone.digest,
            "layer": backbone.layer,
            "name": backbone.name,
            "tokens": backbone.tokens,
            "width": backbone.width,
        },
        environment=runtime.environment(backbone.libraries),
        label_type=settings.label_type,
        settings=examine_machine(backbone, graph, recipe, tally),
    )


def add_samples(
    store: Store,
    dataset: Dataset,
    backbone: Backbone,
    on_bad_file: OnBadFile = "stop",
    progress: Progress = silent,
) -> Added:
    """Add the samples of ``dataset`` that the store does not hold.

    Raises:
        DataError: an id is in the store with another label, owner or source, the encoder takes
            another kind of data, or the activations have another shape.
        BadFileError: a file is bad and ``on_bad_file`` is "stop"; nothing has changed.
    """
    require_kind(dataset, backbone)
    held = {record.id: record for record in store.lookup(item.id for item in dataset.samples)}
    new: list[Sample] = []
    for sample in dataset.samples:
        record = held.get(sample.id)
        if record is None:
            new.append(sample)
        elif (record.label, record.owner, record.source) != (
            sample.label,
            sample.owner,
            sample.source,
        ):
            raise DataError(
                f"Sample {sample.id!r} is in the store with another label, owner or source.",
                advice="Forget it first, or give the new sample an id of its own.",
            )
    if not new:
        return Added(None, 0, len(held), ())
    return _add(store, dataset, new, backbone, on_bad_file, progress, passed_over=len(held))


def _add(
    store: Store,
    dataset: Dataset,
    samples: Sequence[Sample],
    backbone: Backbone,
    on_bad_file: OnBadFile,
    progress: Progress,
    passed_over: int = 0,
) -> Added:
    config = store.config
    assignment = Assignment(ShardGraph.from_json(config.graph), config.seed)
    with ingest(
        dataset,
        samples,
        backbone,
        assignment,
        store.staging / ENCODING,
        batch_size=int(config.settings["batch_size"]),
        on_bad_file=on_bad_file,
        progress=lambda done, total: progress("encoding", done, total, dataset.kind),
    ) as ingested:
        if not ingested.records:
            raise DataError("No sample could be read.", advice="Check the files of the data.")
        carried = publish_change(
            store,
            {record.shard for record in ingested.records},
            added=ingested.records,
            rows=ingested.rows,
            progress=lambda done, total: progress("fitting", done, total, "nodes"),
        )
    clean_up(store)
    return Added(carried, len(ingested.records), passed_over, ingested.bad_files)
