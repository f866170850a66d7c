"""Tiny random models of many families, saved as the hub has them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from headstart.compat import declare_torchvision_operators

WORDS = "the a an red blue cat dog runs sleeps sees of in house tree under and it is not very small large"
COMMON = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 4}
BERT = {**COMMON, "vocab_size": 40, "max_position_embeddings": 24}
WAVES = {**COMMON, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 3}
WAVES |= {"conv_dim": (16, 16, 16), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4), "layerdrop": 0.5}


def text_configs() -> dict[str, Any]:
    """Configurations by family."""
    declare_torchvision_operators()
    import transformers as t

    return {
        "bert": t.BertConfig(**BERT),
        "roberta": t.RobertaConfig(**BERT, pad_token_id=1),
        "distilbert": t.DistilBertConfig(
            vocab_size=40, max_position_embeddings=24, dim=32, n_heads=4, hidden_dim=48, n_layers=4
        ),
        "electra": t.ElectraConfig(**BERT, embedding_size=16),
        "deberta": t.DebertaV2Config(
            **BERT, relative_attention=True, pos_att_type=["p2c", "c2p"], position_biased_input=False
        ),
        "gpt2": t.GPT2Config(vocab_size=40, n_positions=24, n_embd=32, n_head=4, n_layer=4),
        "llama": t.LlamaConfig(**BERT, num_key_value_heads=2),
    }


def audio_configs() -> dict[str, Any]:
    """Configurations by family."""
    declare_torchvision_operators()
    import transformers as t

    return {
        "wav2vec2": t.Wav2Vec2Config(**WAVES),
        "wav2vec2_stable": t.Wav2Vec2Config(
            **WAVES, do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True
        ),
        "hubert": t.HubertConfig(**WAVES),
        "wavlm": t.WavLMConfig(**WAVES),
        "unispeech": t.UniSpeechConfig(**WAVES),
        "unispeech_sat": t.UniSpeechSatConfig(**WAVES),
        "data2vec": t.Data2VecAudioConfig(**WAVES),
        "conformer": t.Wav2Vec2ConformerConfig(**WAVES),
        "sew": t.SEWConfig(**WAVES),
        "ast": t.ASTConfig(**COMMON, max_length=64, num_mel_bins=32),
        "whisper": t.WhisperConfig(
            d_model=32, encoder_layers=4, decoder_layers=1, encoder_attention_heads=4, decoder_attention_heads=4,
            encoder_ffn_dim=48, decoder_ffn_dim=48, num_mel_bins=80, max_source_positions=50, vocab_size=40,
            encoder_layerdrop=0.5, dropout=0.1, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None,
        ),
    }  # fmt: skip


def save_text(folder: Path, family: str) -> Path:
    """A model of `family` with its old head, and a tokenizer, as `save_pretrained` writes them."""
    declare_torchvision_operators()
    import transformers as t

    heads: dict[str, Callable[[Any], Any]] = {
        "gpt2": t.GPT2LMHeadModel,
        "llama": t.LlamaForCausalLM,
        "electra": t.ElectraForPreTraining,
    }
    torch.manual_seed(0)
    make = heads.get(family, t.AutoModelForMaskedLM.from_config)
    make(text_configs()[family]).eval().save_pretrained(folder)
    tokenizer(decoder=family in ("gpt2", "llama")).save_pretrained(folder)
    return folder


def save_audio(folder: Path, family: str) -> Path:
    """A headless model of `family`, with its feature extractor's settings."""
    declare_torchvision_operators()
    import transformers as t

    torch.manual_seed(0)
    t.AutoModel.from_config(audio_configs()[family]).eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"sampling_rate": 16_000, "do_normalize": True}))
    return folder


def tokenizer(decoder: bool) -> Any:
    """One token to a word; with special tokens around a text, or, for decoders, without."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<end>", "<unk>"] if decoder else ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: place for place, word in enumerate([*special, *WORDS.split()])}
    cutter = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>" if decoder else "[UNK]"))
    cutter.pre_tokenizer = pre_tokenizers.Whitespace()
    if decoder:
        return PreTrainedTokenizerFast(tokenizer_object=cutter, eos_token="<end>", unk_token="<unk>")
    cutter.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("unk", "pad", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=cutter, **names)
