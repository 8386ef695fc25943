"""What a picture says of itself survives, is found out when it is changed, and draws the picture again."""

import io
import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from typer.testing import CliRunner

from pages import REPOSITORY, blocks
from salon.cli import app
from salon.commands import inspect
from salon.errors import SalonError
from salon.inference import credentials
from salon.inference.bundle import read_models
from salon.inference.model import ModelCache
from salon.inference.provenance import (
    DIGITAL_SOURCE_TYPE,
    XMP_KEY,
    Provenance,
    ProvenanceError,
    encode_png,
    read_record,
)
from salon.inference.request import PictureRequest
from workspaces import NAME, Workspace, write_method

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
DRAWN = Provenance(
    prompt='сова "в шляпе" & <очках>\n',
    seed=7,
    method="diffusion",
    model_version="3",
    data_sha256="d" * 64,
    model_sha256="a" * 64,
    num_inference_steps=8,
    guidance_scale=1.5,
)
IPTC_EXTENSION = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}"


def with_text(png: bytes, **changes: str | None) -> bytes:
    """The same pixels with some text chunks replaced, or removed where None."""
    with Image.open(io.BytesIO(png)) as image:
        info = PngInfo()
        for key, value in {**image.text, **changes}.items():
            if value is not None:
                info.add_itxt(key, value)
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


@given(prompt=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_prompt_comes_back_and_leaves_the_packet_well_formed(prompt: str):
    png = encode_png(PIXELS, Provenance(prompt, 1, "gan", "1", "d" * 64))
    record = read_record(png, name="x")
    assert record.provenance == Provenance(prompt, 1, "gan", "1", "d" * 64)
    assert (record.pixels == PIXELS).all()
    with Image.open(io.BytesIO(png)) as image:
        ElementTree.fromstring(image.text[XMP_KEY])


def test_standard_fields_say_that_a_model_made_it():
    png = encode_png(PIXELS, DRAWN)
    with Image.open(io.BytesIO(png)) as image:
        (description,) = ElementTree.fromstring(image.text[XMP_KEY]).iter(
            "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
        )
        assert image.text["Source"] == "AI-generated"
        assert image.text["Description"] == DRAWN.prompt
    read = {key.removeprefix(IPTC_EXTENSION): value for key, value in description.attrib.items()}
    assert read["DigitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert DIGITAL_SOURCE_TYPE.endswith("/trainedAlgorithmicMedia")
    assert read["AISystemUsed"] == "salon-diffusion"
    assert read["AISystemVersionUsed"] == "3"
    assert read["AIPromptInformation"] == DRAWN.prompt
    record = read_record(png, name="x")
    assert record.provenance == DRAWN
    assert record.digital_source_type == DIGITAL_SOURCE_TYPE


def test_the_same_picture_is_the_same_file():
    assert encode_png(PIXELS, DRAWN) == encode_png(PIXELS, DRAWN)


def other_pixels(png: bytes) -> bytes:
    changed = PIXELS.copy()
    changed[0, 0, 0] ^= 1
    with Image.open(io.BytesIO(png)) as image:
        text = image.text
    plain = io.BytesIO()
    Image.fromarray(changed).save(plain, format="PNG")
    return with_text(plain.getvalue(), **text)


def a_bomb(png: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("1", (5000, 5000)).save(buffer, format="PNG")
    assert len(buffer.getvalue()) < 10_000
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (a_bomb, "is larger than 16,777,216 pixels"),
        (lambda png: b"", "is no PNG file"),
        (lambda png: b"GIF89a" + png, "is no PNG file"),
        (lambda png: png[: len(png) // 2], "is a damaged PNG file"),
        (lambda png: png[:-40] + b"\0" * 40, "is a damaged PNG file"),
        (lambda png: with_text(png, record_sha256=None), "does not say where it comes from"),
        (lambda png: with_text(png, prompt="a better owl"), "the text in x.png was changed"),
        (lambda png: with_text(png, seed=None), "the text in x.png was changed"),
        (lambda png: with_text(png, pixels_sha256="0" * 64), "the text in x.png was changed"),
        (other_pixels, "the pixels of x.png were changed"),
    ],
)
def test_what_is_no_untouched_picture_is_told_in_one_sentence(spoil, sentence: str):
    with pytest.raises(ProvenanceError, match=sentence):
        read_record(spoil(encode_png(PIXELS, DRAWN)), name="x.png")


@pytest.mark.parametrize("value", ["../../secrets", "diffusion'", "", "a b"])
def test_a_forged_name_reaches_neither_a_path_nor_a_query(value: str):
    png = encode_png(PIXELS, Provenance("an owl", 1, value, "1", "d" * 64))
    with pytest.raises(ProvenanceError, match="no valid method"):
        read_record(png, name="x.png")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which somebody typed what the page says."""
    pytest.importorskip("c2pa", reason="pip install '.[c2pa]'")
    folder = tmp_path_factory.mktemp("certificate")
    (script,) = blocks((REPOSITORY / "docs" / "serve.md").read_text(encoding="utf-8"), "sh")
    subprocess.run(["sh", "-ec", script], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def signer(certificate: Path) -> credentials.Signer:
    chain, key = (certificate / name for name in ("certificate.pem", "key.pem"))
    return credentials.Signer(chain.read_bytes(), key.read_bytes())


def test_content_credentials_are_valid_and_leave_the_picture_alone(signer: credentials.Signer):
    plain = encode_png(PIXELS, DRAWN)
    signed = signer.sign(plain, DRAWN)
    assert not credentials.has_credentials(plain)
    assert credentials.has_credentials(signed)
    assert read_record(signed, name="x").provenance == DRAWN
    found = credentials.read_credentials(signed)
    assert found.state == "valid"
    assert found.reasons == ["signingCredential.untrusted"]
    assert found.signer == "signer, Development"

    import c2pa

    with c2pa.Reader("image/png", io.BytesIO(signed)) as reader:
        manifest = reader.get_active_manifest()
    (action,) = manifest["assertions"][0]["data"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"] == DIGITAL_SOURCE_TYPE
    assert action["softwareAgent"]["name"] == "salon-diffusion"


def test_a_change_after_signing_is_found_even_with_digests_made_anew(
    signer: credentials.Signer, tmp_path: Path
):
    signed = signer.sign(encode_png(PIXELS, DRAWN), DRAWN)
    changed = signed.replace(b"\nnum_inference_steps"[1:], b"num_inference_stepz")
    assert changed != signed
    assert credentials.read_credentials(changed).state == "invalid"
    # a forger who draws anew with a record of his own keeps the old manifest
    other = encode_png(255 - PIXELS, DRAWN)
    start = signed.index(b"caBX") - 4
    manifest = signed[start : start + 12 + int.from_bytes(signed[start : start + 4], "big")]
    forged = other[:33] + manifest + other[33:]
    picture = tmp_path / "forged.png"
    picture.write_bytes(forged)
    assert (read_record(forged, name="x").pixels == 255 - PIXELS).all()
    with pytest.raises(SalonError, match="Content Credentials in"):
        inspect.run(picture)


@pytest.fixture
def environment_signer(monkeypatch: pytest.MonkeyPatch):
    """Set SALON_C2PA for one test; the process decides once."""

    def choose(value: str) -> credentials.Signer | None:
        monkeypatch.setenv(credentials.VARIABLE, value)
        credentials.configured_signer.cache_clear()
        return credentials.configured_signer()

    yield choose
    credentials.configured_signer.cache_clear()


def test_the_environment_says_who_signs(environment_signer, certificate: Path, tmp_path: Path):
    assert environment_signer("") is None
    assert environment_signer(str(certificate)) is not None
    signed = credentials.sign_as_configured(encode_png(PIXELS, DRAWN), DRAWN)
    assert credentials.read_credentials(signed).state == "valid"
    shutil.copy(certificate / "certificate.pem", tmp_path)
    (tmp_path / "key.pem").write_bytes(b"no key")
    with pytest.raises(SalonError, match="does not admit"):
        environment_signer(str(tmp_path))
    for gone in (str(tmp_path / "nowhere"), "development"):  # the latter was a word for one made on the spot
        with pytest.raises(SalonError, match=r"certificate\.pem and key\.pem .docs/serve\.md says how"):
            environment_signer(gone)


@pytest.fixture(scope="module")
def drawn(registered_world: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture by the registered champion."""
    found = (registered_world.root / "mlartifacts" / "models").glob("*/artifacts/artifacts/bundle")
    loaded = ModelCache().load(read_models(next(found))[NAME], version="1")
    (picture,) = loaded.draw([PictureRequest("сова на полосатом фоне", 11, 3, None)])
    path = tmp_path_factory.mktemp("drawn") / "owl.png"
    path.write_bytes(picture.png)
    return path


def test_inspect_tells_and_draws_again(
    drawn: Path, registered_world: Workspace, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(registered_world.root)
    shown = CliRunner().invoke(app, ["inspect", str(drawn), "--reproduce"])
    assert shown.exit_code == 0, shown.output
    for part in ("AI-generated", "сова на полосатом фоне", "11", f"salon-{NAME}", "not signed"):
        assert part in shown.output
    assert f"drawn again by salon-{NAME} version 1 of the registry: identical" in shown.output
    asked = CliRunner().invoke(app, ["inspect", str(drawn), "--json", "--reproduce"])
    report = json.loads(asked.stdout)  # what transformers says of its progress goes elsewhere
    assert report["reproduction"]["verdict"] == "identical"
    assert report["digital_source_type"] == DIGITAL_SOURCE_TYPE
    assert (report["prompt"], report["seed"], report["num_inference_steps"]) == (
        "сова на полосатом фоне",
        11,
        3,
    )
    assert len(report["model_sha256"]) == len(report["data_sha256"]) == 64


def test_inspect_needs_no_workspace(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["inspect", str(drawn)]).exit_code == 0
    assert not list(tmp_path.iterdir())


def test_a_picture_that_says_another_seed_is_found_out(drawn: Path, registered_world: Workspace):
    record = read_record(drawn.read_bytes(), name="x")
    lie = Provenance(**{**vars(record.provenance), "seed": 12})
    liar = drawn.with_name("liar.png")
    liar.write_bytes(encode_png(record.pixels, lie))
    assert not inspect.run(liar, workspace=(registered_world.params, registered_world.paths))
    again = inspect.reproduce(
        read_record(liar.read_bytes(), name="x"), registered_world.params, registered_world.paths
    )
    assert again.verdict == "differs"
    assert "pixels differ" in again.reason


def test_without_registry_the_workspace_draws_again_unless_it_was_trained_anew(
    drawn: Path, judged_world: Path, tmp_path: Path
):
    root = tmp_path / "world"
    shutil.copytree(judged_world, root)
    workspace = Workspace(root)
    record = read_record(drawn.read_bytes(), name="x")
    again = inspect.reproduce(record, workspace.params, workspace.paths)
    assert (again.verdict, again.model) == ("identical", f"{NAME} as trained in this workspace")
    assert not (root / "mlflow.db").exists()
    write_method(workspace.paths, seed=2)
    again = inspect.reproduce(record, workspace.params, workspace.paths)
    assert again.verdict == "not reproducible"
    assert "are neither in" in again.reason


def test_a_prompt_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    picture = tmp_path / "x.png"
    picture.write_bytes(encode_png(PIXELS, Provenance("\x1b]0;owned\x07 owl\u202e", 1, "gan", "1", "d" * 64)))
    inspect.run(picture)
    assert "\x1b" not in capsys.readouterr().out
