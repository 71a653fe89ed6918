"""Images of all kinds are read as what they show, or refused; the same for datasets and for photos that are sent."""

from __future__ import annotations

import io
import os
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vpr.config.errors import UserError
from vpr.data.images import FORMATS, MAX_PIXELS, SUFFIXES, ImageError, decode, open_image, open_pixels
from vpr.data.loading import ImageList, image_loader
from vpr.data.manifest import TRAIN, make_manifest
from vpr.data.preprocess import Preprocess
from vpr.serving.photos import read_photo
from vpr.verification.checks import verify

RAMP = np.linspace(0, 255, 16 * 24).round().astype(np.uint8).reshape(16, 24)


def encoded(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def of_16_bits(file_format: str) -> bytes:
    return encoded(Image.fromarray(RAMP.astype(np.uint16) * 257), file_format)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_shows_what_it_showed_with_8(file_format):
    grey = np.asarray(decode(of_16_bits(file_format)))
    assert (grey == RAMP[:, :, None]).all()


def test_grey_of_16_bits_of_which_zero_is_white_is_turned_round():
    # The tag of the interpretation, 262, as an entry of one short: 1 (zero is black) becomes 0 (zero is white).
    tag = b"\x06\x01\x03\x00\x01\x00\x00\x00"
    content = of_16_bits("TIFF")
    assert content.count(tag + b"\x01") == 1
    grey = np.asarray(decode(content.replace(tag + b"\x01", tag + b"\x00")))
    assert (grey == 255 - RAMP[:, :, None]).all()


def tiff(rows: bytes, tags: dict[int, int]) -> bytes:
    """A TIFF file of one image, whose pixels begin at byte 8."""
    entries = b"".join(
        tag.to_bytes(2, "little") + (4).to_bytes(2, "little") + (1).to_bytes(4, "little") + value.to_bytes(4, "little")
        for tag, value in tags.items()
    )
    header = b"II*\x00" + (len(rows) + 8).to_bytes(4, "little")
    return header + rows + len(tags).to_bytes(2, "little") + entries + bytes(4)


def test_grey_of_12_bits_is_scaled_by_its_own_white():
    # Two pixels of 12 bits in three bytes, the first of a row black, the second white.
    rows = b"\x00\x0f\xff" * 12 * 16
    content = tiff(rows, {256: 24, 257: 16, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16, 279: len(rows)})
    grey = np.asarray(decode(content))
    assert (grey[:, 0::2] == 0).all()
    assert (grey[:, 1::2] == 255).all()


@pytest.mark.parametrize("values", [RAMP / 255, np.full((16, 24), np.nan), RAMP * 1000.0], ids=["0-1", "nan", "large"])
def test_floating_point_pixels_are_refused_because_white_is_not_known(values):
    with pytest.raises(ImageError, match="floating-point numbers, whose white is unknown"):
        decode(encoded(Image.fromarray(values.astype(np.float32)), "TIFF"))


def test_a_small_tiff_with_huge_tiles_is_refused():
    tags = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 277: 1, 322: 26_000, 323: 26_000, 324: 8, 325: 256}
    with pytest.raises(ImageError, match="tiles of more than 64 million pixels, which is the limit"):
        decode(tiff(bytes(256), tags))


def test_integers_of_32_bits_are_refused():
    with pytest.raises(ImageError, match="32-bit integers, whose white is unknown"):
        decode(encoded(Image.fromarray(RAMP.astype(np.int32)), "TIFF"))


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_listed_format_is_read(file_format):
    lossless = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100}, "AVIF": {"quality": 100}}.get(file_format, {})
    image = decode(encoded(Image.fromarray(RAMP).convert("RGB"), file_format, **lossless))
    assert (image.mode, image.size) == ("RGB", (24, 16))
    assert np.abs(np.asarray(image).astype(int) - RAMP[:, :, None]).max() <= 4


def test_every_suffix_belongs_to_a_listed_format():
    assert {Image.registered_extensions()[suffix] for suffix in SUFFIXES} == set(FORMATS)


def test_no_other_program_is_started_for_a_file(tmp_path, monkeypatch):
    def started(*command, **_):
        raise AssertionError(f"{command} was started")

    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("subprocess.Popen", started)
    (tmp_path / "x.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(UserError, match=r"x.jpg: .*not an image but a text"):
        open_image(tmp_path / "x.jpg")


def test_too_many_pixels_are_refused_before_they_are_decoded():
    side = int(MAX_PIXELS**0.5) + 1
    bomb = encoded(Image.new("1", (side, side)), "PNG")
    with pytest.raises(ImageError, match=f"{side} x {side} pixels; the limit is 64 million"):
        decode(bomb)


@pytest.fixture
def odd_files(tmp_path):
    """Files with names of photos that are none, and one that is."""
    (tmp_path / "good.png").write_bytes(of_16_bits("PNG"))
    (tmp_path / "float.tif").write_bytes(encoded(Image.fromarray(np.full((16, 24), np.nan, np.float32)), "TIFF"))
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "half.jpg").write_bytes(encoded(Image.fromarray(RAMP), "JPEG")[:-60])
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def test_verification_and_photos_refuse_the_same_files_and_none_of_them_waits(odd_files):
    names = sorted(path.name for path in odd_files.iterdir())
    rows = [{"image": name, "role": TRAIN, "set": "", "place_id": "1"} for name in [*names, "gone.jpg"]]
    checked = verify(make_manifest("odd", str(odd_files), pd.DataFrame(rows)), 25.0, 1)
    problems = dict(zip(checked.problems["image"], checked.problems["problem"], strict=True))
    assert set(problems) == {*names, "gone.jpg"} - {"good.png"}
    assert problems["gone.jpg"] == "the file is missing"
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        assert problems[name] == "not a file but a folder, pipe or device"
    for name in ("float.tif", "text.jpg", "half.jpg"):
        with pytest.raises(UserError) as refused:
            read_photo((odd_files / name).read_bytes(), "photo")
        assert str(refused.value) == f"photo: {problems[name]}"
        with pytest.raises(UserError, match=r"cannot be read as an image"):
            open_image(odd_files / name)
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        with pytest.raises(UserError, match="not a file but a folder, pipe or device"):
            open_image(odd_files / name)


def colours(height: int = 37, width: int = 53) -> Image.Image:
    """Smooth colours with some noise."""
    rng = np.random.default_rng(3)
    small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    return Image.fromarray(
        np.clip(np.asarray(small).astype(int) + rng.integers(-9, 9, (height, width, 3)), 0, 255).astype("u1")
    )


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(colours(), "JPEG", exif=exif)


PHOTO = encoded(colours(), "JPEG")
CORPUS = {
    "colour": PHOTO,
    "progressive": encoded(colours(), "JPEG", progressive=True),
    "grey": encoded(colours().convert("L"), "JPEG"),
    "CMYK": encoded(colours().convert("CMYK"), "JPEG"),
    "without subsampling": encoded(colours(), "JPEG", subsampling=0),
    "RGB inside": encoded(colours(), "JPEG", keep_rgb=True),
    "palette": encoded(colours().convert("P"), "PNG"),
    "transparent": encoded(colours().convert("RGBA"), "PNG"),
    "16 bits": of_16_bits("PNG"),
    "several in one file": encoded(colours(), "MPO", save_all=True, append_images=[colours()]),
    **{f"turned {k}": turned(k) for k in range(10)},
    **{f"cut at {k}": PHOTO[:k] for k in (2, 100, len(PHOTO) // 2, len(PHOTO) - 2)},
    "followed by junk": PHOTO + b"junk",
    "too large": encoded(Image.new("L", (10_000, 7000)), "JPEG"),
    "text": b"\xff\xd8 no image",
}


@pytest.mark.parametrize("name", CORPUS)
def test_pixels_are_those_of_the_image_and_refused_with_the_same_words(tmp_path, name):
    path = tmp_path / "x.jpg"
    path.write_bytes(CORPUS[name])
    try:
        expected = np.asarray(open_image(path))
    except UserError as error:
        with pytest.raises(UserError, match=re.escape(str(error))):
            open_pixels(path)
        assert "cut" in name or name in ("too large", "text", "several in one file")
    else:
        assert np.array_equal(open_pixels(path).permute(1, 2, 0).numpy(), expected)


@pytest.mark.parametrize("size", [(20, 30), (60, 80), (37, 53), (1, 1)])
def test_resized_pixels_are_those_of_pillow_within_one_grey_level(tmp_path, size):
    (tmp_path / "x.jpg").write_bytes(PHOTO)
    expected = np.asarray(open_image(tmp_path / "x.jpg").resize(size[::-1], Image.Resampling.BILINEAR)).astype(int)
    preprocess = Preprocess(size)
    pixels = preprocess.read(tmp_path / "x.jpg")
    assert pixels.equal(preprocess(open_image(tmp_path / "x.jpg")))
    assert np.abs(pixels.permute(1, 2, 0).numpy() - expected).max() <= 1


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_image_is_one_line_also_from_a_loader_process(odd_files, num_workers):
    preprocess = Preprocess((16, 24))
    images = ImageList(odd_files, ["good.png", "half.jpg"], preprocess)
    with pytest.raises(UserError) as refused:
        list(image_loader(images, 1, num_workers))
    assert str(refused.value).startswith(f"{odd_files}/half.jpg: cannot be read as an image: ")
    assert "\n" not in str(refused.value)


def test_a_sparse_file_of_terabytes_is_refused_unread_and_an_empty_one_is_not_opened(tmp_path):
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(2 << 40)
    with pytest.raises(UserError, match=r"2,199,023 MB; the limit is 600 MB"):
        open_image(tmp_path / "sparse.jpg")
    (tmp_path / "kernel.jpg").symlink_to("/proc/self/status")  # says that it is empty, as /proc/kmsg does
    with pytest.raises(UserError, match="not an image"):
        open_image(tmp_path / "kernel.jpg")
