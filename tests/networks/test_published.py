"""Published state dicts, made here with their names and shapes, become our models."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from vpr.commands import main as cli
from vpr.config.errors import UserError
from vpr.model.checkpoint import load_checkpoint
from vpr.published.convert import convert
from vpr.published.find_model import descriptor_dim_of
from vpr.published.table import PUBLISHED

ROOT = Path(__file__).parents[2]


class Cropped(nn.Module):
    """A torchvision ResNet as gsv-cities and MixVPR keep it: under ``model``, its last stage taken out."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.resnet50(weights=None)
        self.model.layer4 = self.model.avgpool = self.model.fc = nn.Identity()

    def forward(self, images):
        m = self.model
        return m.layer3(m.layer2(m.layer1(m.maxpool(m.relu(m.bn1(m.conv1(images)))))))


class Whole(nn.Module):
    """A torchvision ResNet as gsv-cities keeps it for ConvAP: under ``model``, without pooling and classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.model = torchvision.models.resnet50(weights=None)
        self.model.avgpool = self.model.fc = nn.Identity()

    def forward(self, images):
        m = self.model
        return m.layer4(m.layer3(m.layer2(m.layer1(m.maxpool(m.relu(m.bn1(m.conv1(images))))))))


class ConvAPHead(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_pool = nn.Conv2d(2048, channels, 1)

    def forward(self, x):
        pooled = nn.functional.adaptive_avg_pool2d(self.channel_pool(x), (2, 2))
        return nn.functional.normalize(pooled.flatten(1), dim=1)


class Mixer(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.LayerNorm(size), nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))

    def forward(self, x):
        return x + self.mix(x)


class MixHead(nn.Module):
    def __init__(self, dimension: int) -> None:
        super().__init__()
        channels, rows = {4096: (1024, 4), 512: (256, 2), 128: (64, 2)}[dimension]
        self.mix = nn.Sequential(*[Mixer(400) for _ in range(4)])
        self.channel_proj, self.row_proj = nn.Linear(1024, channels), nn.Linear(400, rows)

    def forward(self, x):
        x = self.mix(x.flatten(2)).permute(0, 2, 1)
        x = self.row_proj(self.channel_proj(x).permute(0, 2, 1))
        return nn.functional.normalize(x.flatten(1), dim=-1)


class Two(nn.Module):
    def __init__(self, backbone: nn.Module, aggregator: nn.Module) -> None:
        super().__init__()
        self.backbone, self.aggregator = backbone, aggregator

    def forward(self, images):
        return self.aggregator(self.backbone(images))


class GeMHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x):
        return x.clamp(min=1e-6).pow(self.p).mean((-2, -1), keepdim=True).pow(1.0 / self.p)


class Unit(nn.Module):
    def forward(self, x):
        return nn.functional.normalize(x, dim=1)


class CosPlaceNetwork(nn.Module):
    def __init__(self, name: str, dimension: int) -> None:
        super().__init__()
        network = torchvision.models.get_model(name, weights=None)
        # Of VGG-16 the last ReLU is left out together with the pooling.
        layers = network.features if name == "vgg16" else network
        self.backbone = nn.Sequential(*list(layers.children())[:-2])
        channels = 512 if name in ("vgg16", "resnet18") else 2048
        linear = nn.Linear(channels, dimension)
        self.aggregation = nn.Sequential(Unit(), GeMHead(), nn.Flatten(), linear, Unit())

    def forward(self, images):
        return self.aggregation(self.backbone(images))


def independent(name: str) -> nn.Module:
    """The published architecture, written from its paper's names, with random weights."""
    method, network, size = name.split("_")
    if method in ("cosplace", "eigenplaces"):
        return CosPlaceNetwork(network, int(size))
    return Two(Cropped(), MixHead(int(size))) if method == "mixvpr" else Two(Whole(), ConvAPHead(int(size) // 4))


# Of CosPlace and EigenPlaces one size of each network; the others differ in a number alone.
HELD = [
    *(name for name in PUBLISHED if name.startswith(("convap", "mixvpr"))),
    "cosplace_vgg16_64", "cosplace_resnet18_32", "cosplace_resnet50_2048", "cosplace_resnet101_128",
    "cosplace_resnet152_256", "eigenplaces_vgg16_512", "eigenplaces_resnet18_256", "eigenplaces_resnet50_512",
    "eigenplaces_resnet101_1024",
]  # fmt: skip


@pytest.mark.parametrize("name", HELD)
def test_the_published_network_and_ours_give_the_same_descriptors(name, quick_weights):
    torch.manual_seed(0)
    theirs = independent(name).eval()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = convert(name, theirs.state_dict())
    height, width = (320, 320) if name.startswith("mixvpr") else (96, 64)
    images = torch.rand(2, 3, height, width)
    with torch.inference_mode():
        expected, found = theirs(images), ours(images)
    assert (found - expected).norm() / expected.norm() < 1e-5


class Salad(nn.Module):
    """SALAD, its transport by probabilities rather than their logarithms."""

    def __init__(self, cluster_dim: int) -> None:
        super().__init__()
        self.token_features = nn.Sequential(nn.Linear(768, 512), nn.ReLU(), nn.Linear(512, 256))
        self.cluster_features, self.score = (
            nn.Sequential(nn.Conv2d(768, 512, 1), nn.Identity(), nn.ReLU(), nn.Conv2d(512, last, 1))
            for last in (cluster_dim, 64)
        )
        self.dust_bin = nn.Parameter(torch.tensor(1.0))

    def forward(self, features, token):
        f, p = self.cluster_features(features).flatten(2).double(), self.score(features).flatten(2).double()
        b, m, n = p.shape
        kernel = torch.cat([p, self.dust_bin.double().expand(b, 1, n)], dim=1).exp()
        takes = torch.tensor([1.0] * m + [float(n - m)], dtype=torch.float64)
        v = torch.ones(b, n, dtype=torch.float64)
        for _ in range(3):
            u = takes / (kernel @ v[..., None])[..., 0]
            v = 1 / (kernel.transpose(1, 2) @ u[..., None])[..., 0]
        weights = (u[..., None] * kernel * v[:, None])[:, :-1]
        clusters = torch.einsum("bdn,bmn->bdm", f, weights)
        parts = [nn.functional.normalize(self.token_features(token).double(), dim=-1)]
        parts.append(nn.functional.normalize(clusters, dim=1).flatten(1))
        return nn.functional.normalize(torch.cat(parts, dim=-1), dim=-1).float()


class SaladHead(nn.Module):
    """The aggregator of SALAD, or of MegaLoc, by its authors' names."""

    def __init__(self, megaloc: bool) -> None:
        super().__init__()
        salad = Salad(256 if megaloc else 128)
        if megaloc:
            self.agg, self.linear = salad, nn.Linear(64 * 256 + 256, 8448)
        else:
            for name, part in salad.named_children():
                self.add_module(name, part)
            self.dust_bin = salad.dust_bin

    def forward(self, features, token):
        if hasattr(self, "agg"):
            return nn.functional.normalize(self.linear(self.agg(features, token)), dim=1)
        return Salad.forward(self, features, token)


def renamed_back(name: str) -> dict[str, torch.Tensor]:
    """A state dict with the published names, from those that the repositories' own modules have."""
    import timm

    torch.manual_seed(0)
    vit = timm.create_model("vit_base_patch14_dinov2.lvd142m", pretrained=False, num_classes=0)
    blocks = {k: v for k, v in vit.state_dict().items() if not k.startswith("fc_norm")}
    if not name.startswith("boq"):
        state = {f"backbone.model.{k}": v for k, v in blocks.items()}
        state["backbone.model.mask_token"] = torch.zeros(1, 768)
        return state | {f"aggregator.{k}": v for k, v in SaladHead(name == "megaloc").state_dict().items()}
    unused = {f"backbone.norm.{k}": v for k, v in nn.LayerNorm(768).state_dict().items()}
    return {f"backbone.dino.{k}": v for k, v in blocks.items()} | unused | boq_names(768, 384)


def boq_names(channels: int, dim: int) -> dict[str, torch.Tensor]:
    state = {f"aggregator.proj_c.{n}": v for n, v in nn.Conv2d(channels, dim, 3).state_dict().items()}
    state |= {f"aggregator.norm_input.{n}": v for n, v in nn.LayerNorm(dim).state_dict().items()}
    state |= {f"aggregator.fc.{n}": v for n, v in nn.Linear(128, 32).state_dict().items()}
    for k in range(2):
        parts = {
            "encoder": nn.TransformerEncoderLayer(dim, dim // 64, 4 * dim, batch_first=True),
            "self_attn": nn.MultiheadAttention(dim, dim // 64, batch_first=True),
            "cross_attn": nn.MultiheadAttention(dim, dim // 64, batch_first=True),
            "norm_q": nn.LayerNorm(dim),
            "norm_out": nn.LayerNorm(dim),
        }
        for part, module in parts.items():
            state |= {f"aggregator.boqs.{k}.{part}.{n}": v for n, v in module.state_dict().items()}
        state[f"aggregator.boqs.{k}.queries"] = torch.randn(1, 64, dim)
    return state


@pytest.mark.parametrize("name", ["salad_dinov2_8448", "cliquemining_dinov2_8448", "megaloc", "boq_dinov2_12288"])
def test_dinov2_models_are_mapped_whole_and_their_heads_are_what_they_are_defined_as(name, quick_weights):
    state = renamed_back(name)
    model = convert(name, state)
    assert model.descriptor_dim == descriptor_dim_of(name)
    prefix = "backbone.dino" if name.startswith("boq") else "backbone.model"
    assert torch.equal(model.backbone.blocks[7].attn.qkv.weight, state[f"{prefix}.blocks.7.attn.qkv.weight"])
    with torch.inference_mode():
        assert model(torch.rand(1, 3, 140, 140)).norm().item() == pytest.approx(1, abs=1e-5)
    if name.startswith("boq"):
        return  # test_aggregators.py has the definition of its head
    head = SaladHead(name == "megaloc")
    head.load_state_dict({k.removeprefix("aggregator."): v for k, v in state.items() if k.startswith("aggregator.")})
    features, token = torch.randn(2, 768, 11, 10), torch.randn(2, 768)
    with torch.inference_mode():
        expected, found = head(features, token), model.describe(features, token)
    assert (found - expected).norm() / expected.norm() < 1e-5


def test_boq_s_resnet_is_mapped_by_either_of_its_names(quick_weights):
    resnet = torchvision.models.resnet50(weights=None)
    parts = [nn.Sequential(resnet.conv1, resnet.bn1), resnet.layer1, resnet.layer2, resnet.layer3]
    names = ["frozen_layers.0", "frozen_layers.1", "frozen_layers.2", "unfrozen_layers.0"]
    state = boq_names(1024, 512)
    for prefix, part in zip(names, parts, strict=True):
        state |= {f"backbone.{prefix}.{k}": v for k, v in part.state_dict().items()}
    model = convert("boq_resnet50_16384", state)
    assert model.descriptor_dim == 16384
    assert torch.equal(model.backbone.stages[2][0].conv1.weight, resnet.layer3[0].conv1.weight)


def test_other_weights_are_refused_with_what_differs():
    state = independent("cosplace_resnet18_512").state_dict()
    with pytest.raises(UserError, match=r"not weights of mixvpr_resnet50_4096: \d+ tensors of the model are missing"):
        convert("mixvpr_resnet50_4096", state)
    state["aggregation.3.weight"] = torch.zeros(256, 512)
    with pytest.raises(UserError, match=r"aggregator.project.weight \(256, 512\) instead of \(512, 512\)"):
        convert("cosplace_resnet18_512", state)


def test_a_downloaded_file_becomes_a_checkpoint_that_loads(tmp_path, monkeypatch, capsys):
    torch.manual_seed(0)
    theirs = independent("eigenplaces_resnet18_512").eval()
    torch.save(theirs.state_dict(), tmp_path / "published.pth")
    monkeypatch.setenv("VPR_HOME", str(tmp_path / "home"))
    command = ["vpr", "models", "pull", "eigenplaces_resnet18_512", "--file", str(tmp_path / "published.pth")]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0
    printed = capsys.readouterr()
    assert "descriptor 512" in printed.err
    model, metadata = load_checkpoint(Path(printed.out.strip()))
    assert metadata["configuration"]["agg"]["name"] == "cosplace"
    images = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(model(images), theirs(images), atol=1e-6)
    for content, message in (
        (b"<html>No such file</html>", "a text that begins with '<html>No"),
        (b"\0\1", "cannot be read"),
    ):
        (tmp_path / "published.pth").write_bytes(content)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        printed = capsys.readouterr().err
        assert stop.value.code == 1
        assert message in printed
        assert "Traceback" not in printed
