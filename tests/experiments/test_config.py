"""Configs: layers of defaults, what is refused and with which words, names and hashes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowvi.errors import CheckpointError, ConfigError
from flowvi.experiments.config import (
    Config,
    difference,
    flatten,
    keys,
    parse_overrides,
    resolve,
    run_folder,
    run_name,
    runs_root,
)
from flowvi.experiments.presets import PRESETS
from flowvi.experiments.protocols import PROTOCOLS
from flowvi.flows.registry import FAMILIES

PRESET = "dlgm.nf10.mnist"


def refusal(*words: str, preset: str = PRESET) -> list[str]:
    """The lines with which the overrides are refused."""
    with pytest.raises(ConfigError) as caught:
        resolve(preset, parse_overrides(words))
    return str(caught.value).splitlines()


def test_presets_resolve_under_every_protocol() -> None:
    for preset in PRESETS:
        for protocol in PROTOCOLS:
            config = resolve(preset, {"training.protocol": protocol})
            assert config.training.protocol == protocol
            assert config.preset == preset


def test_presets_are_the_models_they_name() -> None:
    for length in (10, 20, 40, 80):
        flow = resolve(f"dlgm.nf{length}.mnist").flow
        assert (flow.kind, flow.length) == ("planar", length)
    assert resolve("dlgm.dc.mnist").to_dict()["flow"] == {"kind": "gaussian", "length": 0}
    assert resolve("dlgm.dc.mnist").hash() == resolve("dlgm.nf0.mnist").hash()


def test_presets_of_other_flows() -> None:
    for length in (10, 20, 40, 80):
        flow = resolve(f"dlgm.nice{length}.mnist").flow
        assert (flow.kind, flow.length, flow.options["mixing"]) == ("nice", length, "permutation")
    sylvester = resolve("dlgm.sylvester10.mnist").flow
    assert (sylvester.options["variant"], sylvester.options["bottleneck"]) == ("orthogonal", 8)
    assert resolve("dlgm.nsf4.mnist").flow.kind == "zuko.NSF"


def test_several_kinds_are_one_flow() -> None:
    flow = resolve(PRESET, {"flow.kind": "full_rank+planar+iaf", "flow.hidden": [32, 16], "flow.length": 3}).flow
    assert flow.kind == "full_rank+planar+iaf"
    assert flow.options["invertibility"] == "centred"
    assert flow.options["hidden"] == [32, 16]
    (line,) = refusal("flow.kind=planar+iaff")
    assert line.startswith("unknown flow kind 'iaff': did you mean 'iaf'?")
    (line,) = refusal("flow.kind=planar+iaf", "flow.variant=orthogonal")
    assert line.startswith("'flow.variant' is not an option of flow.kind=planar+iaf, whose options are: ")


def test_a_default_that_the_family_does_not_take_is_passed_over() -> None:
    """`modern` says init=identity, which an IAF has not."""
    assert resolve("dlgm.iaf4.mnist").flow.options["init"] == "gate"
    (line,) = refusal("flow.init=identity", preset="dlgm.iaf4.mnist")
    assert line == "flow.init cannot be 'identity': it takes one of gate, xavier, normal"


@pytest.mark.parametrize(
    ("preset", "word", "line"),
    [
        (
            "sylvester10",
            "flow.bottleneck=0",
            "flow.bottleneck cannot be 0: it takes auto and whole numbers of at least 1",
        ),
        ("householder10", "flow.reflections=3", "flow.reflections cannot be 3: it takes 2, 4, 6, …"),
        ("iaf4", "flow.gate_bias=high", "flow.gate_bias cannot be 'high': it takes finite numbers"),
        (
            "nice10",
            "flow.hidden=64",
            "flow.hidden cannot be 64: it takes lists of whole numbers of at least 1, such as [64,64]",
        ),
        ("nice10", "model.latents=[40,1]", "flow.kind=nice needs 2 latents or more in each layer: raise model.latents"),
    ],
)
def test_a_mistake_in_an_option_is_told_in_one_line(preset: str, word: str, line: str) -> None:
    assert refusal(word, preset=f"dlgm.{preset}.mnist") == [line]


def test_a_list_of_sizes_is_the_same_config_however_it_is_given() -> None:
    spelled = resolve("dlgm.nice10.mnist", parse_overrides(["flow.hidden=[64,64]"]))
    assert (
        spelled.hash()
        == resolve("dlgm.nice10.mnist").hash()
        == resolve("dlgm.nice10.mnist", {"flow.hidden": (64, 64)}).hash()
    )
    assert Config.from_dict(json.loads(json.dumps(spelled.to_dict()))) == spelled


def test_protocols_set_the_defaults_that_they_promise() -> None:
    paper = resolve(PRESET, {"training.protocol": "paper"})
    training = paper.training
    assert (training.optimiser, training.learning_rate, training.momentum) == ("rmsprop", 1e-5, 0.9)
    assert (training.updates, training.batch, training.annealing, training.warmup) == (
        500_000,
        100,
        "joint",
        10_000,
    )
    assert (training.schedule, training.clip) == ("constant", None)
    assert (training.selection, training.output_bias, paper.data.validation) == ("last", "zero", 0)
    assert paper.flow.options["invertibility"] == "paper"
    assert paper.flow.options["init"] == "xavier"

    modern, quick = resolve(PRESET), resolve(PRESET, {"training.protocol": "quick"})
    assert modern.training.protocol == "modern"
    assert (modern.training.updates, modern.data.validation) == (20_000, 10_000)
    assert modern.flow.options["invertibility"] == "centred"
    assert (quick.training.updates, quick.training.warmup) == (2_000, 500)


def test_overrides_stand_above_the_protocol_wherever_they_come() -> None:
    for words in (
        ["training.protocol=paper", "training.updates=7"],
        ["training.updates=7", "training.protocol=paper"],
    ):
        config = resolve(PRESET, parse_overrides(words))
        assert (config.training.updates, config.training.optimiser) == (7, "rmsprop")


def test_another_kind_drops_the_options_that_the_user_did_not_give() -> None:
    config = resolve(PRESET, {"flow.kind": "gaussian", "flow.length": 0, "training.protocol": "paper"})
    assert config.to_dict()["flow"] == {"kind": "gaussian", "length": 0}
    (line,) = refusal("flow.kind=gaussian", "flow.length=0", "flow.init=xavier")
    assert line == "'flow.init' is not an option of flow.kind=gaussian, whose options are: none"


def test_another_optimiser_drops_the_momentum_that_the_user_did_not_give() -> None:
    overrides: dict[str, Any] = {"training.protocol": "paper", "training.optimiser": "adam"}
    assert resolve(PRESET, overrides).training.momentum == 0
    with pytest.raises(ConfigError, match=r"training\.momentum is of rmsprop"):
        resolve(PRESET, {**overrides, "training.momentum": 0.5})


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("flow.lenght=20", "unknown key 'flow.lenght': did you mean 'flow.length'?"),
        ("lenght=20", "unknown key 'lenght': did you mean 'flow.length'?"),
        ("updates=20", "unknown key 'updates': did you mean 'training.updates'?"),
        ("flow.invertability=paper", "unknown key 'flow.invertability': did you mean 'flow.invertibility'?"),
        ("data.binarization=fixed", "unknown key 'data.binarization': did you mean 'data.binarisation'?"),
        ("wibble=1", "unknown key 'wibble': `flowvi configs NAME` shows every key of a config"),
        ("preset=x", "unknown key 'preset': `flowvi configs NAME` shows every key of a config"),
        (
            "flow.kind=plannar",
            "unknown flow kind 'plannar': did you mean 'planar'? known kinds are full_rank, gaussian, householder, "
            "iaf, nice, planar, radial, realnvp, sylvester, zuko.NAME, and several joined by +",
        ),
        (
            "flow.kind=3",
            "flow.kind cannot be 3: it takes one of full_rank, gaussian, householder, iaf, nice, planar, radial, "
            "realnvp, sylvester, zuko.NAME, or several joined by +",
        ),
        ("flow.h=relu", "flow.h cannot be 'relu': it takes one of tanh, leaky_relu"),
        (
            "flow.mixing=none",
            "'flow.mixing' is not an option of flow.kind=planar, whose options are: "
            "flow.parameters, flow.init, flow.invertibility, flow.h",
        ),
        ("flow.init=foo", "flow.init cannot be 'foo': it takes one of identity, xavier, normal"),
        ("flow.length=true", "flow.length cannot be true: it takes a whole number, 0 or more"),
        ("training.updates=abc", "training.updates cannot be 'abc': it takes a whole number, 1 or more"),
        ("training.updates=1.5", "training.updates cannot be 1.5: it takes a whole number, 1 or more"),
        ("training.updates=-1", "training.updates cannot be -1: it takes a whole number, 1 or more"),
        ("training.updates=", "training.updates cannot be '': it takes a whole number, 1 or more"),
        ("seed=-1", "seed cannot be -1: it takes a whole number from 0 to 4294967295"),
        ("seed=1e400", "seed cannot be Infinity: it takes a whole number from 0 to 4294967295"),
        ("device=gpu", "device cannot be 'gpu': it takes one of auto, cpu, cuda"),
        ("precision=16", "precision cannot be 16: it takes one of 32, bf16"),
        (
            "training.protocol=papr",
            "training.protocol cannot be 'papr': it takes one of paper, modern, quick",
        ),
        ("training.annealing=null", "training.annealing cannot be null: it takes one of joint, kl, none"),
        ("training.learning_rate=NaN", "training.learning_rate cannot be NaN: it takes a number above 0"),
        ("training.clip=0", "training.clip cannot be 0: it takes a number above 0, or none"),
        ("training.clip=true", "training.clip cannot be true: it takes a number above 0, or none"),
        (
            "model.latents=[64,0]",
            "model.latents cannot be [64, 0]: it takes a list of whole numbers, each 1 or more, such as [64,32]",
        ),
        (
            "model.latents=[]",
            "model.latents cannot be []: it takes a list of whole numbers, each 1 or more, such as [64,32]",
        ),
        (
            "model.maxout=1600-300",
            "model.maxout cannot be '1600-300': it takes the units before and after the window, "
            "the first divisible by the second, such as 1600-400",
        ),
        (
            "model.encoder=my_pkg.nets",
            "model.encoder cannot be 'my_pkg.nets': it takes a class as package.module:Class, or none",
        ),
        ("data.path=3", "data.path cannot be 3: it takes the path of a .npz or .npy file, or none"),
        (
            "data.name=minst",
            "data.name cannot be 'minst': it takes one of mnist, cifar10; "
            "give the path of a file of your own as data.path",
        ),
        (
            "data.validation=0",
            "training.selection=validation needs validation images: "
            "set data.validation=10000, or training.selection=last",
        ),
        ("data.validation=60000", "data.validation cannot be 60000: it takes a whole number from 0 to 59999"),
        ("data.packed=784", "data.packed is for a file of your own: set data.path too, or leave it out"),
        ("flow.length=0", "flow.kind=planar needs flow.length=1 or more: for 0 set flow.kind=gaussian"),
        (
            "flow.kind=gaussian",
            "flow.kind=gaussian has no layers, so flow.length cannot be 10: "
            "set flow.length=0, or flow.kind to one of planar, radial, householder, sylvester, nice, realnvp, iaf",
        ),
        ("devices=200", "training.batch=100 is too small for devices=200: raise the batch"),
        (
            "training.batch=50001",
            "training.batch=50001 is more than the 50000 training images: set 50000 or less",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(word: str, line: str) -> None:
    assert refusal(word) == [line]


def test_a_group_of_keys_is_not_a_key() -> None:
    (line,) = refusal("flow=planar")
    assert line.startswith("'flow' is a group of keys: set one of flow.kind, flow.length, ")


def test_several_mistakes_have_a_line_each() -> None:
    lines = refusal("training.updats=3", "seed=-1", "flow.init=foo", "training.updates=abc")
    assert len(lines) == 4
    for start in ("unknown key 'training.updats'", "flow.init", "seed", "training.updates"):
        assert sum(line.startswith(start) for line in lines) == 1


def test_a_mistake_in_a_key_hides_the_conflicts_that_it_causes() -> None:
    assert refusal("flow.kind=gaussian", "flow.lenght=0") == ["unknown key 'flow.lenght': did you mean 'flow.length'?"]


def test_an_unknown_preset_lists_near_ones() -> None:
    (line,) = refusal(preset="dlgm.nf100.mnist")
    assert line.startswith("unknown config 'dlgm.nf100.mnist': did you mean dlgm.nf10.mnist or ")
    assert line.endswith(f"known configs are {', '.join(PRESETS)}")


def test_values_that_a_shell_makes_awkward() -> None:
    words = ["training.clip=none", "training.updates=1e3", "precision=32"]
    config = resolve(PRESET, parse_overrides([*words, "model.latents=[64,32]", "training.annealing=none"]))
    assert config.training.clip is None
    assert config.training.updates == 1000
    assert isinstance(config.training.updates, int)
    assert config.precision == "32"
    assert config.model.latents == (64, 32)
    assert config.training.annealing == "none"


def test_values_that_python_makes_awkward() -> None:
    config = resolve(
        PRESET,
        {
            "flow.length": np.int64(20),
            "training.learning_rate": np.float32(0.5),
            "model.latents": (64, np.int32(32)),
            "precision": 32,
            "data.path": Path("a.npz"),
        },
    )
    assert (config.flow.length, config.training.learning_rate, config.model.latents) == (20, 0.5, (64, 32))
    assert json.loads(json.dumps(config.to_dict())) == config.to_dict()
    with pytest.raises(ConfigError, match=r"flow\.length cannot be true"):
        resolve(PRESET, {"flow.length": np.bool_(True)})
    with pytest.raises(ConfigError, match=r"flow\.length cannot be"):
        resolve(PRESET, {"flow.length": object()})


def test_parse_overrides_refuses_what_is_no_pair() -> None:
    for word in ("foo", "=3", ""):
        with pytest.raises(ConfigError, match="overrides are key=value"):
            parse_overrides([word])
    with pytest.raises(ConfigError, match="'seed' is given twice"):
        parse_overrides(["seed=3", "flow.length=4", "seed=4"])
    assert parse_overrides(["a=b=c", "d=[[", "e=" + "[" * 100_000, "f=" + "1" * 5000])["a"] == "b=c"


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve(PRESET, {"data.path": "sub/my data.npz", "data.packed": 784})
    assert config.data.path == str(tmp_path / "sub" / "my data.npz")
    assert config.data.name == "my-data"
    assert config.data.packed == 784
    # A resume from elsewhere finds the file; the experiment is the same wherever the file lies.
    there = resolve(PRESET, {"data.path": "/elsewhere/my data.npz", "data.packed": 784})
    assert there.hash() == config.hash()
    assert [line.split(":")[0] for line in difference(config, there)] == ["data.path"]
    assert resolve(PRESET, {"data.path": "other.npz", "data.packed": 784}).hash() != config.hash()
    # Its size is not known here, so MNIST's limits are not held against it.
    resolve(PRESET, {"data.path": "my.npz", "data.validation": 0, "training.batch": 70_000})
    assert resolve(PRESET, {"data.path": "none"}).data.name == "mnist"
    assert resolve(PRESET, {"data.path": "~/x.npy"}).data.path == str(Path.home() / "x.npy")


def test_difference_names_keys_and_both_values() -> None:
    ours = resolve(PRESET, {"training.clip": None})
    theirs = resolve(PRESET, {"flow.length": 20, "seed": 3})
    assert difference(ours, theirs) == [
        "flow.length: 10 in the run folder, 20 now",
        "seed: 0 in the run folder, 3 now",
        "training.clip: none in the run folder, 100.0 now",
    ]
    assert difference(ours, ours) == []
    assert difference(resolve("dlgm.dc.mnist"), resolve("dlgm.nf0.mnist")) == []
    assert "flow.init: identity in the run folder, absent now" in difference(ours, resolve("dlgm.dc.mnist"))


def test_run_names() -> None:
    assert run_name(PRESET) == PRESET
    assert run_name(PRESET, {"seed": 3}) == PRESET
    assert run_name(PRESET, {"seed": 3, "flow.length": 40}) == "dlgm.nf10.mnist,flow.length=40"
    assert run_name(PRESET, {"training.updates": 5, "flow.length": 40}) == (
        "dlgm.nf10.mnist,flow.length=40,training.updates=5"
    )
    # The same value in another spelling is the same folder; a value that changes nothing stays in the name.
    for first, second in (
        ("flow.length=20", "flow.length=2e1"),
        ("training.learning_rate=1e-3", "training.learning_rate=0.001"),
        ("training.checkpoint_seconds=60", "training.checkpoint_seconds=60.0"),
        ("training.clip=none", "training.clip=null"),
        ("precision=32", 'precision="32"'),
    ):
        name = run_name(PRESET, parse_overrides([first]))
        assert name == run_name(PRESET, parse_overrides([second]))
        assert name.startswith(f"{PRESET},{first.split('=')[0]}=")
    assert run_name(PRESET, {"model.latents": [64, 32]}) == "dlgm.nf10.mnist,model.latents=64-32"
    assert run_name(PRESET, {"data.path": "/a b/ü,x.npz"}) == "dlgm.nf10.mnist,data.path=--x.npz"
    assert run_name(PRESET, {"model.encoder": "a.b:C"}) == "dlgm.nf10.mnist,model.encoder=a.b-C"


def test_a_long_run_name_ends_in_a_hash() -> None:
    def long(updates: int) -> str:
        values = {"training.log_every": 1, "training.validate_every": 2, "training.checkpoint_every": 3}
        return run_name(PRESET, {**values, "training.warmup": 4, "training.updates": updates})

    assert len(long(5)) == len(long(6)) == 120
    assert long(5) == long(5) != long(6)
    assert long(5).startswith("dlgm.nf10.mnist,training.checkpoint_every=3,")


def test_where_runs_live(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FLOWVI_RUNS", raising=False)
    assert runs_root() == Path("runs")
    assert run_folder(PRESET, {"flow.length": 20, "seed": 3}) == Path("runs/dlgm.nf10.mnist,flow.length=20/3")
    monkeypatch.setenv("FLOWVI_RUNS", str(tmp_path))
    assert run_folder(PRESET) == tmp_path / PRESET / "0"


def test_a_saved_config_of_another_version() -> None:
    saved = resolve(PRESET).to_dict()
    saved["training"]["tempo"] = 3
    with pytest.raises(CheckpointError, match=r"^here/config\.json .*another version.*unknown key 'training\.tempo'$"):
        Config.from_dict(saved, "here/config.json")
    saved = resolve(PRESET).to_dict()
    del saved["training"]["updates"], saved["seed"]
    with pytest.raises(CheckpointError, match=r"training\.updates is missing: it takes a whole number"):
        Config.from_dict(saved)
    saved["training"]["updates"] = 3
    assert Config.from_dict(saved).seed == 0  # as the schema has it


@pytest.mark.parametrize(
    "saved",
    [
        {},
        [],
        3,
        {"preset": 3},
        {"preset": "x"},
        {"preset": "x", "data": {"path": {"a": 1}}},
        {"preset": "x", "flow": 3},
    ],
)
def test_something_that_is_no_config(saved: Any) -> None:
    with pytest.raises(CheckpointError) as caught:
        Config.from_dict(saved)
    assert len(str(caught.value)) < 600


def test_a_preset_that_is_gone_still_loads() -> None:
    saved = {**resolve(PRESET).to_dict(), "preset": "dlgm.old"}
    assert Config.from_dict(saved).hash() == resolve(PRESET).hash()


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        resolve(PRESET).seed = 3  # type: ignore[misc]


def test_every_key_is_written_out() -> None:
    written = {key for key, _ in flatten(resolve(PRESET).to_dict())} - {"preset"}
    others = {f"flow.{name}" for entry in FAMILIES.values() for name in entry.options}
    assert written | others == set(keys())


# A short alphabet, of what could trip over a file name, a shell or JSON.
TEXT = st.text("ab01 /\\,=.:-+~\"'[]{}$\n\téß漢", max_size=20)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(0, 2**32 - 1),
    "device": st.sampled_from(["auto", "cpu", "cuda"]),
    "precision": st.sampled_from(["32", "bf16"]),
    "data.binarisation": st.sampled_from(["fixed", "dynamic", "threshold"]),
    "data.seed": st.integers(0, 2**32 - 1),
    "data.path": st.none() | TEXT.map(lambda text: f"x{text}.npz"),
    "model.latents": st.lists(st.integers(1, 500), min_size=1, max_size=4),
    "flow.length": st.integers(1, 200),
    "flow.init": st.sampled_from(["identity", "xavier", "normal"]),
    "training.protocol": st.sampled_from(["paper", "modern", "quick"]),
    "training.updates": st.integers(1, 10**9),
    "training.learning_rate": st.floats(1e-12, 1e3),
    "training.clip": st.none() | st.floats(1e-3, 1e6),
    "training.annealing": st.sampled_from(["joint", "kl", "none"]),
}
OVERRIDES = st.fixed_dictionaries({}, optional=VALUES)


@given(OVERRIDES)
def test_a_config_survives_its_file(overrides: dict[str, Any]) -> None:
    config = resolve(PRESET, overrides)
    loaded = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert loaded == config
    assert loaded.hash() == config.hash()
    assert difference(loaded, config) == []


@given(OVERRIDES, st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_hash_and_name_ignore_order_and_seed(overrides: dict[str, Any], shuffler: random.Random, seed: int) -> None:
    shuffled = list(overrides.items())
    shuffler.shuffle(shuffled)
    again = {**dict(shuffled), "seed": seed}
    assert resolve(PRESET, again).hash() == resolve(PRESET, overrides).hash()
    name = run_name(PRESET, again)
    assert name == run_name(PRESET, overrides)
    assert len(name) <= 120
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=+-,")


@given(OVERRIDES)
def test_words_say_what_python_says(overrides: dict[str, Any]) -> None:
    words = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    assert parse_overrides(words) == overrides
    assert resolve(PRESET, parse_overrides(words)) == resolve(PRESET, overrides)


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_any_words_are_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    words = [f"{key}={value}" for key, value in pairs]
    try:
        resolve(PRESET, parse_overrides(words))
    except ConfigError as error:
        assert str(error)
    else:
        assert words == []


@given(st.sampled_from(sorted(keys())), TEXT | st.floats() | st.integers() | st.booleans() | st.none())
def test_any_value_is_taken_or_refused_by_its_key(key: str, value: Any) -> None:
    try:
        config = resolve(PRESET, {key: value})
    except ConfigError as error:
        assert len(str(error).splitlines()) <= 2 or isinstance(value, str)
    else:
        assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
