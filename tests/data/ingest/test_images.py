"""Every kind of picture that people have becomes an upright square RGB picture; what is none says why."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from own_pictures import encoded, paint
from salon.data.ingest.images import (
    ByteRange,
    EncodedImage,
    perceptual_hashes,
    prepare_picture,
    read_bytes,
)
from salon.data.ingest.quarantine import Reason, Rejection
from salon.params.sources import CaptionedParams

SETTINGS = CaptionedParams(image_size=32)
PAD = CaptionedParams(image_size=32, fit="pad", background=(0, 0, 255))
RED = (255, 0, 0)


def prepare(data: bytes, extension: str = "", settings: CaptionedParams = SETTINGS) -> EncodedImage:
    found = prepare_picture(data, extension=extension, settings=settings)
    assert isinstance(found, EncodedImage), found
    decoded = Image.open(io.BytesIO(found.data))
    assert (decoded.mode, decoded.size) == ("RGB", (settings.image_size,) * 2)
    assert np.array_equal(np.asarray(decoded), found.pixels)
    return found


def refuse(data: bytes, extension: str = "", settings: CaptionedParams = SETTINGS) -> Reason:
    found = prepare_picture(data, extension=extension, settings=settings)
    assert isinstance(found, Rejection)
    assert " at 0x" not in found.detail  # an address would change from run to run
    return found.reason


def centre(picture: EncodedImage) -> tuple[int, ...]:
    return tuple(picture.pixels[16, 16].tolist())


def is_near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return max(abs(a - b) for a, b in zip(colour, other, strict=True)) <= 3


@pytest.mark.parametrize(
    ("file_format", "extension"),
    [
        ("PNG", "png"),
        ("JPEG", "jpg"),
        ("JPEG", "JPEG"),
        ("WEBP", "webp"),
        ("GIF", "gif"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
    ],
)
def test_formats(file_format, extension):
    image = Image.new("RGB", (50, 40), RED)
    assert is_near(centre(prepare(encoded(image, file_format), extension)), RED)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "RGBA", "RGBX"])
def test_modes(mode):
    grey = Image.new("RGB", (40, 40), (255, 255, 255))
    if mode == "LAB":
        image = Image.new("LAB", (40, 40), (255, 128, 128))
    else:
        image = grey.convert("LA").convert("PA") if mode == "PA" else grey.convert(mode)
    file_format = {"CMYK": "JPEG", "YCbCr": "JPEG", "HSV": "TIFF", "LAB": "TIFF", "RGBX": "TIFF"}.get(
        mode, "PNG"
    )
    if mode in ("HSV", "PA"):
        image = image.convert("RGB" if mode == "HSV" else "RGBA")
    assert is_near(centre(prepare(encoded(image, file_format))), (255, 255, 255))


def test_cmyk_keeps_its_colours():
    assert is_near(
        centre(prepare(encoded(Image.new("CMYK", (40, 40), (0, 255, 255, 0)), "JPEG", quality=95))), RED
    )


def test_transparency_shows_the_background():
    image = Image.new("RGBA", (40, 40), (*RED, 0))
    assert centre(prepare(encoded(image))) == (255, 255, 255)
    assert centre(prepare(encoded(image), settings=PAD)) == (0, 0, 255)
    half = Image.new("RGBA", (40, 40), (*RED, 128))
    assert is_near(centre(prepare(encoded(half))), (255, 127, 127))


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_palette_with_a_transparent_colour(file_format):
    image = Image.new("P", (40, 40), 1)
    image.putpalette([0, 0, 0, *RED] + [0] * 762)
    assert centre(prepare(encoded(image, file_format))) == RED
    assert centre(prepare(encoded(image, file_format, transparency=1))) == (255, 255, 255)


@pytest.mark.parametrize(("value", "grey"), [(0, 0), (257, 1), (32768, 128), (65535, 255)])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(file_format, value, grey):
    image = Image.fromarray(np.full((40, 40), value, dtype=np.uint16))
    assert centre(prepare(encoded(image, file_format))) == (grey, grey, grey)


def test_numbers_of_unknown_range_are_refused():
    assert (
        refuse(encoded(Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), "TIFF"))
        is Reason.UNKNOWN_RANGE
    )
    assert (
        refuse(encoded(Image.fromarray(np.full((40, 40), 1 << 20, dtype=np.int32)), "TIFF"))
        is Reason.UNKNOWN_RANGE
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    """A picture whose upper left quarter is red when it is upright."""
    upright = Image.new("RGB", (64, 64), (0, 255, 0))
    upright.paste(RED, (0, 0, 32, 32))
    operation = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(operation[orientation]) if orientation in operation else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = prepare(encoded(stored, "JPEG", exif=exif, quality=95), "jpg")
    assert is_near(tuple(picture.pixels[8, 8].tolist()), (254, 0, 0))
    assert picture.pixels[24, 24, 1] > 240


def test_broken_exif_turns_nothing():
    data = encoded(paint(1), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff\x00\x12garbage")
    assert prepare(data, "jpg").pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_an_animation_the_first_frame_counts(file_format):
    frames = [Image.new("RGB", (40, 40), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(data)).n_frames == 3
    assert is_near(centre(prepare(data)), RED)
    same_size = [frame.resize((32, 32)) for frame in frames]
    still = prepare(encoded(same_size[0], file_format, save_all=True, append_images=same_size[1:]))
    assert getattr(Image.open(io.BytesIO(still.data)), "n_frames", 1) == 1


@pytest.mark.parametrize("size", [(400, 20), (20, 400), (3000, 31), (33, 32)])
def test_odd_aspect_ratios(size):
    """Red in the middle, green at both ends."""
    image = Image.new("RGB", size, (0, 255, 0))
    long, short = max(size), min(size)
    box = ((long - short) // 2, 0, (long + short + 1) // 2, short)
    image.paste(RED, box if size[0] == long else (box[1], box[0], box[3], box[2]))
    cropped, padded = prepare(encoded(image)), prepare(encoded(image), settings=PAD)
    assert is_near(centre(cropped), RED)
    assert (cropped.pixels[..., 2] < 30).all()
    if long > 2 * short:
        corner = tuple(padded.pixels[0, 0].tolist())
        assert corner == (0, 0, 255)
        side = padded.pixels[14:18, 1] if size[0] == long else padded.pixels[1, 14:18]
        assert is_near(
            tuple(side[side[:, 2].argmin()].tolist()), (0, 255, 0)
        )  # the end of the picture is still there


def test_tiny_and_huge_pictures():
    assert is_near(centre(prepare(encoded(Image.new("RGB", (8, 8), RED)))), RED)
    assert refuse(encoded(Image.new("RGB", (1, 1), RED))) is Reason.TOO_SMALL
    assert refuse(encoded(Image.new("RGB", (500, 7), RED))) is Reason.TOO_SMALL
    assert is_near(centre(prepare(encoded(Image.new("RGB", (6000, 5000), RED), "JPEG"))), RED)


def bomb(width: int, height: int) -> bytes:
    """A small PNG that claims to be large."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    body = zlib.compress(bytes(1000))
    chunks = b""
    for kind, data in ((b"IHDR", header), (b"IDAT", body), (b"IEND", b"")):
        chunks += len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("side", [8001, 20_000, 60_000, 2_000_000])
def test_bombs_are_never_decoded(side):
    assert refuse(bomb(side, side)) is Reason.TOO_MANY_PIXELS


def test_limits_follow_the_settings():
    data = encoded(paint(3))
    assert refuse(data, settings=CaptionedParams(max_pixels=1599)) is Reason.TOO_MANY_PIXELS
    assert refuse(data, settings=CaptionedParams(min_side=41)) is Reason.TOO_SMALL


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_pictures(file_format):
    data = encoded(paint(4, size=(200, 200)), file_format)
    for keep in (len(data) // 2, len(data) - 40):
        assert refuse(data[:keep]) in (Reason.TRUNCATED, Reason.UNDECODABLE, Reason.NOT_A_PICTURE)


@pytest.mark.parametrize(
    ("file_format", "reason"),
    [("PNG", Reason.TRUNCATED), ("JPEG", Reason.TRUNCATED), ("BMP", Reason.TRUNCATED)],
)
def test_truncation_is_called_so(file_format, reason):
    data = encoded(paint(4, size=(200, 200)), file_format)
    assert refuse(data[: len(data) * 2 // 3]) is reason


@pytest.mark.parametrize(
    "data",
    [
        b"not a picture",
        b"\x89PNG\r\n\x1a\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        bytes(100),
        b"P6 1 1 255 ",
    ],
)
def test_what_is_no_picture(data):
    assert refuse(data) is Reason.NOT_A_PICTURE


def test_damage_in_the_middle():
    data = bytearray(encoded(paint(5, size=(200, 200))))
    data[60:70] = bytes(10)
    assert refuse(bytes(data)) in (Reason.UNDECODABLE, Reason.TRUNCATED)


def test_mislabelled_pictures():
    data = encoded(paint(6), "JPEG")
    assert refuse(data, "png") is Reason.MISLABELLED
    assert refuse(data, "dat") is Reason.MISLABELLED
    prepare(data, "jpg")
    prepare(data)  # nothing is claimed
    prepare(data, "png", CaptionedParams(allow_mislabelled=True))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_what_is_already_as_asked_keeps_its_bytes(file_format):
    data = encoded(paint(7, size=(32, 32)), file_format)
    assert prepare(data).data == data


def test_bytes_with_something_beside_the_pixels_are_written_anew():
    image = paint(7, size=(32, 32))
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    for data in (
        encoded(image, exif=exif),
        encoded(image) + bytes(100_000),
        encoded(image, "JPEG", comment=b"mine"),
    ):
        assert b"where I live" not in prepare(data).data
        assert prepare(data).data != data


def test_one_picture_in_two_encodings_has_one_digest():
    image = paint(8, size=(32, 32))
    first, second = prepare(encoded(image)), prepare(encoded(image, "WEBP", lossless=True))
    assert first.digest == second.digest != prepare(encoded(paint(9, size=(32, 32)))).digest


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        (32, ["ec5a33922dd22dcc", "e25a3d509de2e2aa", "c03f3e6ac9c49517", "837f90b659c1364d"]),
        (64, ["c45b33132dd26dcc", "c27a3dd09dc26aaa", "c03f3e6ac9c49517", "877fb23659913449"]),
    ],
)
def test_perceptual_hashes_are_those_of_imagehash(side, expected):
    """What `imagehash.phash` 4.3.2 gave for these pictures."""
    assert (
        perceptual_hashes([np.asarray(paint(number, size=(side, side))) for number in range(4)]) == expected
    )


def test_flat_pictures_hash_alike():
    flat = [np.full((32, 32, 3), value, dtype=np.uint8) for value in (1, 77, 254)]
    assert len(set(perceptual_hashes(flat))) == 1


def test_reading_knows_its_limits(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    assert read_bytes(path, max_bytes=10) == b"0123456789"
    assert read_bytes(ByteRange(path, 3, 4), max_bytes=4) == b"3456"
    places = [
        (path, 9, Reason.TOO_MANY_BYTES),
        (b"0123456789", 9, Reason.TOO_MANY_BYTES),
        (ByteRange(path, 0, 10), 9, Reason.TOO_MANY_BYTES),
        (b"", 9, Reason.EMPTY_FILE),
        (tmp_path / "nowhere", 9, Reason.NO_PICTURE),
        (tmp_path, 9, Reason.NOT_A_FILE),
    ]
    for place, limit, reason in places:
        found = read_bytes(place, max_bytes=limit)
        assert isinstance(found, Rejection)
        assert found.reason is reason
