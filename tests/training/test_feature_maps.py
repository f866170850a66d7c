"""DELTA's feature maps and attention: against hand-made hooks, closed forms, and what padding must not change."""

from copy import deepcopy

import numpy as np
import pytest
import scipy.special
import torch
from torch import nn

from epoch_callbacks import Cut, same
from headstart.backbones.huggingface import HuggingFaceText
from headstart.strategies.regularizers import Delta, MapPair
from headstart.training.channel_attention import attention, importances
from headstart.training.feature_maps import StartingMaps, stage_ends
from tiny_models import save_text


def pixels(size=32, number=4):
    noise = torch.Generator().manual_seed(1)
    return {"pixels": torch.randint(0, 256, (number, 3, size, size), generator=noise, dtype=torch.uint8)}


def outputs_of(modules, run):
    """What `modules` give while `run` runs, seen by hooks of the test's own."""
    seen = {}
    hooks = [m.register_forward_hook(lambda _, __, out, key=key: seen.update({key: out})) for key, m in modules.items()]
    run()
    for hook in hooks:
        hook.remove()
    return seen


def test_delta_is_its_formula_on_the_maps_of_two_networks(families):
    """Equation 3 and 4 with 1/C for every channel, layer by layer, by the network's own module names."""
    torch.manual_seed(0)
    backbone = families["cnn"].build(False)
    maps, untouched = StartingMaps(backbone), deepcopy(backbone).eval()
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    backbone.eval()
    inputs = pixels()
    penalty = Delta(alpha=0.3, attention=None)
    _, pairs = maps.compared(lambda model: model(inputs), inputs)
    names = ["layer1", "layer2", "layer3", "layer4"]
    tuned, start = (
        outputs_of({n: model.model.get_submodule(n) for n in names}, lambda model=model: model(inputs))
        for model in (backbone, untouched)
    )
    expected = 0.0
    for name in names:
        gap = (tuned[name] - start[name]).detach().double().numpy()
        batch, _, height, width = gap.shape
        expected += 0.3 / 2 * np.square(gap).sum() / (height * width) / batch
    assert len(pairs) == 4
    assert penalty.of_examples(pairs).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", ["cnn", "vit"])
def test_nothing_has_moved_at_the_start(families, family):
    backbone = families[family].build(False).eval()
    inputs = pixels()
    _, pairs = StartingMaps(backbone).compared(lambda model: model(inputs), inputs)
    assert len(pairs) in (3, 4)
    assert Delta().of_examples(pairs).item() == 0


def test_the_gradient_pulls_every_channel_by_its_attention(families):
    """Of `alpha/2 · C W_j · gap² / P / B` by a channel's value: `alpha · C · W_j · gap / (P · B)`."""
    torch.manual_seed(0)
    tuned, start = torch.randn(2, 3, 5, requires_grad=True), torch.randn(2, 3, 5)
    penalty = Delta(alpha=0.7)
    penalty.weights = {"layer": torch.tensor([0.5, 0.3, 0.2])}
    penalty.of_examples({"layer": MapPair(tuned, start)}).backward()
    weights = torch.tensor([0.5, 0.3, 0.2])[None, :, None]
    torch.testing.assert_close(tuned.grad, 0.7 * 3 * weights * (tuned.detach() - start) / (5 * 2))


def test_padding_does_not_count(tmp_path):
    """The penalty on two texts of unlike lengths is the mean of that on each alone."""
    backbone = HuggingFaceText(str(save_text(tmp_path / "bert", "bert"))).build(True).eval()
    maps = StartingMaps(backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    ids, mask = torch.tensor([[2, 7, 8, 9, 10, 3], [2, 11, 3, 1, 1, 1]]), torch.tensor([[1] * 6, [1] * 3 + [0] * 3])

    def penalty(ids, mask):
        inputs = {"input_ids": ids, "attention_mask": mask}
        return Delta(alpha=1.0).of_examples(maps.compared(lambda model: model(inputs), inputs)[1]).item()

    alone = penalty(ids[:1], mask[:1]), penalty(ids[1:, :3], mask[1:, :3])
    assert alone[0] > 0
    assert penalty(ids, mask) == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_attention_is_the_softmax_of_standardised_importances():
    rises = torch.tensor([0.1, -0.02, 0.4, 0.0], dtype=torch.float64)
    values = rises.numpy()
    expected = scipy.special.softmax((values - values.mean()) / values.std() / 5)
    np.testing.assert_allclose(attention(rises).numpy(), expected, rtol=1e-9)
    np.testing.assert_array_equal(attention(torch.zeros(4)).numpy(), np.full(4, 0.25))


def test_importance_is_the_rise_of_the_loss_without_the_channel(families):
    """Of the last stage in closed form, as its map is averaged into the features; below it by zeroing by hand."""
    torch.manual_seed(0)
    backbone = families["cnn"].build(False).eval()
    head, loss, targets = nn.Linear(backbone.num_features, 3), nn.CrossEntropyLoss(), torch.tensor([0, 1, 2, 0, 1])
    inputs = pixels(number=5)
    parts = [({"pixels": inputs["pixels"][place]}, targets[place]) for place in (slice(3), slice(3, 5))]
    found = importances(backbone, head, parts, loss)
    assert [len(rises) for rises in found.values()] == [8, 8, 16, 16]
    with torch.no_grad():
        features = backbone(inputs)
        for channel in range(16):
            without = features.clone()
            without[:, channel] = 0
            expected = loss(head(without), targets) - loss(head(features), targets)
            assert found["layer4.0"][channel].item() == pytest.approx(expected.item(), abs=1e-6)
        for channel in (0, 5):
            layer = backbone.model.get_submodule("layer2")

            def zero(_, __, out, channel=channel):
                out[:, channel] = 0

            hook = layer.register_forward_hook(zero)
            expected = loss(head(backbone(inputs)), targets) - loss(head(features), targets)
            hook.remove()
            assert found["layer2.0"][channel].item() == pytest.approx(expected.item(), abs=1e-6)


def test_stages_end_with_their_last_block(families):
    assert list(stage_ends(families["cnn"].build(False))) == ["layer1.0", "layer2.0", "layer3.0", "layer4.0"]
    assert list(stage_ends(families["vit"].build(False))) == ["blocks.0", "blocks.1", "blocks.2"]


@pytest.mark.parametrize("words", [(), ("strategy.average=ema",)])
def test_a_run_cut_off_is_pulled_to_the_same_start(rig, words):
    whole = rig("cnn", "delta", *words, max_epochs=3).fit()
    with pytest.raises(InterruptedError):
        rig("cnn", "delta", *words, max_epochs=3, callbacks=[Cut(1)], folder="cut").fit()
    same(whole, rig("cnn", "delta", *words, max_epochs=3, folder="cut").fit())


def test_a_strong_pull_keeps_the_maps_where_they_were(rig):
    """Beside the same run with next to no pull."""
    gaps = []
    for alpha in ("1e-6", "1000"):
        run = rig("vit", "delta", f"strategy.regularizer.alpha={alpha}", optimizer="adamw", max_epochs=3, folder=alpha)
        run.fit()
        inputs = next(run.batches_of_inputs())["inputs"]
        run.module.eval()
        _, pairs = run.module.maps.compared(lambda model, inputs=inputs: model(inputs), inputs)
        gaps.append(Delta(alpha=1.0).of_examples(pairs).item())
    assert gaps[1] < gaps[0] / 3


def test_the_copy_is_no_part_of_what_is_trained_or_kept(rig):
    run = rig("cnn", "delta", max_epochs=1).fit()
    plain = rig("cnn", "fine_tune", max_epochs=1, folder="plain").fit()
    assert run.state().keys() == plain.state().keys()
    start = rig("cnn", "fine_tune", folder="start").module.backbone.state_dict()
    for name, tensor in run.module.maps.copy.state_dict().items():
        assert torch.equal(tensor, start[name]), name
