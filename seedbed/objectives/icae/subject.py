"""An in-context autoencoder under evaluation, with its contexts."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from seedbed.checksums import sha256
from seedbed.data.contexts import ordinary_ids
from seedbed.data.formats import INDEX
from seedbed.errors import SeedbedError
from seedbed.models.causal_lm import BATCH_TOKENS, PRECISIONS
from seedbed.models.families import learned_positions
from seedbed.objectives.icae.batch import Batch
from seedbed.objectives.icae.compressor import Compressor
from seedbed.objectives.icae.geometry import Geometry
from seedbed.objectives.icae.model import Icae
from seedbed.objectives.icae.objective import Autoencoding
from seedbed.runs import MODEL


@dataclass
class IcaeSubject:
    """The ICAE of a finished run's directory, and a directory of `build_contexts` to measure it on.

    `batch_tokens` are the tokens of a batch, 0 for what suits the device; `precision` is that of the weights, "fp32" or
    "bf16".
    """

    run: Path
    data: Path
    batch_tokens: int = 0
    precision: str = "fp32"

    @classmethod
    def of_run(cls, run: Path, tokens: Path | None = None, **options: object) -> "IcaeSubject":
        """The ICAE of a finished run's directory."""
        if not (run / "model" / "icae.json").exists():
            raise SeedbedError(f"{run}: has no model/icae.json; expected the run of an in-context autoencoder")
        if not tokens:
            raise SeedbedError(f"{run}: no contexts to measure it on; expected a directory with index.json")
        return cls(run, tokens, **options)

    @classmethod
    def of_model(cls, folder: Path, tokens: Path | None = None, **options: object) -> "IcaeSubject":
        raise SeedbedError(f"{folder}: an external model is no in-context autoencoder; expected a run of one")

    @property
    def folder(self) -> Path:
        return self.run / MODEL

    @cached_property
    def compressor(self) -> Compressor:
        return Compressor(self.folder, dtype=PRECISIONS[self.precision])

    @property
    def model(self) -> Icae:
        return self.compressor.model

    @property
    def facts(self) -> dict:
        """The contents of its `icae.json`."""
        return self.compressor.facts

    @property
    def device(self) -> torch.device:
        return self.compressor.device

    @property
    def end(self) -> int:
        return self.compressor.end

    @cached_property
    def ordinary(self) -> np.ndarray:
        """The ids of its tokenizer that are not special tokens, sorted."""
        end = self.end  # first: it raises for a tokenizer without EOS
        ids = ordinary_ids(self.folder)
        return ids[ids != end]

    def geometry_at(self, rate: int, length: int) -> Geometry:
        """Its geometry at a compression of `rate` tokens per memory vector.

        Raises SeedbedError where contexts of `length` tokens need positions that the base has not learned.
        """
        geometry = replace(self.compressor.geometry, rate=rate)
        continuation = self.facts["continuation"] if self.facts["lm_ratio"] else 0
        if self.learned and (
            problem := geometry.misfit(self.model.config.model_type, length, continuation, self.learned)
        ):
            raise SeedbedError(f"{self.run}: {problem}")
        return geometry

    def scores(self, batch: Batch, memory: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss in nats per token and token accuracy of each sample."""
        return Autoencoding(self.model).scores(batch, memory)

    def at_once(self, length: int) -> int:
        """Batch size for contexts of `length` tokens."""
        return max(1, (self.batch_tokens or BATCH_TOKENS[self.device.type]) // length)

    @property
    def learned(self) -> int | None:
        """How many positions the base has learned; None where it computes them."""
        return learned_positions(self.model.config)

    def room_for(self, length: int) -> bool:
        """Whether the base has positions for `length` consecutive tokens."""
        return self.learned is None or length <= self.learned

    # --- identity -----------------------------------------------------------------------------------------------------

    def identity(self) -> dict:
        """Path and checksums of the files that determine what it computes; `icae.json` has those of its base."""
        files = sorted(path for end in ("*.safetensors", "*.json") for path in self.folder.rglob(end))
        return {
            "path": str(self.folder),
            "sha256": {str(path.relative_to(self.folder)): sha256(path) for path in files},
        }

    def data_identity(self) -> dict:
        """Path and checksum of the index of its contexts, which holds the checksums of their files."""
        return {"path": str(self.data), "sha256": sha256(self.data / INDEX)}
