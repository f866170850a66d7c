"""Whisper out of CTranslate2's format, as transformers reads it: configuration, weights, and how it reads sounds.

python scripts/whisper_from_ctranslate2.py model.bin FOLDER
"""

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

Tensors = dict[str, np.ndarray]
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""CTranslate2's numbers for types."""
END = 50_256
"""The token that ends a text in Whisper's English models; the one behind it begins one."""
SELF, CROSS, FEED = "self_attention", "attention", "ffn"
NORMS = {SELF: "self_attn_layer_norm", CROSS: "encoder_attn_layer_norm", FEED: "final_layer_norm"}


def read(path: Path) -> Tensors:
    """All arrays of a file by name (binary version 6: name, shape, type, bytes of each; then other names of some)."""
    data, at = path.read_bytes(), 0

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from(f"<{layout}", data, at)
        at += struct.calcsize(f"<{layout}")
        return values

    def text() -> str:
        (size,) = take("H")
        return bytes(take(f"{size}s")[0]).rstrip(b"\0").decode()

    (version,) = take("I")
    kind, _ = text(), take("I")
    if version != 6 or kind != "WhisperSpec":
        raise SystemExit(f"{path} is of version {version} and kind {kind}; only WhisperSpec of version 6 is read.")
    found: Tensors = {}
    for _ in range(take("I")[0]):
        name, (rank,) = text(), take("B")
        shape, (number, size) = take(f"{rank}I"), take("BI")
        if number not in TYPES:
            raise SystemExit(f"{path}: {name} is of the type {number}, which is not read.")
        found[name] = np.frombuffer(data, TYPES[number], size // np.dtype(TYPES[number]).itemsize, at).reshape(shape)
        at += size
    return found


def converted(found: Tensors) -> Tensors:
    """The weights under the names that transformers gives them, in float32."""
    made: Tensors = {}
    for side in ("encoder", "decoder"):
        to = f"model.{side}"
        made[f"{to}.embed_positions.weight"] = found[f"{side}/position_encodings/encodings"]
        _norm(found, f"{side}/layer_norm", f"{to}.layer_norm", made)
        for layer in range(_num_layers(found, side)):
            here, there = f"{side}/layer_{layer}", f"{to}.layers.{layer}"
            for part, norm in NORMS.items():
                if f"{here}/{part}/layer_norm/gamma" in found:
                    _norm(found, f"{here}/{part}/layer_norm", f"{there}.{norm}", made)
            _attention(found, f"{here}/{SELF}", f"{there}.self_attn", (("q", "k", "v"), ("out",)), made)
            if side == "decoder":
                _attention(found, f"{here}/{CROSS}", f"{there}.encoder_attn", (("q",), ("k", "v"), ("out",)), made)
            for number, name in enumerate(("fc1", "fc2")):
                for kind in ("weight", "bias"):
                    made[f"{there}.{name}.{kind}"] = found[f"{here}/{FEED}/linear_{number}/{kind}"]
    for name in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"):
        made[f"model.encoder.{name}"] = found[f"encoder/{name.replace('.', '/')}"]
    made["model.decoder.embed_tokens.weight"] = found["decoder/embeddings/weight"]
    return {name: np.ascontiguousarray(values, dtype=np.float32) for name, values in made.items()}


def _num_layers(found: Tensors, side: str) -> int:
    return len({name.split("/")[1] for name in found if name.startswith(f"{side}/layer_") and name.count("/") > 2})


def _norm(found: Tensors, here: str, there: str, made: Tensors) -> None:
    made[f"{there}.weight"], made[f"{there}.bias"] = found[f"{here}/gamma"], found[f"{here}/beta"]


def _attention(found: Tensors, here: str, there: str, layers: tuple[tuple[str, ...], ...], made: Tensors) -> None:
    """Projections that lie in one matrix, one below the other; that of the keys has no bias in Whisper."""
    for number, names in enumerate(layers):
        for kind in ("weight", "bias"):
            parts = np.split(found[f"{here}/linear_{number}/{kind}"], len(names))
            for name, values in zip(names, parts, strict=True):
                if (name, kind) != ("k", "bias"):
                    made[f"{there}.{name}_proj.{kind}"] = values


def config(found: Tensors) -> dict[str, Any]:
    """transformers' configuration, by the sizes of the arrays."""
    width, num_bins, _ = found["encoder/conv1/weight"].shape
    inner = len(found[f"encoder/layer_0/{FEED}/linear_0/bias"])
    sizes = {"encoder": found["encoder/num_heads"], "decoder": found["decoder/num_heads"]}
    last = len(found["decoder/embeddings/weight"]) - 1
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "d_model": int(width),
        "num_mel_bins": int(num_bins),
        "vocab_size": last + 1,
        **{f"{name}_token_id": min(END, last) for name in ("pad", "bos", "eos")},
        "decoder_start_token_id": min(END + 1, last),
        "max_source_positions": len(found["encoder/position_encodings/encodings"]),
        "max_target_positions": len(found["decoder/position_encodings/encodings"]),
        **{f"{side}_layers": _num_layers(found, side) for side in sizes},
        **{f"{side}_attention_heads": int(number) for side, number in sizes.items()},
        **{f"{side}_ffn_dim": inner for side in sizes},
    }


def convert(path: Path, folder: Path) -> None:
    """Write the model of a CTranslate2 file into a folder as transformers reads it."""
    from safetensors.numpy import save_file

    found = read(path)
    facts = config(found)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(converted(found), folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(facts, indent=1), "utf-8")
    reader = {"feature_extractor_type": "WhisperFeatureExtractor", "feature_size": facts["num_mel_bins"]}
    reader |= {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160, "chunk_length": 30, "padding_value": 0.0}
    (folder / "preprocessor_config.json").write_text(json.dumps(reader, indent=1), "utf-8")


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
