"""All that is needed to build a model again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from vpr.config.params import Finite, Positive

if TYPE_CHECKING:  # images need torch, which takes seconds to import
    from vpr.data.preprocess import Preprocess

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_SIDE_PX = 8192
Pixels = Annotated[int, Field(ge=1, le=MAX_SIDE_PX)]


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a model again.

    Args:
        backbone, aggregator: names, with their options beside them.
        image_size: height and width, in pixels, that images are resized to.
        mean, std: by which each colour channel in [0, 1] is normalised.
        pca_dim: size of the descriptors after PCA as the last step; ``None`` for none.
    """

    backbone: str
    backbone_options: dict[str, Any]
    aggregator: str
    aggregator_options: dict[str, Any]
    image_size: tuple[Pixels, Pixels]
    mean: tuple[Finite, Finite, Finite] = IMAGENET_MEAN
    std: tuple[Positive, Positive, Positive] = IMAGENET_STD
    pca_dim: Annotated[int, Field(ge=1)] | None = None

    @classmethod
    def from_dict(cls, content: Any) -> ModelSpec:
        """The reverse of ``dataclasses.asdict``, lists taken for tuples.

        Raises:
            ValueError: if ``content`` is anything else; the message names the first wrong field.
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
        """What makes an image the pixels that the model takes."""
        from vpr.data.preprocess import Preprocess

        return Preprocess(self.image_size)
