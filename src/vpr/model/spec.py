"""The specification from which a model can be built again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from vpr.config.params import Finite, Positive

if TYPE_CHECKING:  # this imports torch, which takes seconds
    from vpr.data.preprocess import Preprocess

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SIDE_PX, MAX_PIXELS = 8192, 1536 * 1536  # of the images that a model takes
Pixels = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]


def check_pixels(image_size: Sequence[int]) -> Sequence[int]:
    """Refuse an image size whose feature maps would fill the memory.

    Raises:
        ValueError: if it has more than ``MAX_PIXELS`` pixels.
    """
    height, width = image_size
    if height * width > MAX_PIXELS:
        raise ValueError(f"image_size is {height} x {width}, more than {MAX_PIXELS / 1e6:.1f} million pixels; lower it")
    return image_size


ImageSize = Annotated[tuple[Pixels, Pixels], AfterValidator(check_pixels)]
ListedImageSize = Annotated[list[Pixels], Field(min_length=2, max_length=2), AfterValidator(check_pixels)]


@dataclass(frozen=True)
class ModelSpec:
    """Everything needed to build a model again.

    Args:
        backbone, backbone_options: Name and options of the backbone.
        aggregator, aggregator_options: Name and options of the aggregator.
        image_size: Height and width in pixels that images are resized to.
        mean, std: Mean and standard deviation that normalise each colour channel in [0, 1].
        pca_dim: Size of the descriptors after PCA as the last layer; ``None`` for no PCA.
    """

    backbone: str
    backbone_options: dict[str, Any]
    aggregator: str
    aggregator_options: dict[str, Any]
    image_size: ImageSize
    mean: tuple[Finite, Finite, Finite] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    pca_dim: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def from_dict(cls, content: Any) -> ModelSpec:
        """Read what ``dataclasses.asdict`` returned; lists are converted to tuples.

        Raises:
            ValueError: if ``content`` is not a specification; the message names the first wrong field.
        """
        if not isinstance(content, dict) or not set(content) <= set(cls.__dataclass_fields__):
            raise ValueError(f"expected a mapping with the keys {list(cls.__dataclass_fields__)}")
        try:
            fields = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
            return TypeAdapter(cls).validate_python(fields, strict=False)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None

    def preprocess(self) -> Preprocess:
        """Return the function that resizes images for the model."""
        from vpr.data.preprocess import Preprocess

        return Preprocess(self.image_size)
