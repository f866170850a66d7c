"""`headstart plan`: counts, work and pictures, without weights, data or training."""

import json

import pytest

from headstart.cli.hydra_app import compose_config, plan
from headstart.cli.plan import forecast, page
from headstart.run.prepare import draft, job_config

BY_STAGE = ["strategy=gradual_unfreeze", "strategy.granularity=stages", "unfreeze.every=1"]
RESNET = ["backbone=resnet18", "backbone.weights=hub", "trainer.max_epochs=8"]


def foreseen(*words):
    return forecast(draft(job_config(compose_config([*RESNET, *words]))))


def test_trained_parameters_are_counted_per_phase_by_hand():
    found = foreseen(*BY_STAGE)
    # torchvision's documented 11,689,512 less the classifier's 513,000, and a head for eight classes
    assert found["total_parameters"] == 11_689_512 - 513_000 + 8 * 513
    layer4 = 8_393_728
    assert [phase["trainable_parameters"] for phase in found["phases"]][:2] == [8 * 513, layer4 + 8 * 513]
    assert found["phases"][-1]["trainable_parameters"] == found["total_parameters"]
    assert found["parameters"]["layer4"] == layer4
    assert found["parameters"]["head"] == 8 * 513
    assert sum(found["parameters"].values()) == found["total_parameters"]


def test_phases_have_their_epochs_and_the_work_adds_up():
    found = foreseen(*BY_STAGE, "split.n_per_class=20")
    assert [(phase["start"], phase["end"]) for phase in found["phases"]] == [
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 4),
        (4, 5),
        (5, 8),
    ]
    assert found["num_train_examples"] == 160
    work = [phase["flops_per_example"] for phase in found["phases"]]
    assert work == sorted(work)
    assert found["flops"] == pytest.approx(160 * (sum(work) + 2 * work[-1]))


def test_full_training_takes_three_times_a_forward_pass_and_probing_one():
    """At 224 px a forward pass of ResNet-18 is 1.82 GMACs (timm's table)."""
    uncached = ["strategy=gradual_unfreeze", "strategy.frozen_norm=batch_stats", "data.size=224"]
    frozen = foreseen(*uncached)["phases"][0]["flops_per_example"]
    full = foreseen("strategy=fine_tune", "data.size=224")["phases"][0]["flops_per_example"]
    assert frozen == pytest.approx(2 * 1.82e9, rel=0.01)
    assert full == pytest.approx(2.94 * frozen, rel=0.02)


@pytest.mark.parametrize("strategy", ["feature_extraction", "lp_ft", "gradual_unfreeze"])
def test_a_cached_probe_counts_its_head_alone(strategy):
    found = foreseen(f"strategy={strategy}")
    assert found["phases"][0]["flops_per_example"] == pytest.approx(2 * 2 * 512 * 8)


def test_work_begins_where_activations_are_stored():
    """Against the same plan under augmentation, where everything below is run in each step."""
    words = ["strategy=partial", "strategy.last_k=2", "data.size=64"]
    stored, live = (foreseen(*words, f"augmentation={name}")["phases"][0] for name in ("none", "light"))
    assert (stored["starts_after"], live["starts_after"]) == ("layer3.1", None)
    # what is left out is one forward pass up to layer3.1: all of ResNet-18 but layer4
    forward = foreseen("strategy=feature_extraction", "data.size=64", "augmentation=mixup_cutmix")
    assert 0 < live["flops_per_example"] - stored["flops_per_example"] < forward["phases"][0]["flops_per_example"]


def test_adapters_are_counted():
    found = foreseen("strategy=lora", "backbone=vit_small", "strategy.adapter.r=4")
    assert found["phases"][0]["trainable_parameters"] == 12 * 4 * (384 + 3 * 384) + 8 * 385


def test_the_page_fits_a_terminal():
    drafted = draft(job_config(compose_config([*RESNET, "strategy=gradual_unfreeze"])))
    for width in (80, 120):
        lines = page(drafted, width).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[0] == "resnet18: 11.2 M parameters in 10 depth groups, 8 epochs"


def test_json_is_whole_and_nothing_else_is_printed(capsys):
    assert plan([*RESNET, "strategy=lp_ft", "unfreeze.epochs=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["plan"]["phases"][1]["start"] == 2
    assert set(found["rates"]) == {*found["plan"]["groups"]}
    assert len(found["rates"]["head"]) == 8


def test_it_needs_neither_weights_nor_data(monkeypatch, capsys):
    import socket

    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("the network was asked"))
    words = ["strategy=partial", "strategy.last_k=1", "data=image_folder", "data.root=/nowhere"]
    assert plan([*RESNET, *words]) == 0
    assert "with a head for 10 classes; the data's own are not known" in capsys.readouterr().out


@pytest.mark.parametrize("max_epochs", [2, 3, 10])
@pytest.mark.parametrize(
    "backbone",
    [
        "vit_small",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("efficientnet_lite0", "resnet50")),
        pytest.param("spectrogram_efficientnet_lite0", marks=pytest.mark.slow),
    ],
)
def test_gradual_unfreezing_is_fine_tuning_that_unfreezes_gradually(backbone, max_epochs):
    words = [f"backbone={backbone}", "backbone.weights=none", f"trainer.max_epochs={max_epochs}"]
    chosen = [["strategy=gradual_unfreeze"], ["strategy=fine_tune", "unfreeze=gradual"]]
    plans = [draft(job_config(compose_config([*words, *more]))).plan for more in chosen]
    assert plans[0].to_dict() == plans[1].to_dict()
    assert plans[0].phases[-1].start < max_epochs
    assert plans[0].trained(len(plans[0].phases) - 1) == plans[0].groups[:-1]


def test_the_plan_says_how_thaws_are_spread():
    words = [*RESNET, "strategy=gradual_unfreeze", "trainer.max_epochs=3"]
    said = " ".join(page(draft(job_config(compose_config(words))), 100).split())
    assert "unfreeze.every=auto: 2 thaws, of at most 5 groups, are spread over 3 epochs." in said


@pytest.fixture
def texts(tmp_path):
    rows = [f"text number {n},{'abc'[n % 3]},{n + 0.5},author {n // 3}" for n in range(60)]
    (tmp_path / "texts.csv").write_text("text,label,score,author\n" + "\n".join(rows) + "\n")
    return ["backbone=minilm", "data=text_csv", f"data.path={tmp_path / 'texts.csv'}", "strategy=feature_extraction"]


def test_the_parts_of_texts_are_said_with_their_groups(texts):
    drafted = draft(job_config(compose_config([*texts, "split=kfold", "split.fold=2", "split.group_column=author"])))
    found, said = forecast(drafted), " ".join(page(drafted, 200).split())
    assert found["num_classes"] == 3
    assert sum(found["sizes"].values()) == 60
    assert found["sizes"]["test"] == 12
    assert found["groups"] == {"column": "author", **{part: n // 3 for part, n in found["sizes"].items()}}
    assert "12 test (fold 2)" in said
    assert "Groups of column 'author':" in said


def test_ranges_of_which_a_part_has_no_example_are_said_by_the_plan_too(texts):
    words = [*texts, "task=regression", "data.label_column=score", "split=column", "split.column=author"]
    table = next(word for word in texts if word.startswith("data.path=")).partition("=")[2]
    with open(table) as file:
        lines = file.read().splitlines()
    parts = ["split", *("test" if n < 12 else "val" if n % 5 == 0 else "train" for n in range(60))]
    with open(table, "w") as file:
        file.writelines(f"{line},{part}\n" for line, part in zip(lines, parts, strict=True))
    said = forecast(draft(job_config(compose_config([*words[:-1], "split.column=split"]))))["remarks"]
    assert said[0].startswith("1 of 5 ranges of the first target has no example in train: '0.5 to 12.3' (12)")
    assert [remark.partition(" in ")[2].partition(":")[0] for remark in said] == ["train", "val", "test"]


def shown(*words):
    return " ".join(page(draft(job_config(compose_config([*RESNET, *words]))), 100).split())


def test_what_a_strategy_does_beside_its_rates_is_said():
    assert "every channel at the ends of stages is left out in turn on 64 training examples" in shown("strategy=delta")
    assert "Rates: those shown are the highest there may be" in shown("strategy=surgical_auto")
    assert "Steps: by the gradient at weights that were moved by 0.05" in shown("strategy=sam")
    assert "Penalty: the classifier of the pretraining is tuned too" in shown("strategy=cotuning")
    assert "Batch norms that train take the batch's statistics with probability 0.5" in shown("strategy=stochnorm")
    assert not {"Penalty:", "Rates:", "Batch norms"} & set(shown("strategy=fine_tune").split())


def test_a_frozen_copy_is_one_more_forward_pass():
    plain, copied = (foreseen(f"strategy={name}", "data.size=64")["phases"][0] for name in ("fine_tune", "delta"))
    assert copied["flops_per_example"] == pytest.approx(plain["flops_per_example"] * 3.94 / 2.94, rel=0.02)
