"""Codecs: training, saving, the gate; token files, hostile ones too."""

import hashlib
import shutil
import struct
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from quick_training import learn_quickly
from salon.codecs import load_codec, read_codec_config
from salon.codecs.base import CodecTask
from salon.codecs.token_file import (
    HEADER,
    MAGIC,
    TokenPicture,
    pack,
    pack_bits,
    tokenize,
    unpack,
    unpack_bits,
)
from salon.codecs.vqgan import VqGan
from salon.codecs.vqvae import VqVae, VqVaeConfig
from salon.commands import compress as compress_stage
from salon.data.batches import ImageBatches
from salon.data.dataset import CaptionedImages, Dataset
from salon.errors import GateError, SalonError
from salon.files import file_sha256, read_json, write_json
from salon.images import to_float
from salon.judging.classifier import AttributeScorer
from salon.judging.reconstruction import psnr, rate_distortion
from salon.params import Params
from salon.paths import Paths
from salon.stages import codec as codec_stage
from salon.training.codec import Codebook, count_codec_cost
from salon.training.trainer import Trained
from salon.weights import WEIGHTS
from tiny import REPOSITORY

SMALL = {"channels": [16, 16], "codebook_size": 20, "code_width": 4, "batch_size": 8}


def small_codec(name: str = "vqvae", **settings: object) -> VqVae:
    torch.manual_seed(0)
    family, config = read_codec_config(name, {**SMALL, **settings})
    codec = family(config)
    assert isinstance(codec, VqVae)
    return codec


@pytest.fixture
def workspace(tmp_path: Path) -> Paths:
    """A workspace that holds one (untrained) codec."""
    paths = Paths(tmp_path)
    small_codec().save_pretrained(paths.codec("vqvae"))
    return paths


def write_picture(path: Path, *, width: int = 32, height: int = 32, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return path


def test_shapes_and_code_range() -> None:
    codec = small_codec().eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    codes = codec.encode(images)
    assert codes.shape == (2, 64) == (2, *codec.latent_shape(32))
    assert codes.dtype == torch.long
    assert 0 <= int(codes.min()) <= int(codes.max()) < codec.codebook_size
    assert codec.decode(codes).shape == images.shape
    assert codec.encode_grid(images[..., :16, :]).shape == (2, 4, 8)
    assert (codec.downsampling, codec.grid_side(32), codec.bits_per_code) == (4, 8, 5)
    with pytest.raises(SalonError, match="30x32 pixels do not divide into codes of 4 pixels"):
        codec.encode(images[..., :30])


def test_saved_and_loaded_it_is_the_same_and_frozen(tmp_path: Path) -> None:
    codec = small_codec().eval()
    codec.save_pretrained(tmp_path / "vqvae")
    loaded = load_codec(tmp_path / "vqvae")
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(loaded.encode(images), codec.encode(images))
    assert torch.equal(loaded.decode(codec.encode(images)), codec.decode(codec.encode(images)))
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_a_missing_codec_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(SalonError, match="run `python -m salon codec vqgan` first"):
        load_codec(tmp_path / "vqgan")


def test_settings_are_checked() -> None:
    with pytest.raises(SalonError, match="unknown key 'codebook_sise': did you mean 'codebook_size'"):
        read_codec_config("vqvae", {"codebook_sise": 8})
    with pytest.raises(SalonError, match=r"unknown codec family 'jpeg': one of \['vqgan', 'vqvae'\]"):
        read_codec_config("jpeg", {})
    with pytest.raises(SalonError, match="decoder_blocks has 2 entries, channels has 3"):
        small_codec(channels=[8, 8, 8])


def test_training_sets_the_codebook_and_lowers_the_error() -> None:
    images = (torch.rand(16, 3, 1, 1) * 255).expand(-1, -1, 32, 32).to(torch.uint8)
    source = ImageBatches(images, batch_size=8, seed=0)
    codes_used: list[float] = []
    run = SimpleNamespace(log_metrics=lambda metrics, step: codes_used.append(metrics["train/codes_used"]))

    def learn() -> Trained[CodecTask]:
        task = small_codec().task()
        cost = count_codec_cost(task, source, seed=0)
        book = Codebook(source, run, seed=0)  # type: ignore[arg-type]
        return learn_quickly(task, source, steps=60, lr=2e-3, cost=cost, callbacks=[book])

    untrained = small_codec().task()
    untrained.before_step(0.0)
    first = untrained.losses(to_float(images), objective="model", generator=torch.Generator()).total
    trained = learn()
    assert (trained.cost.steps, trained.cost.images_seen) == (60, 480)
    assert trained.cost.train_flops > 60 * 3 * 8 * 1e6
    assert trained.loss < 0.5 * float(first)
    assert len(codes_used) == 23, "an epoch has two steps, and the first quarter of them does not quantise"
    assert codes_used[-1] > 1
    assert torch.equal(learn().task.codec.codebook, trained.task.codec.codebook)


@pytest.mark.parametrize("stopped_at", [5, 25])  # before the codebook is set, and after
def test_a_killed_training_ends_in_the_same_codec(stopped_at: int, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (16, 3, 32, 32), generator=torch.Generator().manual_seed(0)).to(
        torch.uint8
    )
    source = ImageBatches(images, batch_size=8, seed=0)

    def learn(folder: Path, *, stop: bool) -> dict[str, torch.Tensor]:
        task = small_codec().task()
        if stop:
            told = task.before_step

            def stopping(progress: float) -> None:
                assert round(progress * 40) < stopped_at, "killed"
                told(progress)

            task.before_step = stopping  # type: ignore[method-assign]
        book = Codebook(source, None, seed=0)
        return learn_quickly(
            task, source, steps=40, lr=2e-3, folder=folder, callbacks=[book]
        ).task.state_dict()

    through = learn(tmp_path / "through", stop=False)
    with pytest.raises(AssertionError, match="killed"):
        learn(tmp_path / "killed", stop=True)
    for name, value in learn(tmp_path / "killed", stop=False).items():
        assert torch.equal(value, through[name]), name


def test_the_adversary_trains_the_codec_and_the_codec_never_trains_it() -> None:
    codec = small_codec("vqgan")
    assert isinstance(codec, VqGan)
    task = codec.task().eval()  # the codebook stays where it is
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    losses = task.losses(images, objective="model", generator=torch.Generator().manual_seed(0))
    losses.total.backward()
    mixed = [p.grad.clone() for p in task.discriminator.parameters()]
    task.zero_grad()
    reconstructed = codec.decode(codec.encode(images)).detach()
    real, fake = task.discriminator(images), task.discriminator(reconstructed)
    (torch.relu(1 - real) + torch.relu(1 + fake)).mean().backward()
    alone = [p.grad for p in task.discriminator.parameters()]
    for a, b in zip(mixed, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    assert "realism" in losses.terms
    assert not any("discriminator" in name for name in codec.state_dict())


def test_fine_tuning_starts_from_the_other_codec() -> None:
    first, second = small_codec(), small_codec("vqgan", start="vqvae")
    with torch.no_grad():
        first.quantizer.codebook.add_(1)
    second.start_from(first)
    assert torch.equal(second.quantizer.codebook, first.quantizer.codebook)
    _, asked = read_codec_config("vqgan", {"code_width": 8})
    followed = asked.following(first.config)
    assert isinstance(followed, VqVaeConfig)
    assert (followed.channels, followed.codebook_size) == (first.config.channels, 20)
    assert followed.code_width == 8, "what is asked for stays"
    assert (followed.max_steps, followed.start) == (asked.max_steps, "vqvae")
    with pytest.raises(SalonError, match="'vqvae' cannot be started from: its networks have another shape"):
        small_codec("vqgan", start="vqvae", code_width=8).start_from(first)


def test_psnr_by_hand() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    off = images.clone()
    off[0] += 5
    ratios = psnr(off, images)
    assert ratios[0].item() == pytest.approx(10 * np.log10(255**2 / 25), abs=1e-4)
    assert ratios[1].item() == pytest.approx(10 * np.log10(255**2 * 48), abs=1e-4)


def test_rate_and_distortion_rise_together_for_jpeg(ingested_world: Path) -> None:
    images = Dataset(Paths(ingested_world).interim)["test"].images[:8]
    points = rate_distortion(small_codec().eval(), images, name="vqvae")
    assert points[0].bits_per_pixel == 5 / 16
    jpeg = [point for point in points if point.codec == "jpeg 4:4:4 sheet"]
    assert [point.bits_per_pixel for point in jpeg] == sorted(point.bits_per_pixel for point in jpeg)
    assert jpeg[-1].psnr > jpeg[0].psnr + 5
    assert jpeg[-1].psnr > 30


def with_codecs(root: Path, **codecs: dict[str, object]) -> Params:
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    raw["codecs"] = {name: {**SMALL, "max_steps": 2, **settings} for name, settings in codecs.items()}
    return Params.model_validate(raw)


@pytest.fixture
def validated_world(tiny_world: Path) -> Paths:
    """A workspace in which codecs can be trained; its scorer knows nothing."""
    paths = Paths(tiny_world)
    write_json(paths.validation, {"data_sha256": "ab" * 32})
    shutil.copytree(REPOSITORY / "models/codecs/pixels", paths.codec("pixels"))
    rows = Dataset(paths.interim)["train"].attributes
    AttributeScorer({name: sorted({row[name] for row in rows}) for name in rows[0]}, width=4).save_pretrained(
        paths.scorer
    )
    return paths


def test_the_gate_stops_a_codec_that_loses_what_matters_and_costs_add_up(
    validated_world: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = validated_world
    with pytest.raises(
        GateError, match=r"codec 'vqvae': concept is recognised in \d.*less than min_accuracy.concept = 95.0%"
    ):
        codec_stage.run(with_codecs(paths.root, vqvae={}), paths, "vqvae")
    assert not paths.codec("vqvae").exists()
    assert read_json(paths.codec_metrics("vqvae"))["val"]["accuracy"]["concept"] < 0.95, "kept for the reader"

    # without attributes PSNR alone decides, and no scorer is needed
    class Bare(Dataset):
        has_attributes = False

        def __getitem__(self, split: str) -> CaptionedImages:
            data = super().__getitem__(split)
            return replace(data, attributes=[{} for _ in data.ids])

    monkeypatch.setattr(codec_stage, "Dataset", Bare)
    shutil.rmtree(paths.scorer)
    with pytest.raises(GateError, match=r"codec 'vqvae': PSNR is \d+\.\d dB, less than min_psnr = 30\.0 dB"):
        codec_stage.run(with_codecs(paths.root, vqvae={"min_psnr": 30}), paths, "vqvae")

    params = with_codecs(paths.root, vqvae={}, vqgan={"start": "vqvae"})
    codec_stage.run(params, paths, "vqvae")
    ledger = read_json(paths.codec("vqvae") / "training.json")
    assert (ledger["own"]["steps"], ledger["shared"]) == (2, {})
    codec_stage.run(params, paths, "vqgan")
    assert read_json(paths.codec("vqgan") / "training.json")["shared"] == {"codec-vqvae": ledger["own"]}
    assert (paths.codec_pictures("vqgan") / "reconstructions.png").is_file()
    assert read_json(paths.codec_pictures("vqgan") / "rate_distortion.json")[0]["codec"] == "vqgan"
    with pytest.raises(SalonError, match=r"unknown codec 'vqgun': params\.yaml has vqvae, vqgan"):
        codec_stage.run(params, paths, "vqgun")


def test_bits_are_packed_by_hand() -> None:
    codes = torch.tensor([1, 2, 7, 4, 0, 5])
    # lowest bit first: 100 010 111 001 000 101 -> 10001011 10010001 01......
    assert pack_bits(codes, 3) == bytes([0b11010001, 0b10001001, 0b00000010])
    assert unpack_bits(pack_bits(codes, 3), 3, 6).tolist() == codes.tolist()


@pytest.mark.parametrize("bits", [1, 5, 9, 10, 16])
def test_packing_is_exact_and_tight(bits: int) -> None:
    codes = torch.randint(2**bits, (101,), generator=torch.Generator().manual_seed(bits))
    packed = pack_bits(codes, bits)
    assert len(packed) == -(-101 * bits // 8)
    assert torch.equal(unpack_bits(packed, bits, 101), codes)


def test_pictures_come_back_under_their_names_and_in_their_sizes(workspace: Paths, tmp_path: Path) -> None:
    pictures = [
        write_picture(tmp_path / "сова.png", seed=1),
        write_picture(tmp_path / "wide.bmp", width=37, height=18, seed=2),
    ]
    out = tmp_path / "two.tokens"
    compress_stage.compress(workspace, pictures, out=out, codec_name="vqvae")
    names = sum(len(path.name.encode()) + 6 for path in pictures)
    assert out.stat().st_size == HEADER.size + names + -(-(64 + 10 * 5) * 5 // 8) + 32
    compress_stage.decompress(workspace, out, out=tmp_path / "back")
    codec = load_codec(workspace.codec("vqvae"))
    for path, size in zip(pictures, [(32, 32), (37, 18)], strict=True):
        back = Image.open(tmp_path / "back" / f"{path.stem}.png")
        assert back.size == size
    image = to_float(torch.from_numpy(np.array(Image.open(pictures[0]))).permute(2, 0, 1))
    expected = codec.decode(codec.encode(image[None]))[0]
    seen = to_float(torch.from_numpy(np.array(Image.open(tmp_path / "back" / "сова.png"))).permute(2, 0, 1))
    assert (seen - expected.clamp(-1, 1)).abs().max() < 1.01 / 127.5
    with pytest.raises(SalonError, match=r"сова\.png.* would be overwritten"):
        compress_stage.decompress(workspace, out, out=tmp_path / "back")


def test_what_is_no_picture_is_refused(workspace: Paths, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.raises(SalonError, match=r"notes\.txt cannot be read as a picture"):
        compress_stage.compress(workspace, [tmp_path / "notes.txt"], out=tmp_path / "x", codec_name="vqvae")
    first = write_picture(tmp_path / "a.png")
    with pytest.raises(SalonError, match=r"several pictures are called a\.png"):
        compress_stage.compress(workspace, [first, first], out=tmp_path / "x", codec_name="vqvae")
    assert not (tmp_path / "x").exists()


def one_picture_file() -> bytes:
    codec = small_codec().eval()
    return pack([tokenize(codec, torch.zeros(3, 8, 8), name="a.png")], codec=codec, digest="ab" * 32)


def sealed(body: bytes) -> bytes:
    """A hostile file whose checksum is right."""
    return body + hashlib.sha256(body).digest()


def hostile(*, name: bytes = b"a.png", size: tuple[int, int] = (8, 8), version: int = 1, count: int = 1,
            bits: int = 5, downsampling: int = 4, codes: bytes = bytes(3)) -> bytes:  # fmt: skip
    head = HEADER.pack(MAGIC, version, bytes(32), downsampling, bits, count)
    return sealed(head + struct.pack("<HHH", *size, len(name)) + name + codes)


def test_the_hostile_builder_builds_good_files_too() -> None:
    assert unpack(hostile(), source="x").pictures[0].codes.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no token file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is no token file"),
        (MAGIC, "damaged or cut short"),
        (one_picture_file()[:-1], "damaged or cut short"),
        (one_picture_file()[:40], "damaged or cut short"),
        (one_picture_file() + b"x", "damaged or cut short"),
        (bytes([*one_picture_file()[:60], 1, *one_picture_file()[61:]]), "damaged or cut short"),
        (sealed(MAGIC + b"\x01"), "headers make no sense"),
        (hostile(version=2), "version 2; this Salon reads 1"),
        (hostile(count=2**32 - 1), "headers make no sense"),
        (hostile(size=(65535, 65535)), "more or fewer codes"),
        (hostile(size=(0, 8)), "without pixels"),
        (hostile(bits=0), "without bits"),
        (hostile(bits=200), "without bits"),
        (hostile(downsampling=0), "without pixels"),
        (hostile(codes=bytes(2)), "more or fewer codes"),
        (hostile(codes=bytes(4)), "more or fewer codes"),
        (hostile(name=b"../a.png"), "is no file name"),
        (hostile(name=b"/etc/a"), "is no file name"),
        (hostile(name=b".."), "is no file name"),
        (hostile(name=b"C:\\a"), "is no file name"),
        (hostile(name=b""), "is no file name"),
        (hostile(name=b"a\x00b"), "is no file name"),
        (hostile(name=b"\xff\xfe"), "headers make no sense"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_refused_with_the_reason(data: bytes, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        unpack(data, source="in.tokens")


def test_codes_beyond_the_codebook_are_refused(workspace: Paths, tmp_path: Path) -> None:
    codec = load_codec(workspace.codec("vqvae"))
    assert isinstance(codec, VqVae)
    picture = TokenPicture("a.png", 4, 4, torch.tensor([[31]]))  # five bits, but only 20 entries
    data = pack([picture], codec=codec, digest=file_sha256(workspace.codec("vqvae") / WEIGHTS))
    (tmp_path / "in.tokens").write_bytes(data)
    with pytest.raises(SalonError, match=r"a\.png has codes that the codec does not know"):
        compress_stage.decompress(workspace, tmp_path / "in.tokens", out=tmp_path / "back")


def test_a_file_of_another_codec_is_refused(workspace: Paths, tmp_path: Path) -> None:
    (tmp_path / "in.tokens").write_bytes(hostile())
    with pytest.raises(SalonError, match=r"made with another codec .*here are vqvae: restore the weights"):
        compress_stage.decompress(workspace, tmp_path / "in.tokens", out=tmp_path / "back")
    assert not (tmp_path / "back").exists()
