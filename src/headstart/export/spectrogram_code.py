"""Code that makes the spectrogram that a timm model reads of a sound, with torch alone."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from headstart.backbones.spectrogram_mel import LEAST_DEVIATION, LEAST_POWER
from headstart.backbones.spectrogram_model import SpectrogramBackbone
from headstart.config.sides import height_width
from headstart.record.writing import write_json

TABLES = "spectrogram.safetensors"


def reader(backbone: SpectrogramBackbone, samples: int, folder: Path) -> str:
    """The code of `read`: a sound of up to so many `samples` → a picture `(1, H, W)`.

    The filters and the window that it needs, and its settings as JSON, are written to `folder`.
    """
    settings = backbone.spectrogram.settings
    window, filters = backbone.spectrogram.tables(torch.device("cpu"))
    save_file({"window": window.contiguous(), "filters": filters.contiguous()}, folder / TABLES, {"format": "pt"})
    told = {name: getattr(settings, name) for name in settings.__dataclass_fields__}
    write_json(folder / "preprocessing.json", {**told, "num_samples": samples, "side": backbone.side})
    if settings.mean is not None and settings.std is not None:
        normalise = f"    picture[:, :real] = (inside - {settings.mean!r}) / {settings.std!r}\n"
    else:
        normalise = (
            "    deviation = inside.std(unbiased=False).clamp(min=" + f"{LEAST_DEVIATION!r})\n"
            "    picture[:, :real] = (inside - inside.mean()) / deviation\n"
        )
    shape = ""
    if backbone.side is not None:
        side = height_width(backbone.side)
        shape = (
            f'    picture = torch.nn.functional.interpolate(picture[None, None], {side}, mode="bilinear", '
            "antialias=True)[0, 0]\n"
        )
    if backbone.patch_step > 1:
        step = backbone.patch_step
        shape += (
            f"    picture = torch.nn.functional.pad(picture, (0, -picture.shape[1] % {step}, 0, "
            f"-picture.shape[0] % {step}))\n"
        )
    return (
        f'tables = load_file(f"{{folder}}/{TABLES}")\n\n\n'
        "def read(sound):\n"
        f"    wave = torch.nn.functional.pad(torch.as_tensor(sound), (0, {samples} - len(sound)))\n"
        f'    spectrum = torch.stft(wave, {settings.n_fft}, {settings.hop_length}, window=tables["window"], '
        'pad_mode="constant", return_complex=True)\n'
        f'    power = tables["filters"] @ spectrum[:, : {settings.num_frames(samples)}].abs().square()\n'
        f"    decibels = 10 * power.clamp(min={LEAST_POWER!r}).log10()\n"
        f"    decibels = torch.maximum(decibels, decibels.max() - {settings.top_db!r})\n"
        f"    real = -(-len(sound) // {settings.hop_length})\n"
        "    picture, inside = torch.zeros_like(decibels), decibels[:, :real]\n"
        f"{normalise}{shape}"
        "    return picture[None]\n\n\n"
    )
