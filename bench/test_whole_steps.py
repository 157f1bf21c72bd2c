"""One step of every model against PyTorch in float64, what is compared, and the works that are timed."""

from __future__ import annotations

import alone
import compared
import equal
import numpy as np
import pytest
import whole_steps
import work_steps
import works
from alternate import Spec, versions
from protocol import Stepped, read_state, read_stepped, write_state, write_stepped
from settings import Run
from sizes import SIZES
from steps import launches_of, make_trainer
from whole_steps import CHECKED, apart
from works import WORKS, Work

SAME = 1e-9  # of float64: sums in another order make 1e-15; what Adam makes of a small gradient may be more
SEMI, CLUSTER = CHECKED[0], next(work for work in CHECKED if work.kind == "clustering")


@pytest.fixture(scope="module")
def server():
    if "torch" not in versions():
        pytest.skip("PyTorch is not installed; AAECORE_PEERS_PYTHON names a Python that has it")
    with whole_steps.pytorch() as server:
        yield server


@pytest.mark.parametrize("work", CHECKED, ids=str)
def test_a_step_is_pytorchs(work, server):
    for found in whole_steps.against(server, work, "reference"):
        assert max(found) < SAME


@pytest.mark.parametrize("work", CHECKED, ids=str)
def test_a_step_in_float32_is_as_near_as_pytorchs(work, server, tmp_path, monkeypatch):
    monkeypatch.setattr(equal, "STATES", whole_steps.STATES)
    made = equal.our_steps_of_work(work, "fp32", tmp_path)
    server.check(work, str(tmp_path), ["eager:fp64", "eager:fp32"])
    assert equal.compare(whole_steps.EAGER, "eager", made, tmp_path)["equal"]


def test_another_weight_of_a_loss_is_noticed(server, monkeypatch):
    monkeypatch.setattr(works, "GENERATOR", 1.001 * works.GENERATOR)
    joint = next(work for work in CHECKED if work.joint)
    assert min(max(found) for found in whole_steps.against(server, joint, "reference")) > SAME


# --- what is compared, without PyTorch --------------------------------------------------------------------------------


def stepped(work=SEMI, device="reference"):
    ((_, state, made),) = work_steps.trained(work, (0,), device=device)
    return state, made


@pytest.mark.parametrize("part", ["weights", "moments", "losses"])
def test_what_differs_is_found(part):
    _, made = stepped()
    weights, losses = dict(made.weights), list(made.losses)
    moments = {phase: dict(table) for phase, table in made.moments.items()}
    if part == "weights":
        weights["decoder.1.bias"] = weights["decoder.1.bias"] + 1e-6
    elif part == "moments":
        m, v = moments["classification"]["trunk.0.weight"]
        moments["classification"]["trunk.0.weight"] = (m, 1.001 * v)
    else:
        losses[3] *= 1.001
    found = apart(made, Stepped(weights, losses, moments))._asdict()
    assert [name for name, value in found.items() if value > SAME] == [part]


def test_a_bias_before_batch_norm_is_not_compared():
    _, made = stepped(CLUSTER)
    weights = {name: a for name, a in made.weights.items() if name not in ("trunk.0.bias", "trunk.1.bias")}
    idle = ("trunk.0.bias", "trunk.1.bias")
    moments = {p: {n: both for n, both in table.items() if n not in idle} for p, table in made.moments.items()}
    assert max(apart(made, Stepped(weights, made.losses, moments))) == 0.0


@pytest.mark.parametrize("work", CHECKED, ids=str)
def test_what_a_step_drew_is_told(work):
    state, _ = stepped(work)
    places = ["reconstruction"] + ["code", "classification"][: 1 + bool(work.labelled)] * (not work.joint)
    kinds = ["noise"] * bool(work.noise) + ["keep"] * bool(work.dropout)
    expected = {f"{place}/{kind}" for place in places for kind in kinds}
    drawn = {name: a for name, a in state.inputs.items() if "/" in name and not name.startswith("priors/")}
    assert drawn.keys() == expected
    for name, array in drawn.items():
        rows = work.labelled if name.startswith("classification") else work.batch + work.labelled * work.joint
        assert array.shape == (rows, work.inputs)
        if name.endswith("keep"):
            assert set(np.unique(array)) == {0.0, 1 / (1 - work.dropout)}
    assert ("priors/z" in state.inputs) == (work.kind != "denoising")
    assert state.inputs.get("priors/z", np.empty((work.batch, work.latent))).shape == (work.batch, work.latent)


def test_a_state_and_a_step_are_read_as_they_were_written(tmp_path):
    state, made = stepped()
    write_state(tmp_path / "state.npz", state)
    write_stepped(tmp_path / "made.npz", made)
    read, again = read_state(tmp_path / "state.npz"), read_stepped(tmp_path / "made.npz")
    assert read.steps == state.steps
    assert again.losses == made.losses
    for there, here in (
        (read.inputs, state.inputs), (read.weights, state.weights), (again.weights, made.weights),
        *((read.moments[p], state.moments[p]) for p in state.moments),
        *((again.moments[p], made.moments[p]) for p in made.moments),
    ):  # fmt: skip
        assert there.keys() == here.keys()
        for name, value in here.items():
            np.testing.assert_array_equal(there[name], value)


# --- works ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKS)
def test_a_work_is_a_name_or_all_it_is(name):
    work = WORKS[name]
    assert works.parse(name) == work == works.parse(works.spell(work))
    assert works.parse("a") == works.parse(works.spell(SIZES["a"])) == SIZES["a"]


@pytest.mark.parametrize("work", CHECKED, ids=str)
def test_the_recorded_step_of_a_work_is_that_of_a_trainer(work):
    """Losses, weights and statistics, bit for bit: what is timed is what users start."""
    rows = work_steps.rows_of(work, 2)
    models = [work_steps.make_model(work) for _ in range(2)]
    trainer = make_trainer(models[0], work.batch, labelled_batch_size=work.labelled or 1)
    inputs = {name: models[1].backend.empty(a.shape) for name, a in work_steps.as_inputs(work, rows[0]).items()}
    launches, losses = launches_of(models[1], inputs)
    plan = models[1].backend.capture(launches, inputs=list(inputs.values()))
    for each in rows:
        plan.replay(*work_steps.as_inputs(work, each).values())
        assert work_steps.step(trainer, each) == models[1].backend.to_host(losses).tolist()
    states = [model.state_dict() for model in models]
    for name, value in states[0].items():
        np.testing.assert_array_equal(states[1][name], value)


def test_only_peers_that_have_the_model_are_asked_for_a_work(monkeypatch):
    monkeypatch.setattr("settings.versions", lambda: {"numpy": "2", "torch": "2", "jax": "0"})
    asked = {spec.library for spec in Run().rivals("semi", "fp32")}
    assert asked == {"torch", "jax"}


def test_the_cost_of_batch_norm_and_dropout_is_a_ratio(monkeypatch):
    small = Work("clustering", True, 12, 16, 3, 4, 10, dropout=0.2, batch_norm=True)
    monkeypatch.setattr(alone, "NORMED", {"small": small})
    (row,) = alone.normed(Run(works=["small"], rounds=1, seconds=0.0, threads=1))
    assert row["ratio"] > 0
    assert row["goal"] == 1.1


def test_goals_of_the_later_models(monkeypatch):
    made = {"peer": "torch:eager", "ratio": 1.5, "decided": True}
    monkeypatch.setattr(compared, "_in_turn", lambda *arguments: iter([made]))
    run = Run(works=["semi"], peers=[Spec("torch", "eager"), Spec("torch", "eager", "bf16")])
    monkeypatch.setattr("settings.versions", lambda: {"numpy": "2", "torch": "2"})
    run.precisions = ["fp32", "bf16"]
    assert [(row["goal"], row["met"]) for row in compared.models(run)] == [(1.3, True), (2.0, False)]
