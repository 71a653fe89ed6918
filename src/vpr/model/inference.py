"""Make a trained model faster without changing its descriptors."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from vpr.model.vpr_model import VPRModel

_TOLERANCE = 1e-4  # largest difference of a number of a descriptor, whose norm is 1


@torch.inference_mode()
def for_inference(model: nn.Module, device: torch.device) -> nn.Module:
    """Return a copy on a device, in evaluation mode, with channels last and batch norm folded into the convolutions.

    If the folded copy describes a test image differently, as with batch norms that contain an activation, a copy that
    keeps its batch norm is returned.
    """
    whole = copy.deepcopy(model).to(device).to(memory_format=torch.channels_last).eval()
    if not isinstance(whole, VPRModel):
        return whole
    height, width = whole.spec.image_size
    image = torch.randint(0, 256, (1, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    folded = _without_batch_norm(copy.deepcopy(whole), image.to(device))
    before, after = (each(image.to(device)) for each in (whole, folded))
    return folded if torch.allclose(before, after, rtol=0, atol=_TOLERANCE) else whole


@torch.inference_mode()
def suitable_batch_size(model: nn.Module, shape: torch.Size, device: torch.device) -> int:
    """Return a batch size: on a GPU, as many images as half of its free memory holds, up to 512; on a CPU, 32.

    Larger batches are not faster on a CPU.

    Args:
        model: Model on the device.
        shape: Shape of an image.
        device: The device.
    """
    if device.type != "cuda":
        return 32
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model(torch.zeros((8, *shape), dtype=torch.uint8, device=device))
    bytes_per_image = max(1, (torch.cuda.max_memory_allocated(device) - before) // 8)
    return int(min(512, max(1, torch.cuda.mem_get_info(device)[0] // 2 // bytes_per_image)))


def _without_batch_norm(model: VPRModel, image: Tensor) -> VPRModel:
    """Fold each batch norm whose input is the output of a convolution."""
    convolutions: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # by the identity of their output, which is kept alive
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def returned(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        convolutions[id(output)] = module, output

    def given(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        if id(inputs[0]) in convolutions:
            pairs.append((convolutions[id(inputs[0])][0], module))

    hooks = [m.register_forward_hook(returned) for m in model.modules() if isinstance(m, nn.Conv2d)]
    hooks += [m.register_forward_pre_hook(given) for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    model(image)
    for hook in hooks:
        hook.remove()
    name_of = {module: name for name, module in model.named_modules()}
    for convolution, norm in pairs:
        model.set_submodule(name_of[convolution], fuse_conv_bn_eval(convolution, norm))
        model.set_submodule(name_of[norm], nn.Identity())
    return model
