"""A walk over every setting that our configs offer: of what is no value, each is taken for what it says, or refused."""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tiny_models
from headstart.config import schema
from headstart.config.composer import Composer, Loader, conf_dir, search_path
from headstart.config.explanation import COMPOSITION_ERRORS, explained
from headstart.errors import InputError
from headstart.run.prepare import job_config, prepare
from pictures import write_folder, write_weights
from shards import write_shards

VALUES = (
    "null",
    "-1",
    "0",
    "0.5",
    "inf",
    "nan",
    "true",
    "something",
    "",
    "[]",
    "[1,2]",
    "{a: 1}",
    "1e30",
    f"1{30 * '0'}",
)
"""As they are typed; the last one is whole."""
PICTURES = ["data=image_folder", "data.root=pictures", "data.size=32"]
NETWORK = ["backbone=timm", "backbone.model=test_efficientnet", "backbone.weights=none"]
TEXTS = ["data=text_csv", "data.path=texts.csv"]
READER = ["backbone=huggingface_text", "backbone.model=reader"]
SOUNDS = ["data=synthetic_audio", "data.seconds=0.5"]
LISTENER = ["backbone=huggingface_audio", "backbone.model=listener"]
WHERE = {
    "audio_csv": ["data.path=sounds.csv"],
    "audio_folder": ["data.root=sounds"],
    "audio_hub": ["data.dataset=recordings"],
    "image_shards": ["data.path=shards"],
    "image_csv": ["data.path=pictures.csv"],
    "image_folder": ["data.root=pictures"],
    "image_hub": ["data.dataset=pictures"],
    "text_csv": ["data.path=texts.csv"],
    "text_hub": ["data.dataset=hub"],
}
"""What the configs of group data cannot do without."""


def makers() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Group, name and content of every config that makes a part, and of the trainer's."""
    for path in sorted(conf_dir().glob("*/*.yaml")):
        group = path.parent.name
        if group in schema.GROUPS or (group, path.stem) == ("trainer", "default"):
            yield group, path.stem, yaml.safe_load(path.read_text(encoding="utf8")) or {}


def settings(node: dict[str, Any], above: str) -> Iterator[str]:
    for name, value in node.items():
        if name in ("_target_", "defaults", "space"):
            continue
        if isinstance(value, dict):
            yield from settings(value, f"{above}.{name}")
        else:
            yield f"{above}.{name}"


def context(group: str, name: str, target: str) -> list[str]:
    """Words with which a run that uses this config is right."""
    kinds = {"Text": [*TEXTS, *READER], "text": [*TEXTS, *READER], "audio": [*SOUNDS, *LISTENER]}
    kinds |= {"Audio": kinds["audio"], "Spectrogram": [*SOUNDS, "backbone=spectrogram", *NETWORK[1:]]}
    words = next((words for kind, words in kinds.items() if kind in target), [*PICTURES, *NETWORK])
    if group == "data":
        kept = [word for word in words if not word.startswith("data")]
        size = ["data.size=32"] if "image" in name or name == "openmoji" else []
        return [f"data={name}", *WHERE.get(name, []), *size, *kept]
    if group == "backbone":
        own = [word for word in words if not word.startswith("backbone=")]
        own += ["backbone.pooling=mean"] * (name == "ast_audioset") + ["backbone.weights=none"] * ("timm" in target)
        return [*dict.fromkeys([f"backbone={name}", *own])]
    more = ["trainer.max_epochs=20"] if name == "on_plateau" else []
    if name == "cotuning":
        words = [word for word in words if not word.startswith("backbone.weights")] + ["backbone.weights=weights/w.pth"]
    other = "feature_extraction" if name == "knn" else "fine_tune"
    return [*words, *more, *([] if group == "strategy" else [f"strategy={other}"]), f"{group}={name}"]


def walk() -> dict[tuple[str, str], list[str]]:
    """By setting, and by what it is a setting of, the words of a run that has it; each once."""
    found: dict[tuple[str, str], list[str]] = {}
    for group, name, node in makers():
        target = node.get("_target_", "")
        where = name if group == "strategy" else target.rpartition(".")[2] or name
        for key in settings(node, group):
            found.setdefault((where, key), context(group, name, target))
    spine = [name for name in schema.SPINE if name.partition(".")[0] in ("seed", "name", "features")]
    for key in sorted({*spine, *schema.GROUPS, "trainer", "experiment"} - {"split", "task"}):
        found["", key] = [*PICTURES, *NETWORK]
    return found


ACCEPTED = {
    "": """
        augmentation.max_snr_db augmentation.views augmentation.num_ops backbone.model backbone.weights backbone.pooling
        backbone.window head.k
        backbone.layers backbone.sample_rate backbone.n_fft backbone.win_length backbone.hop_length backbone.num_mels
        backbone.top_db data.path data.audio_column data.label_column data.part data.cache_bytes AudioFolder/data.root
        ImageFolder/data.root data.image_column data.variant data.clips_per_class data.text_column data.dataset
        head.solver head.init head.hidden head.num_hidden_layers
        scheduler.start_divisor scheduler.end_divisor scheduler.ratio strategy.kinds strategy.granularity
        strategy.frozen_norm strategy.thawed_norm strategy.pretrained strategy.adapter.r strategy.last_k
        trainer.max_epochs trainer.batch_size trainer.accumulate_grad_batches trainer.precision trainer.accelerator
        trainer.devices unfreeze.every unfreeze.num_groups unfreeze.patience
        unfreeze.phases augmentation backbone data features head logger optimizer scheduler strategy
        trainer unfreeze
    """,
    "0": """
        augmentation.magnitude augmentation.fill augmentation.num_time_masks augmentation.num_band_masks
        trainer.num_workers seed
    """,
    "0.5": """
        augmentation.alpha augmentation.min_scale augmentation.mixup_alpha augmentation.cutmix_alpha
        augmentation.max_time augmentation.max_band backbone.rate backbone.seconds SyntheticAudio/data.seconds head.l2
        optimizer.momentum strategy.layer_decay strategy.backbone_rate
        sam/strategy.sam strategy.regularizer.weight
        strategy.regularizer.alpha strategy.regularizer.eta strategy.adapter.alpha unfreeze.rate features.budget_gb
    """,
    "[]": """
        feature_extraction/strategy.groups experiment
    """,
    "null": """
        feature_extraction/strategy.sam
        AudioCsv/data.root ImageCsv/data.root backbone.weights_key backbone.max_length backbone.size backbone.f_max
        backbone.mean backbone.std AudioCsv/data.shifts AudioFolder/data.shifts ImageCsv/data.shifts
        ImageFolder/data.shifts TextCsv/data.shifts TextHub/data.shifts ImageHub/data.shifts AudioHub/data.shifts
        ImageShards/data.shifts data.label_member
        data.splits data.encoding data.size data.fit data.max_length
        data.pair_column data.subset data.revision strategy.adapter.targets strategy.first_k partial/strategy.groups
        trainer.max_steps trainer.threads trainer.patience trainer.limit_batches unfreeze.epochs
    """,
    "true": """
        WandB/logger.log_checkpoints optimizer.nesterov strategy.adapter.merge unfreeze.restart unfreeze.restore_best
        trainer.reuse_views trainer.deterministic trainer.keep_checkpoint
    """,
    "0 0.5": """
        augmentation.max_shift augmentation.max_gain_db augmentation.noise augmentation.flip augmentation.p
        backbone.f_min head.dropout optimizer.weight_decay scheduler.warmup scheduler.final scheduler.rise scheduler.cut
        strategy.regularizer.beta strategy.adapter.dropout trainer.min_delta
        unfreeze.warmup_epochs unfreeze.min_delta
    """,
    "null 0.5": """
        AudioCsv/data.seconds AudioFolder/data.seconds trainer.gradient_clip_val strategy.sam head.temperature
    """,
    "null [1,2]": """
        data.value_range
    """,
    "null []": """
        OpenMoji/data.shifts SyntheticAudio/data.shifts logger.tags
    """,
    "null true": """
        logger.offline
    """,
    "-1 0 0.5": """
        augmentation.min_snr_db
    """,
    "null [] [1,2]": """
        data.missing_values
    """,
    "-1 0 0.5 inf nan true something 1e30 huge": """
        name
    """,
    "null -1 0 0.5 inf nan true something 1e30 huge": """
        data.name logger.project logger.entity logger.group features.root
    """,
}
"""By the values that are taken (`huge` is the last one), the settings that take them and no others."""


def accepted() -> dict[str, list[str]]:
    """By setting, with what it is one of where that makes a difference, the values that it takes."""
    taken = {values: values.replace("huge", VALUES[-1]).split() for values in ACCEPTED}
    return {name: taken[values] for values, names in ACCEPTED.items() for name in names.split()}


WALK, TAKEN = walk(), accepted()
COMPOSERS: dict[tuple[str, ...], Composer] = {}
"""By the words of a run: each is composed once."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a little data and tiny models of every kind."""
    folder = tmp_path_factory.mktemp("home")
    pictures = write_folder(folder / "pictures", per_class=8)
    write_weights(folder / "weights" / "w.pth")
    write_shards(folder / "shards")
    rows = [f"{path.relative_to(folder)},{path.parent.name}\n" for path in sorted(pictures.rglob("*.png"))]
    (folder / "pictures.csv").write_text("image,label\n" + "".join(rows))
    texts = [{"text": f"the cat {number} runs", "label": "ab"[number % 2]} for number in range(40)]
    (folder / "texts.csv").write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in texts))
    (folder / "hub").mkdir()
    (folder / "hub" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    tiny_models.save_text(folder / "reader", "bert")
    tiny_models.save_audio(folder / "listener", "wav2vec2")
    write_sounds(folder)
    return folder


def write_sounds(folder: Path) -> None:
    """Two class folders of noise, and a table of them, where files of sound can be read."""
    try:
        import soundfile
    except ImportError:
        return
    rng, rows = np.random.default_rng(0), []
    for number in range(20):
        place = folder / "sounds" / "ab"[number % 2] / f"{number}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, rng.normal(0, 0.1, 4000), 16_000)
        rows.append(f"{place.relative_to(folder)},{place.parent.name}\n")
    (folder / "sounds.csv").write_text("audio,label\n" + "".join(rows))
    import pyarrow
    from pyarrow import parquet

    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in sorted((folder / "sounds").rglob("*.wav"))]
    table = pyarrow.table({"audio": cells, "label": ["ab"[number // 10] for number in range(20)]})
    (folder / "recordings").mkdir()
    parquet.write_table(table, folder / "recordings" / "train.parquet")


def outcome(key: str, value: str, words: list[str]) -> str:
    """What is said against a value; empty where it is taken."""
    first = [] if key.startswith("logger") else ["logger=none"]
    kept = tuple(word for word in (*first, *words) if word.partition("=")[0] != key)
    loader = Loader(search_path())
    composer = COMPOSERS.setdefault(kept, Composer(loader, common=kept))
    line = [*kept, f"{key}={value}"]
    try:
        prepare(job_config(*composer.compose(line)))
    except COMPOSITION_ERRORS as error:
        return str(explained(error, loader, line))
    except InputError as error:
        return str(error)
    return ""


def taken(key: str, words: list[str], values: Sequence[str]) -> list[str]:
    """The values that are taken, having made sure of all that is to hold for the others."""
    before, found = sorted(Path().rglob("*")), []
    for value in values:
        began = time.process_time()
        said = outcome(key, value, words)
        assert time.process_time() - began < 5, value
        if said:
            names = (key, key.partition(".")[0], value or key)
            assert any(name in said for name in names), (value, said)
        else:
            found.append(value)
    assert sorted(Path().rglob("*")) == before
    return found


@pytest.mark.parametrize("how", ["one", pytest.param("all", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("where", "key"), WALK)
def test_what_is_no_value_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, where: str, key: str, how: str):
    """One value of each setting, and another of the next; all of them in the slow tests."""
    monkeypatch.chdir(home)
    if where.startswith("Audio") and key.startswith("data."):
        pytest.importorskip("soundfile", reason="files of sound cannot be read")
    place = [*WALK].index((where, key))
    values = VALUES if how == "all" else (VALUES[place % len(VALUES)],)
    found = taken(key, WALK[where, key], values)
    expected = TAKEN.get(f"{where}/{key}", TAKEN.get(key))
    assert expected is None or found == [value for value in values if value in expected]
