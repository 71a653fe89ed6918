"""The training loop, which turns a model and batches into weights and a history. It only writes to a scratch folder."""

from __future__ import annotations

import logging
import signal
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from vpr.data.augmentation import rand_augment
from vpr.data.encoded import EncodedImages
from vpr.data.loading import image_loader
from vpr.model.device import pick_device
from vpr.model.vpr_model import VPRModel
from vpr.retrieval.recall import recall_at
from vpr.retrieval.search import search
from vpr.training.batches import PlaceSampler
from vpr.training.chunks import in_chunks
from vpr.training.cliques import CliqueSampler
from vpr.training.criterion import Criterion, Mined
from vpr.training.history import History, Report
from vpr.training.params import TrainParams
from vpr.training.places import ImageBatch
from vpr.training.progress_bar import TrainingProgress
from vpr.training.ranks import (
    SharedBatches,
    gathered,
    gathered_equal,
    gathered_parts,
    num_ranks,
    over_ranks,
    own_part,
    rank,
)
from vpr.training.validation import Validation


@dataclass
class Trained:
    """The result of a training.

    Attributes:
        best, last: State dicts of the model, at the best validation and at the end.
        best_epoch: Epoch of ``best``, counted from 1.
        history: Rows of the training curve, with ``step`` and ``epoch``.
        seconds: Duration, including validation.
        num_images: Number of images that were trained on, counting repetitions.
    """

    best: dict[str, Tensor]
    last: dict[str, Tensor]
    best_epoch: int
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0
    num_images: int = 0


class TrainingModule(lightning.LightningModule):
    """Model and criterion in Lightning's loop.

    Args:
        model, criterion: Model to train, and its training signal.
        params: Training settings.
        steps_per_epoch: Number of batches in an epoch.
        validation: Validation set.
    """

    def __init__(
        self,
        model: VPRModel,
        criterion: Criterion,
        params: TrainParams,
        steps_per_epoch: int,
        validation: Validation,
    ) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)
        self.criterion = criterion
        self.params = params
        self.steps_per_epoch = steps_per_epoch
        self.validation = validation
        self.mined = Mined(0.0, 1.0, False)
        self.last_loss = torch.zeros(())
        if params.compile:
            self.model.compile()
        self._descriptors: dict[int, list[Tensor]] = {}

    def configure_optimizers(self) -> Any:
        params = self.params
        weights = [p for p in self.parameters() if p.requires_grad]
        if params.optimizer == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(
                weights, params.lr, momentum=params.momentum, weight_decay=params.weight_decay, fused=True
            )
        elif params.optimizer == "adam":
            optimizer = torch.optim.Adam(weights, params.lr, weight_decay=params.weight_decay, fused=True)
        else:
            optimizer = torch.optim.AdamW(weights, params.lr, weight_decay=params.weight_decay, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: lr_factor(step, self.steps_per_epoch, params)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Dropout differs between ranks. With one rank, the miner continues the same random stream.
        self._seed(*([] if num_ranks() == 1 else [1 + rank()]))

    def _seed(self, *rank_key: int) -> None:
        """Seed each step, so that a resumed run draws the same numbers."""
        seed = int(np.random.SeedSequence([self.params.seed, self.global_step, *rank_key]).generate_state(1)[0])
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002, some miners use NumPy's global generator

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        pixels = batch.images
        if isinstance(pixels, EncodedImages):
            pixels = pixels.decode(self.model.spec.image_size, batch.labels.device)
        images = rand_augment(pixels, batch.draws)
        descriptors = gathered(in_chunks(self.model, images, self.params.images_per_forward))
        if num_ranks() > 1:
            self._seed()  # so that all ranks mine the same pairs
        loss, self.mined = self.criterion(descriptors, gathered_equal(batch.labels))
        self.last_loss = loss.detach()
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # A step with gradients of zero would still move weights by momentum and decay.
        if self.mined.nothing:
            optimizer.zero_grad(set_to_none=True)

    def val_dataloader(self) -> list[DataLoader[Tensor]]:
        return [self._own_part(loader) for loader in self.validation.loaders]

    def _own_part(self, loader: DataLoader[Tensor]) -> DataLoader[Tensor]:
        if num_ranks() == 1:
            return loader
        images: Any = loader.dataset
        return image_loader(Subset(images, own_part(len(images))), self.params.val_batch_size, self.params.num_workers)

    def on_validation_epoch_start(self) -> None:
        self._descriptors = {0: [], 1: []}

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._descriptors[dataloader_idx].append(self.model(batch).float())

    def on_validation_epoch_end(self) -> None:
        database, queries = (self._all_descriptors(k) for k in (0, 1))
        self._descriptors = {}
        ns = self.params.val_recall_at
        recalls: dict[int, float] = {}
        if rank() == 0:  # one rank decides, so that rounding cannot make ranks disagree about the best epoch
            ranking, _ = search(database, queries, max(ns))
            recalls = recall_at(ranking, self.validation.positives, ns)
        for n, recall in self.trainer.strategy.broadcast(recalls).items():
            self.log(f"recall_at_{n}", recall)

    def _all_descriptors(self, part: int) -> NDArray[np.float32]:
        """Return the descriptors of the validation's database (0) or queries (1)."""
        own = self._descriptors[part] or [torch.zeros((0, self.model.descriptor_dim), device=self.device)]
        number = len(self.validation.loaders[part].dataset)
        all_descriptors: NDArray[np.float32] = gathered_parts(torch.cat(own), number).cpu().numpy()
        return all_descriptors


def lr_factor(step: int, steps_per_epoch: int, params: TrainParams) -> float:
    """Return the factor of the learning rate: a linear warm-up, and ``lr_mult`` for each milestone passed."""
    warmup = min(1.0, (step + 1) / params.warmup_steps) if params.warmup_steps > 0 else 1.0
    passed = sum(step // steps_per_epoch >= milestone for milestone in params.milestones)
    return float(warmup * params.lr_mult**passed)


def fit(
    model: VPRModel,
    criterion: Criterion,
    dataset: Any,
    sampler: PlaceSampler | CliqueSampler,
    validation: Validation,
    params: TrainParams,
    num_workers: int,
    scratch: Path,
    report: Report = lambda values, step: None,
) -> Trained:
    """Train a model, continuing an interrupted run in ``scratch`` if there is one.

    Args:
        model, criterion: Model to train, and its training signal.
        dataset: Dataset whose items are batches, see ``vpr.training.places``.
        sampler: Sampler of the batches.
        validation: Validation set, on which the best epoch is chosen.
        params: Training settings.
        num_workers: Number of loader processes.
        scratch: Folder for the checkpoints of this run only; the caller removes it.
        report: Function of the values of each row of the history and its step.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)  # at the INFO level they list devices and products
    lightning.seed_everything(params.seed, verbose=False)
    # Deterministic mode would fill uninitialised memory, which nothing reads.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    with_gpus = pick_device(params.accelerator).type == "cuda"
    several = params.devices * params.num_nodes > 1
    if several and not with_gpus:
        over_ranks(model)
    module = TrainingModule(model, criterion, params, len(sampler), validation)
    history = History(params.log_every_n_steps, sampler.places_per_batch * sampler.images_per_place, report)
    best = ModelCheckpoint(
        scratch, "best", monitor=params.monitor, mode="max", save_top_k=1, enable_version_counter=False
    )
    resume = ModelCheckpoint(
        scratch, "resume", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
    )
    with warnings.catch_warnings():
        # Lightning recommends other settings for logging and loader processes, which params.yaml sets on purpose.
        warnings.filterwarnings("ignore", category=UserWarning, module="lightning")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = lightning.Trainer(
            max_epochs=params.max_epochs,
            accelerator=params.accelerator,
            devices=params.devices,
            num_nodes=params.num_nodes,
            # Buffers are equal on all ranks without synchronisation.
            strategy=DDPStrategy(forward_sync_buffers=False) if several else "auto",
            sync_batchnorm=several and with_gpus,
            precision=precision_of(params),
            check_val_every_n_epoch=params.check_val_every_n_epochs,
            num_sanity_val_steps=0,
            log_every_n_steps=params.log_every_n_steps,
            callbacks=[history, TrainingProgress(history), best, resume],
            logger=False,
            enable_progress_bar=False,
            default_root_dir=scratch,
            enable_model_summary=False,
            use_distributed_sampler=False,
            deterministic="warn",
        )
        loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_size=None,
            sampler=SharedBatches(sampler),
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available() and params.accelerator != "cpu",
        )
        handler = signal.getsignal(signal.SIGINT)
        resumable = _resumable(scratch / "resume.ckpt")
        if resumable is not None:
            # Loader processes request batches before Lightning sets the epoch to continue with.
            sampler.set_epoch(int(torch.load(resumable, map_location="cpu", weights_only=True)["epoch"]) + 1)
        try:
            trainer.fit(module, loader, ckpt_path=resumable, weights_only=True)
        except SystemExit:  # Lightning raises it after Ctrl-C, and then ignores the next Ctrl-C
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from None
    last = _model_weights(module.state_dict())
    best_path = Path(best.best_model_path)
    best_state = torch.load(best_path, map_location="cpu", weights_only=True) if best.best_model_path else None
    return Trained(
        best=_model_weights(best_state["state_dict"]) if best_state else last,
        last=last,
        best_epoch=int(best_state["epoch"]) + 1 if best_state else params.max_epochs,
        history=history.rows,
        seconds=history.seconds,
        num_images=trainer.global_step * history.batch_images,
    )


def precision_of(params: TrainParams) -> Any:
    """Return Lightning's name of the precision; ``auto`` is half precision on a device that supports bfloat16."""
    if params.precision != "auto":
        return params.precision
    if pick_device(params.accelerator).type == "cuda":
        has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        known = torch.cpu.get_capabilities()
        has_bfloat16 = known.get("avx512_bf16", False) or known.get("amx_bf16", False)
    return "bf16-mixed" if has_bfloat16 else "32-true"


def _model_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}


def _resumable(path: Path) -> Path | None:
    """Return the checkpoint to continue from; ``None`` if it is missing or incomplete."""
    if not path.is_file():
        return None
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file fails in many ways
        warnings.warn(f"{path}: cannot be read ({error}); training starts from the beginning", stacklevel=2)
        return None
    return path
