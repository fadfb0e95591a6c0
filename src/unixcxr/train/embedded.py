"""Train the embedded model stage by stage, and export it.

    python -m unixcxr.train.embedded --config configs/embedded/v1.toml --corpus DIR.. --out RUN --stage codec

Stages come in the order of the config. Each starts from the averaged weights of those before it and resumes
where it was stopped. `--stage export --to DIR --card FILE` writes a model directory from what there is,
finished or not.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import nn

from unixcxr.data.tokenizer import Tokenizer
from unixcxr.errors import ConfigError
from unixcxr.model.layers import sincos_table
from unixcxr.model.patch_autoencoder import PatchAutoencoder
from unixcxr.model.unix import UniX, initialise
from unixcxr.model.weights import save_model
from unixcxr.train.checkpoint import Checkpoint
from unixcxr.train.corpus import Corpus, as_grey
from unixcxr.train.loop import Task, run_stage
from unixcxr.train.stages import RunConfig, StageConfig, read_run_config
from unixcxr.train.tasks import (
    DrawTask,
    LabelTask,
    Latents,
    ReadTask,
    ReconstructTask,
    copy_und_to_gen,
    encode_corpus,
    read_features,
)

logger = logging.getLogger(__name__)

SPECIAL_TOKENS = ("<|begin|>", "<|end|>", "<|image|>", "<|/image|>")
"""Ids 0 to 3 of a new tokenizer: bos, eos, start and end of an image."""

READ_PROMPTS = (
    "Review this X-ray and share the FINDINGS and IMPRESSION.",
    "Describe this chest X-ray.",
    "Write a report for this chest radiograph.",
    "What does this chest radiograph show?",
)
"""Other wordings of the wish for a report, beside the model's own report prompt."""

_FIT_PICTURES = 1500


class EmbeddedRun:
    """One run directory: its config, corpus and tokenizer, and the weights of its stages so far."""

    def __init__(self, config: RunConfig, corpus: Corpus, directory: Path) -> None:
        self.config = config
        self.corpus = corpus
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def tokenizer_path(self) -> Path:
        """Return the tokenizer's file."""
        return self.directory / "tokenizer.json"

    def train(self, name: str) -> nn.Module:
        """Run one stage to its end."""
        stage = self.config.stage(name)
        logger.info("stage %s: %d steps of %d", name, stage.num_steps, stage.batch_size)
        return run_stage(self.task(name, stage), name, self.config, self.directory)

    def task(self, name: str, stage: StageConfig) -> Task:
        """Return what a stage does, at the weights that the stages before it left."""
        torch.manual_seed(self.config.seed)  # for the heads that only training needs
        if stage.objective == "reconstruct":
            return self._reconstruct_task(name, stage)
        if stage.objective == "label":
            return LabelTask(self.model(before=name), self.corpus, stage)
        return self._read_task(name, stage) if stage.objective == "read" else self._draw_task(name, stage)

    def tokenizer(self) -> Tokenizer:
        """Return the run's tokenizer, trained on the corpus when there is none yet."""
        if not self.tokenizer_path.exists():
            train_tokenizer(self.corpus, self.config.model.transformer.vocab_size, self.tokenizer_path)
        return Tokenizer(self.tokenizer_path)

    def autoencoder(self, before: str | None = None) -> PatchAutoencoder:
        """Return the autoencoder as the stages before `before` (or all) left it."""
        autoencoder_config = self.config.model.autoencoder
        if autoencoder_config.kind != "patch":
            raise ConfigError(
                f"autoencoder kind {autoencoder_config.kind!r}; this runner trains 'patch' only"
            )
        torch.manual_seed(self.config.seed)
        autoencoder = PatchAutoencoder(autoencoder_config)
        self._load_stages(autoencoder, ("reconstruct",), before)
        return autoencoder

    def model(self, before: str | None = None) -> UniX:
        """Return the model as the stages before `before` (or all) left it.

        New vision positions are the sin-cos table: a picture is one position to the text, so that sides must come
        from the vision tower, and small random positions make it slow to tell them.
        """
        config = self.config.model.vision
        model = initialise(UniX(self.config.model), torch.Generator().manual_seed(self.config.seed))
        with torch.no_grad():
            model.vision.positions.copy_(sincos_table(config.width, config.grid_size))
        self._load_stages(model, ("label", "read", "draw"), before)
        return model

    def export(self, directory: Path, card: str) -> None:
        """Write a model directory in float16."""
        save_model(
            directory,
            self.config.model,
            self.model(),
            self.autoencoder(),
            self.tokenizer_path,
            card,
            torch.float16,
        )

    def _load_stages(self, module: nn.Module, objectives: Sequence[str], before: str | None) -> None:
        for name, stage in self.config.stages.items():
            if name == before:
                break
            path = self.directory / name / "checkpoint.pt"
            if stage.objective in objectives and path.exists():
                _take_over(module, Checkpoint.load(path))
                if stage.init_latents:
                    self._fit_latents(module)

    def _reconstruct_task(self, name: str, stage: StageConfig) -> ReconstructTask:
        autoencoder = self.autoencoder(before=name)
        if stage.init_latents:
            autoencoder.fit_patches(self._sample_pictures(stage.image_size_px))
        return ReconstructTask(autoencoder, self.corpus, stage)

    def _read_task(self, name: str, stage: StageConfig) -> ReadTask:
        prompts = (self.config.model.sampling.report_prompt, *READ_PROMPTS)
        return ReadTask(self.model(before=name), self.corpus, stage, self.tokenizer().encode, prompts)

    def _draw_task(self, name: str, stage: StageConfig) -> DrawTask:
        model = self.model(before=name)
        autoencoder = self.autoencoder(before=name)
        latents = self._latents(autoencoder, stage)
        features = None
        if stage.alignment_weight:
            features = self._cached("features", lambda: read_features(model, self.corpus))
        scales = autoencoder.channel_scales()
        if stage.init_gen:
            copy_und_to_gen(model)
        return DrawTask(model, self.corpus, stage, self.tokenizer().encode, latents, scales, features)

    def _latents(self, autoencoder: PatchAutoencoder, stage: StageConfig) -> Latents:
        """Return how a stage gets its latents: from a table, or encoded as drawn when making one is more work."""
        size_px = stage.image_size_px
        is_there = (self.directory / f"latents_{size_px}.npy").exists()
        if stage.num_samples < len(self.corpus) and not is_there:
            return torch.no_grad()(
                lambda rows: autoencoder.encode(as_grey(self.corpus.images(rows), size_px) * 2 - 1).float()
            )
        table = self._cached(f"latents_{size_px}", lambda: encode_corpus(autoencoder, self.corpus, size_px))
        assert len(table) == len(self.corpus), "the table of latents was made from another corpus"
        return lambda rows: torch.from_numpy(table[rows]).float()

    def _cached(self, name: str, compute: Callable[[], NDArray[np.float16]]) -> NDArray[np.float16]:
        path = self.directory / f"{name}.npy"
        if not path.exists():
            partial = path.with_name(f"{name}.partial.npy")
            with torch.autocast("cpu", torch.bfloat16, enabled=self.config.precision == "bfloat16"):
                np.save(partial, compute())
            partial.replace(path)
        return np.load(path, mmap_mode="r")

    def _fit_latents(self, autoencoder: nn.Module) -> None:
        assert isinstance(autoencoder, PatchAutoencoder), "only the autoencoder has latents to normalise"
        sizes = sorted(
            {stage.image_size_px for stage in self.config.stages.values() if stage.objective == "draw"}
        )
        autoencoder.fit_latents([batch for size_px in sizes for batch in self._sample_pictures(size_px)])

    def _sample_pictures(self, size_px: int) -> list[torch.Tensor]:
        step = max(1, len(self.corpus) // _FIT_PICTURES)
        chosen = range(0, len(self.corpus), step)
        return [
            as_grey(self.corpus.images(chosen[i : i + 50]), size_px) * 2 - 1
            for i in range(0, len(chosen), 50)
        ]


def _take_over(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Set what a stage learned (its averages) and the buffers; everything else stays as other stages left it."""
    own = dict(module.named_parameters())
    buffers = {name for name, _ in module.named_buffers()}
    inner = {name.removeprefix("model."): value for name, value in checkpoint.averaged().items()}
    learned = {name.removeprefix("model.") for name in checkpoint.ema if name != "num_updates"}
    wanted = buffers | (learned & own.keys())
    module.load_state_dict({name: inner[name] for name in wanted}, strict=False)


def train_tokenizer(corpus: Corpus, vocab_size: int, path: Path) -> None:
    """Train a byte-level BPE on the corpus' texts and write its tokenizer.json."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = (text for row in corpus.rows for text in (*row.reports, *row.prompts))
    tokenizer.train_from_iterator(texts, trainer)
    partial = path.with_name(path.name + ".partial")
    tokenizer.save(str(partial))
    partial.replace(path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one stage, or export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", required=True, help="a stage of the config, 'all', or 'export'")
    parser.add_argument("--to", type=Path, help="model directory to write (with --stage export)")
    parser.add_argument("--card", type=Path, help="model card to put into it")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    config = read_run_config(options.config)
    run = EmbeddedRun(config, Corpus.read(options.corpus), options.out)
    if options.stage == "export":
        if options.to is None or options.card is None:
            raise ConfigError("--stage export needs --to DIR and --card FILE")
        run.export(options.to, options.card.read_text("utf-8"))
        return
    for name in config.stages if options.stage == "all" else [options.stage]:
        run.train(name)


if __name__ == "__main__":
    main()
