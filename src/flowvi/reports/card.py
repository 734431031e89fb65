"""The model card of a published model, in Markdown, from results alone. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowvi.data.registry import entry_of
from flowvi.experiments.command import config_words
from flowvi.experiments.config import Config
from flowvi.reports.tables import Record, number, or_absent, posterior

__all__ = ["mark", "model_card"]

_SELECTIONS = {"validation": "the best on validation images", "last": "the last"}
_PAPER = "Rezende & Mohamed 2015, [arXiv:1505.05770](https://arxiv.org/abs/1505.05770)"


def mark(config: Config) -> str:
    """The line by which a card is known as that of a run."""
    return f"<!-- flowvi export: config {config.hash()}, seed {config.seed}. The next export writes this file anew. -->"


def model_card(config: Config, results: Sequence[Record], weights_sha256: str) -> str:
    """What the model is, how it was trained and tested, how to load it, and what it is not for.

    Args:
        config: the run's.
        results: one or more records as `flowvi.test` returns them, the first one leading. Every number is from
            them; one that a record lacks is a dash.
        weights_sha256: of the weights' file, in hex digits.
    """
    result = results[0]
    title = f"{or_absent(result, 'config')}: {posterior(result)}, on {or_absent(result, 'data')}"
    sections = [
        _front(),
        mark(config),
        f"# {title}",
        _introduction(result),
        "## Test",
        _tests(results),
        "## Model and training",
        _table(["", ""], list(_facts(config, result, weights_sha256))),
        "## Load it",
        _loading(config, result),
        "## Make it again",
        _making(config, result),
        "## What it must not be used for",
        _limits(result),
        "## Licence",
        _licence(config, result),
    ]
    return "\n\n".join(sections) + "\n"


def _front() -> str:
    tags = ("variational-inference", "normalizing-flows", "deep-latent-gaussian-model")
    return "\n".join(["---", "library_name: flowvi", "tags:", *(f"- {tag}" for tag in tags), "---"])


def _introduction(result: Record) -> str:
    return (
        f"A deep latent Gaussian model p(x, z) of images x, and its approximate posterior q(z|x) ({_PAPER}), "
        "trained and tested by flowvi. `model.safetensors` holds the weights that were tested, `config.json` every "
        "setting they were trained with."
    )


def _tests(results: Sequence[Record]) -> str:
    rows = [
        [
            f"{number(result.get('images'), 0)} {or_absent(result, 'split')} images of "
            f"{or_absent(result, 'data')}, {or_absent(result, 'binarisation')} binarisation",
            number(result.get("samples"), 0),
            *(f"{number(result.get(key))} ± {number(result.get(f'{key}_se'))}" for key in ("free_energy", "nll", "kl")),
        ]
        for result in results
    ]
    note = (
        "In nats: mean ± standard error over the images, of this one trained model; another seed gives other numbers. "
        "F is the free energy, S the number of importance samples for each image; F, −ln p(x) and KL = F + ln p(x) "
        "come from the same samples."
    )
    return _table(["test", "S", "F(x)", "−ln p(x)", "KL"], rows) + f"\n\n{note}"


def _facts(config: Config, result: Record, weights_sha256: str) -> Iterator[list[str]]:
    options = f", {result['flow_options']}" if result.get("flow_options") else ""
    source = f", {result['parameters_source']}" if result.get("parameters_source") else ""
    selected = f" (update {number(result['selected_update'], 0)})" if result.get("selected_update") else ""
    selection = _SELECTIONS.get(str(result.get("selection")), or_absent(result, "selection"))
    yield ["posterior", f"{posterior(result)}{source}{options}"]
    yield ["latents", " + ".join(map(str, result.get("latents") or [])) or "–"]
    yield ["networks", f"maxout {or_absent(result, 'maxout')}{_own_networks(config)}"]
    yield ["parameters", number(result.get("parameter_count"), 0)]
    yield ["data", f"{or_absent(result, 'data')}, data seed {or_absent(result, 'data_seed')}"]
    yield ["binarisation", f"{or_absent(result, 'binarisation')}"]
    yield ["protocol", f"{or_absent(result, 'protocol')}, objective {or_absent(result, 'objective')}"]
    updates, images = number(result.get("updates"), 0), number(result.get("train_images"), 0)
    yield ["updates", f"{updates} of {number(result.get('batch'), 0)} images each, from {images} training images"]
    yield ["weights", f"{selection}{selected}"]
    yield ["seed", f"{or_absent(result, 'seed')}"]
    precisions = [or_absent(result, key) for key in ("precision", "test_precision")]
    yield ["precision", f"{precisions[0]} in training, {precisions[1]} in the test"]
    yield ["versions", f"{or_absent(result, 'versions')}"]
    yield ["commit", f"{or_absent(result, 'commit')}"]
    yield ["config hash", f"`{or_absent(result, 'config_hash')}`"]
    yield ["SHA-256 of `model.safetensors`", f"`{weights_sha256}`"]


def _own_networks(config: Config) -> str:
    own = [name for name in (config.model.encoder, config.model.decoder) if name]
    return "".join(f", `{name}`" for name in dict.fromkeys(own))


def _loading(config: Config, result: Record) -> str:
    lines = ["import flowvi", 'model = flowvi.load("path/to/this/folder")', "x = model.sample(16)"]
    needs = [f"With {or_absent(result, 'versions')}:"]
    if "zuko" in config.flow.kind:
        needs.append("The flow is the zuko package's: `pip install 'flowvi[zuko]'`.")
    if _own_networks(config):
        needs.append(
            f"The networks are not flowvi's{_own_networks(config)}: their package has to be installed; "
            "this folder does not bring it, and flowvi runs no code from here."
        )
    code = "\n".join(["```python", *lines, "```"])
    rest = "`model.posterior(x)` is q(z|x), `model.log_joint(x, z)` is ln p(x, z) in nats."
    return "\n\n".join([*needs[1:], needs[0], code, rest])


def _making(config: Config, result: Record) -> str:
    words = config_words(config)
    if words is None:
        return "Another version of flowvi made its config: `config.json` has every setting."
    default = (result.get("samples"), result.get("images")) == (200, 10_000)
    how = "" if default else f" samples={or_absent(result, 'samples')} images={or_absent(result, 'images')}"
    block = "\n".join(["```sh", f"flowvi train {words}", f"flowvi test {words}{how}", "```"])
    same = "On the same machine a run on a CPU repeats to the bit with the same versions; elsewhere the digits differ."
    return f"{block}\n\n{same}"


def _limits(result: Record) -> str:
    binarisation = or_absent(result, "binarisation")
    limits = [
        "F is an upper bound of −ln p(x), not −ln p(x): a smaller F can mean a better posterior, a better model, or "
        "both. Compare F with F and −ln p(x) with −ln p(x).",
        f"−ln p(x) is an estimate by importance sampling with S = {or_absent(result, 'samples')}, biased up, and KL "
        "biased down: the less, the more samples. Compare at the same S.",
        f"Numbers under {binarisation} binarisation are comparable with no other: fixed, dynamic and thresholded "
        "images are different data."
        if binarisation != "none"
        else "A density of pixels between 0 and 1 depends on how grey levels became such: compare under the same "
        "dequantisation, margin and floor of the scale.",
        "This is one seed. The standard errors are over test images and say nothing of the spread over seeds.",
        "p(x) is no detector of unusual images, and a low F no evidence that an image is genuine. The posterior is "
        "an approximation: for anything that rests on its tails or its uncertainty, check it first.",
        "It is a benchmark model of small images: not for decisions about people.",
    ]
    return "\n".join(f"- {limit}" for limit in limits)


def _licence(config: Config, result: Record) -> str:
    data = or_absent(result, "data")
    licence = entry_of(config.data.name, config.data.path).licence
    about = f"{licence}" if licence else "flowvi does not know its licence"
    return (
        f"Trained on {data}: {about}. The code that loads it, flowvi, is Apache-2.0. The weights carry no licence of "
        "their own until whoever publishes them adds a file LICENSE, in keeping with that of the data."
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
