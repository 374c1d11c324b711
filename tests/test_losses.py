"""Losses of networks: PyTorch's word, weights and several outputs, penalties, recipes, data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnncError
from cnnc.ir.objective import LOSSES, Loss, written
from cnnc.train import train

RNG = np.random.default_rng(11)
ROWS = "model m { input x: f32[N, 6] return x -> linear(5) as fc }"
PIXELS = "model m { input x: f32[N, 3, 5, 4] return x -> conv(18, 3, padding=1) as c }"
ONE = "model m { input x: f32[N, 6] return (x -> linear(4) as fc) -> mean(axis=1) }"
LABELS, PIXEL_LABELS = np.array([0, 4, 2]), np.random.default_rng(0).integers(0, 18, (3, 5, 4))
WEIGHT = [0.5, 1, 2, 0, 1.5]


def shares(*shape: int) -> Any:
    values = np.random.default_rng(1).random(shape)
    return (values / values.sum(1, keepdims=True)).astype(np.float32)


def some(*shape: int) -> Any:
    return np.random.default_rng(2).standard_normal(shape).astype(np.float32)


# a network, a loss, its target, and PyTorch's: f(functional, output, target)
CASES: list[tuple[str, Any, Any, Callable[[Any, Any, Any], Any]]] = [
    (ROWS, "cross_entropy", LABELS, lambda F, x, t: F.cross_entropy(x, t)),
    (ROWS, cnnc.loss("cross_entropy", weight=WEIGHT, label_smoothing=0.2, ignore_index=2), LABELS,
     lambda F, x, t: F.cross_entropy(x, t, x.new_tensor(WEIGHT), label_smoothing=0.2, ignore_index=2)),
    (ROWS, cnnc.loss("cross_entropy", weight=WEIGHT), LABELS, lambda F, x, t: F.cross_entropy(x, t, x.new_tensor(WEIGHT))),
    (ROWS, cnnc.loss("cross_entropy", soft=True, weight=WEIGHT, label_smoothing=0.1), shares(3, 5),
     lambda F, x, t: F.cross_entropy(x, t, x.new_tensor(WEIGHT), label_smoothing=0.1)),
    (PIXELS, "cross_entropy", PIXEL_LABELS, lambda F, x, t: F.cross_entropy(x, t)),
    (PIXELS, cnnc.loss("cross_entropy", ignore_index=7, label_smoothing=0.3), PIXEL_LABELS,
     lambda F, x, t: F.cross_entropy(x, t, ignore_index=7, label_smoothing=0.3)),
    (PIXELS, cnnc.loss("cross_entropy", soft=True), shares(3, 18, 5, 4), lambda F, x, t: F.cross_entropy(x, t)),
    (ROWS, "multiclass_hinge", LABELS, lambda F, x, t: F.multi_margin_loss(x, t)),
    (ROWS, cnnc.loss("multiclass_hinge", p=2, margin=0.3, weight=WEIGHT), LABELS,
     lambda F, x, t: F.multi_margin_loss(x, t, p=2, margin=0.3, weight=x.new_tensor(WEIGHT))),
    (ROWS, "mse", some(3, 5), lambda F, x, t: F.mse_loss(x, t)),
    (PIXELS, "mse", some(3, 18, 5, 4), lambda F, x, t: F.mse_loss(x, t)),
    (ONE, "l1", some(3), lambda F, x, t: F.l1_loss(x, t)),
    (ROWS, cnnc.loss("huber", delta=0.7), some(3, 5), lambda F, x, t: F.huber_loss(x, t, delta=0.7)),
    (PIXELS, cnnc.loss("smooth_l1", beta=0.4), some(3, 18, 5, 4), lambda F, x, t: F.smooth_l1_loss(x, t, beta=0.4)),
    (ROWS, cnnc.loss("bce_with_logits", pos_weight=3), shares(3, 5),
     lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=x.new_tensor(3.0))),
    (ROWS, "focal", np.round(2 * shares(3, 5)), lambda F, x, t: focal(F, x, t, 0.25, 2)),
    (ROWS, cnnc.loss("focal", gamma=1.5, alpha=-1), shares(3, 5), lambda F, x, t: focal(F, x, t, -1, 1.5)),
    (ROWS, "kl_div", shares(3, 5), lambda F, x, t: F.kl_div(x, t)),
    (ROWS, cnnc.loss("kl_div", reduction="batchmean"), shares(3, 5), lambda F, x, t: F.kl_div(x, t, reduction="batchmean")),
    (ONE, "output", None, lambda F, x, t: x.mean()),
    (ROWS, ["mse", 0.5 * cnnc.loss("l1")], some(3, 5), lambda F, x, t: F.mse_loss(x, t) + 0.5 * F.l1_loss(x, t)),
]  # fmt: skip


def focal(F: Any, x: Any, t: Any, alpha: float, gamma: float) -> Any:
    """As torchvision's `sigmoid_focal_loss`, with its mean."""
    p, entropy = x.sigmoid(), F.binary_cross_entropy_with_logits(x, t, reduction="none")
    loss = entropy * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
    return ((alpha * t + (1 - alpha) * (1 - t)) * loss if alpha >= 0 else loss).mean()


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize(
    ("text", "loss", "target", "theirs"),
    CASES,
    ids=lambda v: str(v) if isinstance(v, Loss | str) and len(str(v)) < 60 else "",
)
def test_pytorch_agrees(text: str, loss: Any, target: Any, theirs: Any) -> None:
    """Value and gradients: the reference to 1e-6 in float64, the CPU to 1e-4."""
    torch = pytest.importorskip("torch")
    net = cnnc.parse(text)
    x = RNG.standard_normal((3, *net.graph.inputs[0].type.shape[1:])).astype(np.float32)
    values = {n: torch.tensor(v, dtype=torch.float64, requires_grad=True) for n, v in net.weights.items()}
    weight, bias = values.values()
    given = torch.tensor(x, dtype=torch.float64)
    F = torch.nn.functional
    y = F.conv2d(given, weight, bias, padding=1) if text == PIXELS else F.linear(given, weight, bias)
    t = (
        None
        if target is None
        else torch.tensor(target, dtype=torch.int64 if target.dtype.kind == "i" else torch.float64)
    )
    expected = theirs(F, y.mean(1) if text == ONE else y, t)
    expected.backward()
    for name, tolerance in (("reference", 1e-6), ("cpu", 1e-4)):
        value, gradients = cnnc.value_and_grad(net, loss, target=name)(*([x] if target is None else [x, target]))
        assert value == pytest.approx(expected.item(), rel=tolerance, abs=tolerance / 10)
        for parameter, wanted in values.items():
            grad = wanted.grad.numpy()
            assert np.abs(gradients[parameter] - grad).max() <= tolerance * max(np.abs(grad).max(), 1e-3), parameter


AUXILIARY = """model m {
    input x: f32[N, 6]
    h = x -> linear(7) as one -> relu
    return {logits: h -> linear(5) as two, aux: h -> linear(5) as three, size: h -> linear(1) as four}
}
"""


def test_several_outputs_and_penalties() -> None:
    """A weighted sum; accuracy is of the first that has classes; penalties are of weights, and not of biases."""
    net, x, y = cnnc.parse(AUXILIARY), some(4, 6), some(4, 1)
    labels = np.array([1, 0, 4, 2])
    loss = {
        "size": 0.1 * cnnc.loss("mse"),
        "logits": ["cross_entropy", 1e-2 * cnnc.loss("l2_penalty")],
        "aux": [0.3 * cnnc.loss("cross_entropy", label_smoothing=0.1), 1e-3 * cnnc.loss("l1_penalty")],
    }
    out = cnnc.compile(net, target="reference")(x)
    exact = {n: v.astype(np.float64) for n, v in net.weights.items()}

    def entropy(z: Any, smoothing: float = 0.0) -> float:
        logs = z - np.log(np.exp(z).sum(1, keepdims=True))
        return float(-((1 - smoothing) * logs[np.arange(4), labels] + smoothing * logs.mean(1)).mean())

    expected = entropy(out["logits"]) + 0.3 * entropy(out["aux"], 0.1) + 0.1 * float(((out["size"] - y) ** 2).mean())
    weights = [v for n, v in exact.items() if n.endswith("weight")]
    expected += sum(1e-2 * float((v * v).sum()) + 1e-3 * float(np.abs(v).sum()) for v in weights)
    trainer = cnnc.Trainer(net, cnnc.sgd(lr=1e-3), loss)
    reference, gradients = cnnc.value_and_grad(net, loss, target="reference")(x, target=y, labels=labels)
    value, accuracy = trainer.measured_step(x, {"labels": labels, "target": y})
    assert reference == pytest.approx(expected, rel=1e-6)
    assert value == pytest.approx(expected, rel=1e-5)
    assert accuracy == np.mean(out["logits"].argmax(1) == labels)
    for name, gradient in gradients.items():
        moved = (exact[name] - net.weights[name]) / 1e-3
        assert np.abs(moved - gradient).max() <= 1e-3 * max(1, np.abs(gradient).max()), name
    with pytest.raises(CnncError, match="E0703"):
        trainer.step(x, labels)
    with pytest.raises(CnncError, match="E0820"):
        cnnc.value_and_grad(net, {"logits": "cross_entropy", "size": "mse"})


def test_an_output_that_is_the_loss() -> None:
    """A model makes its loss itself, one number a network or one an image."""
    for end in ("-> mean(axis=[0, 1])", "-> mean(axis=1)", ""):
        net = cnnc.parse(f"model m {{ input x: f32[N, 4] y = x -> linear(4) as fc  d = y - x  return d * d {end} }}")
        value, gradients = cnnc.value_and_grad(net, "output")(some(3, 4))
        other = cnnc.parse("model m { input x: f32[N, 4] return x -> linear(4) as fc }")
        expected, wanted = cnnc.value_and_grad(other, "mse", target="reference")(some(3, 4), some(3, 4))
        assert value == pytest.approx(expected, rel=1e-5)
        for name, gradient in wanted.items():
            assert np.allclose(gradients[name], gradient, rtol=1e-4, atol=1e-6)
    means = cnnc.parse("model m { input x: f32[N, 4] d = x -> linear(4) as fc  return d -> mean(axis=0) }")
    assert cnnc.value_and_grad(means, "output")(some(3, 4))[0] == pytest.approx(
        float(cnnc.compile(means)(some(3, 4)).mean()), rel=1e-5
    )
    with pytest.raises(CnncError, match="E0806"):
        cnnc.value_and_grad(means, "mse")
    trainer = cnnc.Trainer(net, cnnc.sgd(lr=0.1), "output")
    losses = [trainer.step(some(3, 4)) for _ in range(9)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("text", "written_as"),
    [
        ("cross_entropy", "cross_entropy()"),
        ("cross_entropy(label_smoothing=0.1, weight=[1, 2])", "cross_entropy(label_smoothing=0.1, weight=[1.0, 2.0])"),
        ("0.5 * 2 * mse() + l1", "mse() + l1()"),
        ("{out: huber(2), more: 0.3 * kl_div(reduction=\"batchmean\")}", 
         '{out: huber(delta=2.0), more: 0.3 * kl_div(reduction="batchmean")}'),
        ("output() + 0.1 * l2_penalty()", "output() + 0.1 * l2_penalty()"),
    ],
)  # fmt: skip
def test_recipes(text: str, written_as: str) -> None:
    recipe = cnnc.parse(f"{ROWS} train {{ loss = {text}  l2 = 1e-4 }}").program.recipe
    assert recipe is not None
    assert written(recipe.loss) == written_as
    assert recipe.losses[-1] == Loss("l2_penalty", weight=1e-4)


@pytest.mark.parametrize(
    ("loss", "code", "said"),
    [
        ("nll", "E0808", "the losses are"),
        ("mze", "E0808", "did you mean 'mse'"),
        ([], "E0808", "give one"),
        (3, "E0808", "unknown loss 3"),
        ({"aux": "mse"}, "E0806", "which the network does not have"),
        (cnnc.loss("cross_entropy", weight=[1, 2]), "E0806", "2 weights"),
        (["cross_entropy", cnnc.loss("mse", target="labels")], "E0806", "target of its own"),
    ],
)
def test_losses_that_do_not_fit(loss: Any, code: str, said: str) -> None:
    with pytest.raises(CnncError, match=code) as e:
        cnnc.value_and_grad(cnnc.parse(ROWS), loss)
    assert said in str(e.value)


def test_targets_that_do_not_fit() -> None:
    of_numbers, of_classes = (cnnc.Trainer(cnnc.parse(ROWS), loss=x) for x in ("mse", "multiclass_hinge"))
    for trainer, target, code in (
        (of_numbers, some(3, 4), "E0702"),
        (of_numbers, None, "E0703"),
        (of_numbers, np.array([["a"] * 5] * 3), "E0629"),
        (of_classes, some(3), "E0629"),
        (of_classes, np.array([0, 1, 5]), "E0629"),
        (of_classes, np.array([[0, 1, 2]]), "E0702"),
    ):
        with pytest.raises(CnncError, match=code):
            trainer.step(some(3, 6), target)
    with pytest.raises(CnncError, match="E0806"):
        cnnc.Trainer(
            cnnc.parse("model m { input x: f32[N, 6] return x -> linear(1) -> sigmoid }"), loss="bce_with_logits"
        )
    for wrong in (lambda: cnnc.loss("mze"), lambda: cnnc.loss("huber", delta=-1), lambda: cnnc.loss("mse", x=1)):
        with pytest.raises(CnncError, match="E0706"):
            wrong()


def test_runs_with_other_targets(tmp_path: Path, capsys: Any) -> None:
    """Numbers, shares of classes and labels of pixels from a file; without classes no accuracy is printed; it resumes."""
    x = some(40, 3, 5, 4)
    net = f"{PIXELS} train {{ loss = mse()  batch = 10  epochs = 2  optimizer = sgd(lr=0.05)  l2 = 1e-3 }}"
    np.savez(tmp_path / "d.npz", x=x, y=0.1 * some(40, 18, 5, 4))
    result = train(cnnc.parse(net), tmp_path / "d.npz", tmp_path / "a", epochs=1)
    result = train(cnnc.parse(net), tmp_path / "d.npz", tmp_path / "a", resume=True)
    last, first = result.history[-1], result.history[0]
    assert last["val_loss"] < first["val_loss"]
    assert last["accuracy"] is None
    assert last["val_accuracy"] is None
    assert "accuracy" not in capsys.readouterr().err
    whole = train(cnnc.parse(net), tmp_path / "d.npz", tmp_path / "b", quiet=True)
    assert [r["loss"] for r in whole.history] == [r["loss"] for r in result.history]
    np.savez(tmp_path / "d.npz", x=x, y=np.tile(PIXEL_LABELS[:1], (40, 1, 1)))
    result = train(
        cnnc.parse(net), tmp_path / "d.npz", tmp_path / "c", overrides=["loss=cross_entropy(ignore_index=3)"]
    )
    assert result.history[-1]["accuracy"] is not None
    for overrides, said in (([], "numbers"), (["loss=multiclass_hinge()"], "does not fit")):
        with pytest.raises(CnncError) as e:
            train(cnnc.parse(net), tmp_path / "d.npz", tmp_path / "e", overrides=overrides, quiet=True)
        assert said in str(e.value)


def test_every_loss_is_explained() -> None:
    assert all(kind.doc for kind in LOSSES.values())
