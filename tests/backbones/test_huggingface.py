"""Text backbones: every family loaded from what save_pretrained wrote, against transformers' own outputs."""

import hashlib
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from headstart.backbones.huggingface import HuggingFaceText
from headstart.data.augmentation import NoAugmentation
from headstart.data.texts import Texts
from headstart.errors import InputError
from headstart.features.store import FeatureStore
from headstart.strategies.adapters import Lora
from headstart.training.activations import FrozenFeatures, Kept
from headstart.training.rows import rows
from headstart.training.thaw import hold
from headstart.training.work import counter

FAMILIES = ["bert", "roberta", "distilbert", "electra", "deberta", "gpt2", "llama"]
DECODERS = ("gpt2", "llama")
TEXTS = ["the cat runs", "a very small dog sleeps in the house under the tree", "it", "red and blue", "is it not large"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, tiny_models) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_models.save_text(root / family, family) for family in FAMILIES}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))


def made(folder: Path, family: str, **arguments) -> HuggingFaceText:
    return HuggingFaceText(str(folder), **{"pooling": "last" if family in DECODERS else "mean", **arguments})


def read(factory: HuggingFaceText) -> Texts:
    return Texts(TEXTS, None, "fingerprint", **factory.reading().arguments)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_gives_what_single_examples_give(folders, family):
    factory = made(folders[family], family)
    factory.check(True)
    backbone, texts = factory.build(True).eval(), read(factory)
    with torch.no_grad():
        together = backbone(texts.batch(np.arange(len(TEXTS))))
        alone = torch.cat([backbone(texts.batch([place])) for place in range(len(TEXTS))])
    assert together.shape == (len(TEXTS), backbone.num_features)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers_own_model(folders, family):
    from transformers import AutoModel

    factory = made(folders[family], family)
    backbone, texts = factory.build(True).eval(), read(factory)
    oracle = AutoModel.from_pretrained(folders[family]).eval()
    with torch.no_grad():
        for place in range(len(TEXTS)):
            inputs = texts.batch([place])
            hidden = oracle(input_ids=inputs["input_ids"]).last_hidden_state[0]
            expected = hidden[-1] if family in DECODERS else hidden.mean(0)
            torch.testing.assert_close(backbone(inputs)[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("adapted", [False, True])
def test_every_tensor_lies_in_exactly_one_group_in_order_of_depth(folders, family, adapted):
    backbone = made(folders[family], family).build(True)
    if adapted:
        Lora(r=2).inject(backbone)
    for granularity in ("blocks", "stages"):
        groups = backbone.groups(granularity)
        grouped = [id(t) for group in groups for t in (*group.parameters.values(), *group.buffers.values())]
        assert len(grouped) == len(set(grouped))
        assert set(grouped) == {id(t) for t in (*backbone.parameters(), *backbone.buffers())}
        named = dict(backbone.named_parameters())
        assert all(named[name] is p for group in groups for name, p in group.parameters.items())
    names = [group.name for group in backbone.groups()]
    tail = ["tail"] if family in DECODERS else []
    assert names == ["stem", "blocks.0", "blocks.1", "blocks.2", "blocks.3", *tail]
    stem = backbone.groups()[0].parameters
    assert any("embed" in name or "wte" in name for name in stem)
    assert not any("lora_" in name for name in stem)


@pytest.mark.parametrize("family", FAMILIES)
def test_groups_are_the_same_without_memory_for_weights(folders, family):
    factory = made(folders[family], family)
    with torch.device("meta"):
        outline = factory.build(False)
    backbone = factory.build(True)
    assert all(parameter.is_meta for parameter in outline.parameters())
    assert [list(g.parameters) for g in outline.groups()] == [list(g.parameters) for g in backbone.groups()]


@pytest.mark.parametrize("family", FAMILIES)
def test_frozen_groups_and_what_lies_between_them_draw_no_random_numbers(folders, family):
    factory = made(folders[family], family)
    backbone = factory.build(True)
    inputs = read(factory).batch(np.arange(len(TEXTS)))
    groups = backbone.groups()
    frozen = [(m, "eval") for group in groups[:3] for module in group.modules for m in module.modules()]
    backbone.train()
    hold(frozen)
    boundary = groups[2].name
    assert boundary in backbone.boundaries
    first, second = (backbone.prefix(inputs, boundary)["hidden"] for _ in range(2))
    assert torch.equal(first, second)
    backbone.train()
    first, second = (backbone.prefix(inputs, boundary)["hidden"] for _ in range(2))
    if family != "llama":  # has no dropout
        assert not torch.equal(first, second)


@pytest.mark.parametrize("family", FAMILIES)
def test_cuts_are_exact_and_pass_over_what_lies_before_them(folders, family):
    factory = made(folders[family], family)
    backbone = factory.build(True).eval()
    inputs = read(factory).batch(np.arange(len(TEXTS)))
    with torch.no_grad():
        whole = backbone(inputs)
        boundaries = backbone.boundaries
        for boundary in boundaries:
            activations = backbone.prefix(inputs, boundary)
            assert all(len(tensor) == len(TEXTS) for tensor in activations.values())
            assert torch.equal(backbone.suffix(activations, boundary), whole)
    assert boundaries == [group.name for group in backbone.groups()]
    activations = backbone.prefix(inputs, "blocks.1")
    with torch.no_grad():
        backbone.model.get_input_embeddings().weight.fill_(float("nan"))
        assert torch.equal(backbone.suffix(activations, "blocks.1"), whole)


@pytest.mark.parametrize(
    ("family", "targets"),
    {
        "bert": {"query", "key", "value"},
        "roberta": {"query", "key", "value"},
        "distilbert": {"q_lin", "k_lin", "v_lin"},
        "electra": {"query", "key", "value"},
        "deberta": {"query_proj", "key_proj", "value_proj"},
        "gpt2": {"c_attn"},
        "llama": {"q_proj", "k_proj", "v_proj"},
    }.items(),
)
def test_lora_finds_the_projections_of_every_family_and_starts_from_the_same_features(folders, family, targets):
    factory = made(folders[family], family)
    backbone = factory.build(True).eval()
    inputs = read(factory).batch(np.arange(len(TEXTS)))
    with torch.no_grad():
        before = backbone(inputs)
        adapter = Lora(r=2)
        adapter.check(backbone)
        assert {name.rpartition(".")[2] for name in adapter.target_names(backbone)} == targets
        adapter.inject(backbone)
        assert torch.equal(backbone(inputs), before)
    kinds = {row[1] for row in rows(backbone.groups(), backbone) if row[0].startswith("blocks.")}
    assert "adapter" in kinds


@pytest.mark.parametrize("family", FAMILIES)
def test_training_the_upper_groups_leaves_every_bit_of_the_lower_ones(folders, family):
    factory = made(folders[family], family)
    backbone = factory.build(True)
    inputs = read(factory).batch(np.arange(len(TEXTS)))
    frozen, free = backbone.groups()[:3], backbone.groups()[3:]
    backbone.train()
    hold([(m, "eval") for group in frozen for module in group.modules for m in module.modules()])
    for parameter in (p for group in frozen for p in group.parameters.values()):
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    optimizer = torch.optim.AdamW([p for group in free for p in group.parameters.values()], lr=0.1)
    for _ in range(2):
        backbone(inputs).pow(2).sum().backward()
        optimizer.step()
    after = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    for group in frozen:
        for name in (*group.parameters, *group.buffers):
            assert torch.equal(after[name], before.get(name, after[name])), name
    moved = [not torch.equal(after[name], before[name]) for group in free for name in group.parameters]
    assert all(moved)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_kept_in_the_store_are_those_computed_again(folders, family, tmp_path):
    factory = made(folders[family], family)
    texts, backbone = read(factory), factory.build(True)

    def features():
        store = FeatureStore(tmp_path / "store", 10**8)
        frozen = FrozenFeatures(store, factory.identity(True), lambda: backbone, torch.device("cpu"), "32-true", 2)
        return frozen.of(texts, "fingerprint", factory.reading().description).clone()

    computed = features()
    with torch.no_grad():
        alone = torch.cat([backbone.eval()(texts.batch([place])) for place in range(len(TEXTS))])
    torch.testing.assert_close(computed, alone, rtol=0, atol=1e-5)
    backbone = None  # what is kept needs no model
    assert torch.equal(features(), computed)


@pytest.mark.parametrize("family", FAMILIES)
def test_texts_of_all_lengths_start_from_what_is_stored_of_their_tokens(folders, family, tmp_path):
    """In batches other than those it was computed in, and with nothing stored of padding."""
    factory = made(folders[family], family)
    texts, backbone = read(factory), factory.build(True).eval()
    frozen = FrozenFeatures(
        FeatureStore(tmp_path / "store", 10**8), {}, lambda: backbone, torch.device("cpu"), "32-true", 2
    )
    for boundary in ("stem", "blocks.1"):
        views = frozen.views(texts, "fingerprint", {}, NoAugmentation(), {}, boundary, texts.lengths)
        assert len(views[0]["hidden"]) == texts.lengths.sum()
        kept = Kept(boundary, views, torch.from_numpy(texts.lengths))
        for chosen in ([4, 0, 3], [2], list(range(len(TEXTS)))):
            inputs = texts.batch(chosen)
            given = kept.of(0, {"inputs": inputs, "index": torch.tensor(chosen)}, backbone)
            with torch.no_grad():
                fresh, whole = backbone.prefix(inputs, boundary), backbone(inputs)
                torch.testing.assert_close(backbone.suffix(given, boundary), whole, rtol=0, atol=1e-5)
            assert given.keys() == fresh.keys()
            for name in given:
                torch.testing.assert_close(given[name], fresh[name], rtol=0, atol=1e-5)


def test_the_work_on_texts_is_counted_by_their_lengths(folders, tmp_path):
    """A pass over texts of all lengths takes what single texts take, but for the padding between neighbours."""
    factory = made(folders["bert"], "bert")
    texts, backbone = read(factory), factory.build(True).eval()
    found = []
    for size in (1, 2):
        store = FeatureStore(tmp_path / str(size), 10**8)
        frozen = FrozenFeatures(store, {}, lambda: backbone, torch.device("cpu"), "32-true", size)
        frozen.of(texts, "fingerprint", {})
        found.append(frozen.flops)
    alone = 0
    for place in range(len(TEXTS)):
        with torch.no_grad(), counter() as count:
            backbone(texts.batch([place]))
        alone += count.get_total_flops()
    assert found[0] == pytest.approx(alone)
    # sorted by length, two by two: each text is padded to the longer of its pair at most
    assert alone < found[1] < 1.3 * alone


def test_a_model_that_cannot_be_tried_is_not_cut_and_trying_leaves_no_trace(folders, monkeypatch):
    factory = made(folders["bert"], "bert")
    backbone = factory.build(True)
    backbone.train()
    backbone.model.shown = []
    backbone.model.register_forward_pre_hook(lambda module, args: module.shown.append(1))
    assert len(backbone.boundaries) == 5
    assert backbone.model.shown == []
    assert all(module.training for module in backbone.modules())

    def unheard_of(self):
        raise NotImplementedError

    monkeypatch.setattr(type(backbone), "example", unheard_of)
    assert factory.build(True).boundaries == ["blocks.3"]


def test_roberta_leaves_room_for_the_positions_its_padding_takes(folders):
    assert made(folders["bert"], "bert").limit == 24
    assert made(folders["roberta"], "roberta").limit == 22
    with pytest.raises(InputError, match="at most 22"):
        made(folders["roberta"], "roberta", max_length=23).check(True)
    factory = made(folders["roberta"], "roberta")
    long = Texts(["cat " * 40], None, "long", **factory.reading().arguments)
    factory.build(True).eval()(long.batch([0]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_a_tokenizer_is_refused_as_transformers_would_make_an_empty_one(tmp_path, tiny_models, family):
    for path in tiny_models.save_text(tmp_path, family).glob("tokenizer*"):
        path.unlink()
    with pytest.raises(InputError, match="holds no tokenizer that transformers can read"):
        made(tmp_path, family).reading()


@pytest.mark.parametrize("lower", [True, False, None])
def test_whether_texts_are_put_in_lower_case_is_read_or_guessed_aloud(tmp_path, tiny_models, caplog, lower):
    for path in tiny_models.save_text(tmp_path, "bert").glob("tokenizer*"):
        path.unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "Cat", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    if lower is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
    tokenizer = made(tmp_path, "bert").tokenizer
    from transformers import BertTokenizer

    default = inspect.signature(BertTokenizer.__init__).parameters["do_lower_case"].default  # not that of all versions
    lowered = default if lower is None else lower
    assert tokenizer.encode(["The Cat"], None, 8)["ids"] == [[2, 6, 8, 3] if lowered else [2, 5, 7, 3]]
    guessed = "does not say whether its texts are put in lower case"
    assert [record.getMessage() for record in caplog.records if guessed in record.getMessage()] == (
        [f"{tmp_path} {guessed} (do_lower_case in tokenizer_config.json). Taken is the default of transformers' "
         f"BertTokenizer: {'they are' if lowered else 'they are not'}."] if lower is None else []
    )  # fmt: skip


def test_the_side_on_which_long_texts_are_cut_is_the_tokenizers(tmp_path, tiny_models):
    config = tiny_models.save_text(tmp_path, "bert") / "tokenizer_config.json"
    text, kept = ["the red cat runs under a tree"], {}
    for side in ("right", "left"):
        config.write_text(json.dumps({**json.loads(config.read_text()), "truncation_side": side}))
        factory = made(tmp_path, "bert", max_length=5)
        texts = Texts(text, None, side, **factory.reading().arguments)
        kept[side] = texts.statistics()["part"], factory.tokenizer.encode(text, None, 5)["ids"][0]
        whole = factory.tokenizer.encode(text, None, 50)["ids"][0]
    assert kept == {"right": ("first", [*whole[:4], whole[-1]]), "left": ("last", [whole[0], *whole[-4:]])}


def test_the_tokenizer_is_part_of_what_a_backbone_is(tmp_path, tiny_models):
    config = tiny_models.save_text(tmp_path, "bert") / "tokenizer_config.json"
    first = made(tmp_path, "bert").identity(True)
    assert made(tmp_path, "bert").identity(True) == first
    config.write_text(json.dumps({**json.loads(config.read_text()), "truncation_side": "left"}))
    assert made(tmp_path, "bert").identity(True) != first


def test_old_heads_are_left_out_by_name_and_nothing_else(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    factory = made(folders["bert"], "bert")
    record = factory.build(True).weights
    assert record.ignored
    assert all(name.startswith("cls.") for name in record.ignored)
    assert record.sha256 == hashlib.sha256((folders["bert"] / "model.safetensors").read_bytes()).hexdigest()
    assert factory.identity(True)["weights"] == f"sha256:{record.sha256}"
    assert factory.identity(False)["weights"] is None
    for change in ("missing", "unexpected", "shape"):
        folder = tmp_path / change
        folder.mkdir()
        for path in folders["bert"].iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        state = load_file(folder / "model.safetensors")
        name = "bert.encoder.layer.1.output.dense.weight"
        if change == "missing":
            del state[name]
        elif change == "unexpected":
            state["bert.encoder.layer.4.output.dense.weight"] = state[name].clone()
        else:
            state[name] = state[name][:8].clone()
        save_file(state, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(InputError, match=r"encoder\.layer"):
            made(folder, "bert").build(True)


def test_random_weights_need_no_weights_file_and_follow_torchs_rng(folders, tmp_path):
    for path in folders["bert"].iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    factory = made(tmp_path, "bert", weights="none")
    factory.check(True)
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(factory.build(False).state_dict())
    names = [name for name in states[0] if name.endswith("dense.weight")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in names)
    assert not any(torch.equal(states[0][name], states[2][name]) for name in names)
    with pytest.raises(InputError, match="holds no weights"):
        made(tmp_path, "bert").check(True)


def test_the_pretrained_pooler_is_loaded_only_where_it_is_asked_for(tmp_path, tiny_models):
    import transformers

    torch.manual_seed(0)
    tiny_models.save_text(tmp_path, "bert")
    transformers.BertModel(tiny_models.text_configs()["bert"]).save_pretrained(tmp_path)
    with_pooler, without = made(tmp_path, "bert", pooling="pooler"), made(tmp_path, "bert", pooling="cls")
    assert [g.name for g in with_pooler.build(True).groups()][-1] == "tail"
    assert without.build(True).weights.ignored == ("pooler.dense.bias", "pooler.dense.weight")
    inputs = read(without).batch([1])
    oracle = transformers.BertModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        features = with_pooler.build(True).eval()(inputs)
        expected = oracle(input_ids=inputs["input_ids"]).pooler_output
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-6)


def test_settings_that_do_not_fit_the_model_are_errors(folders, tmp_path):
    with pytest.raises(InputError, match="no token for the whole text"):
        made(folders["gpt2"], "gpt2", pooling="cls").check(True)
    with pytest.raises(InputError, match="has no pooler"):
        made(folders["gpt2"], "gpt2", pooling="pooler").check(True)
    with pytest.raises(InputError, match=r"no config\.json|without a config"):
        HuggingFaceText(str(tmp_path)).check(True)
    with pytest.raises(InputError, match="there is no folder"):
        HuggingFaceText(str(tmp_path / "nothing" / "here")).check(True)
    with pytest.raises(InputError, match="not installed"):
        HuggingFaceText("package:no-such-model-package").check(True)


def test_layers_that_share_their_weights_are_refused(tmp_path, tiny_models):
    import transformers

    config = transformers.AlbertConfig(**tiny_models.BERT, embedding_size=16)
    transformers.AlbertModel(config).save_pretrained(tmp_path)
    tiny_models.tokenizer(decoder=False).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="order of depth"):
        HuggingFaceText(str(tmp_path)).check(True)


def test_a_model_in_the_hubs_cache_is_found_offline_at_its_commit(folders, tmp_path, monkeypatch):
    from huggingface_hub import constants

    snapshot = tmp_path / "models--someone--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--someone--tiny" / "refs").mkdir()
    (tmp_path / "models--someone--tiny" / "refs" / "main").write_text("0" * 40)
    for path in folders["bert"].iterdir():
        (snapshot / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    factory = HuggingFaceText("someone/tiny")
    factory.check(True)
    assert factory.identity(True)["weights"] == f"hub:someone/tiny@{'0' * 40}"
    assert factory.build(True).weights.sha256 is not None
    with pytest.raises(InputError, match=r"to be had from the hub: .*HF_HUB_OFFLINE"):
        HuggingFaceText("someone/other").check(True)


def test_the_tokenizers_identity_follows_its_files(folders, tmp_path):
    for path in folders["bert"].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    same = made(tmp_path, "bert").tokenizer.identity
    assert same == made(folders["bert"], "bert").tokenizer.identity
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text().replace("house", "horse"))
    assert made(tmp_path, "bert").tokenizer.identity != same
