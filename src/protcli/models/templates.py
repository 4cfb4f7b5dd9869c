"""Templates: known structures of a chain's relatives, which a network remembers from its training chains."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protcli.atomic import atomic_write
from protcli.process import cache_folder
from protcli.proteins.batches import Residues
from protcli.proteins.homology import SHORTEST, Relative, SequenceDatabase, has_phmmer, search_threads
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.protein import Protein
from protcli.proteins.residues import ALPHABET_SIZE, decode, encode

CLOSEST = 0.15, 1.0  # in training, templates above an identity drawn from this range are hidden
STEEPNESS = 8.0  # a template counts exp(STEEPNESS x identity)
FEATURES = 6
REMEMBERED = 1000  # searches of chains that are not in the memory
KEPT = 1  # version of the searches kept on disk: another for other results, or other tables of them


@dataclass(frozen=True)
class Templates:
    """Up to K relatives for each of C chains of a batch, padded to L residues.

    Attributes:
        points: float32 [C, K, L, 3], the relative's atom at each residue of the chain, in Å; 0 where unknown.
        known: bool [C, K, L].
        identity: float32 [C, K], share of equal residues; 0 where there is no template.
        chains: int64 [C], numbers of the chains in the batch: of those that have any, or of the first, which has none.
    """

    points: Tensor
    known: Tensor
    identity: Tensor
    chains: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Features of residue pairs [C, L, L, FEATURES], and the templates' mean distance in Å [C, L, L].

        Templates are weighted by their identity. The features are, where a template knows the pair and else 0: one, the
        best identity, the logarithm of one more than the number of templates, the deviation of their distances, and
        two functions of their mean.
        """
        templates = []  # one after the other, because maps of a single one stay in the processor's memory
        total, mean, squares, best, count = (self.points.new_zeros(()) for _ in range(5))
        for points, known, identity in zip(self.points.unbind(1), self.known.unbind(1), self.identity.T, strict=True):
            both = pair_mask(known).to(points.dtype)
            identity = identity[:, None, None]
            weight, apart = both * torch.exp(STEEPNESS * identity), distances(points)
            total, mean = total + weight, mean + weight * apart
            best, count = torch.maximum(best, both * identity), count + both
            templates.append((weight, apart))
        total = total.clamp(min=1e-6)
        mean = mean / total
        for weight, apart in templates:
            squares = squares + weight * (apart - mean).square_()
        deviation = (squares / total).sqrt_()
        known = (count > 0).to(mean.dtype)
        features = [known, best, torch.log1p(count), deviation / 5, mean / 20, torch.exp(-mean / 8) * known]
        return torch.stack(features, dim=-1), mean


class TemplateMemory(nn.Module):
    """The training chains with their coordinates, and the templates that they hold for other chains.

    They are kept as buffers, so they are in the weights: a trained network finds templates wherever it is loaded. A
    chain of the memory is known again by its letters, also by a part of them. In training, templates above an identity
    drawn at random are hidden, and so always the chain itself and all whose letters are the same where they align.

    Attributes:
        codes: uint8 [R], residues of all chains, one chain after the other; ALPHABET_SIZE ends each.
        points: float32 [R, 3], their atom in Å, NaN where unresolved.
    """

    codes: Tensor
    points: Tensor

    def __init__(self, most: int) -> None:
        """`most` is the largest number of templates for a chain."""
        super().__init__()
        self.most = most
        self.register_buffer("codes", torch.empty(0, dtype=torch.uint8))
        self.register_buffer("points", torch.empty(0, 3))
        self._search: _Search | None = None

    def remember(self, proteins: Sequence[Protein], atom: str) -> None:
        """Replace the memory by these chains."""
        codes, points = [np.empty(0, dtype=np.uint8)], [np.empty((0, 3), dtype=np.float32)]
        for protein in proteins:
            codes += [encode(protein.sequence), np.array([ALPHABET_SIZE], dtype=np.uint8)]
            points += [protein.atom(atom), np.full((1, 3), np.nan, dtype=np.float32)]
        self.codes = torch.from_numpy(np.concatenate(codes)).to(self.codes.device)
        self.points = torch.from_numpy(np.concatenate(points)).to(self.points.device)
        self._search = None

    def search(self, sequences: Sequence[str]) -> Iterator[int]:
        """Search for chains before they are needed, with all cores; yields how many are done.

        Their order is random, so that processes that search for the same chains divide them among themselves.
        """
        order = np.random.default_rng().permutation(len(sequences))
        with search_threads() as threads:
            chains = (encode(sequences[number]) for number in order)
            for done, _ in enumerate(threads.map(self._searcher.templates, chains), start=1):
                yield done

    @property
    def _searcher(self) -> "_Search":
        if self._search is None:
            self._search = _Search(self.codes.cpu().numpy(), self.most)
        return self._search

    @torch.no_grad()
    def forward(self, residues: Residues) -> Templates:
        """Find the templates; in training, those above a random identity are hidden."""
        batch, length = residues.sequence.shape
        limits = torch.empty(batch).uniform_(*CLOSEST).tolist() if self.training else [1.0] * batch
        rows = torch.full((batch, self.most, length), -1)
        identity = torch.zeros(batch, self.most)
        searched = zip(residues.sequence.cpu().numpy(), residues.mask.sum(dim=1).tolist(), limits, strict=True)
        for chain, (codes, own_length, limit) in enumerate(searched):
            templates = self._searcher.templates(codes[:own_length].astype(np.uint8))
            for place, template in enumerate([each for each in templates if each.identity <= limit][: self.most]):
                rows[chain, place, :own_length] = torch.from_numpy(template.residues)
                identity[chain, place] = template.identity
        # without any a chain still takes part, so that every weight does in every step
        chains = identity.any(dim=1).nonzero()[:, 0] if identity.any() else torch.zeros(1, dtype=torch.int64)
        identity = identity[chains].to(self.points.device)
        rows, chains = rows[chains].to(self.points.device), chains.to(self.points.device)
        points = self.points[rows] if len(self.points) else self.points.new_zeros(*rows.shape, 3)
        known = (rows >= 0) & ~points.isnan().any(dim=-1)
        points = points.masked_fill(~known[..., None], 0)
        return Templates(points, known, identity, chains)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a memory is as long as the chains that it was made of
        for name in ("codes", "points"):
            if f"{prefix}{name}" in state_dict:
                setattr(self, name, torch.empty_like(state_dict[f"{prefix}{name}"], device=getattr(self, name).device))
        self._search = None
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Search:
    """Searches of one memory. A template's residues are positions in the memory.

    What is found is kept in the user's cache, in a folder of the memory and a file for each chain, and read by whoever
    has the same memory: the training with other seeds, evaluations, reports. Where there can be no file, all search.
    """

    def __init__(self, codes: np.ndarray, most: int) -> None:
        self._codes, self._text, self._most = codes, codes.tobytes(), most
        self._ends = np.flatnonzero(codes == ALPHABET_SIZE)
        self._starts = np.concatenate([[0], self._ends + 1])[: len(self._ends)]
        self._known = lru_cache(maxsize=None)(self._relatives)  # of the memory's chains
        self._other = lru_cache(maxsize=REMEMBERED)(self._relatives)  # of the latest other ones

    @cached_property
    def _folder(self) -> Path:
        """Named after all that decides what is found."""
        made_by = f"{KEPT} {version('pyhmmer') if has_phmmer() else ''} {self._most}\n".encode()
        return cache_folder() / "relatives" / sha256(made_by + self._text).hexdigest()[:32]

    @cached_property
    def _database(self) -> SequenceDatabase:
        parts = (self._codes[start:end] for start, end in zip(self._starts, self._ends, strict=True))
        return SequenceDatabase([decode(part) for part in parts])

    def templates(self, codes: np.ndarray) -> list[Relative]:
        """The templates of a chain, the best first; one equal to the chain is among them. Several threads may ask."""
        if not len(self._ends) or len(codes) < SHORTEST:
            return []
        place = self._text.find(codes.tobytes())
        if place < 0:
            return self._other(codes.tobytes())
        # searched as a whole chain, so that another crop of it is no other search
        itself = int(np.searchsorted(self._ends, place))
        start, end = int(self._starts[itself]), int(self._ends[itself])
        window = slice(place - start, place - start + len(codes))
        relatives = self._known(self._text[start:end])
        return [part for relative in relatives if (part := self._in_window(relative, codes, window))]

    def _relatives(self, codes: bytes) -> list[Relative]:
        """What is kept of a chain, or what is found now, and then kept."""
        file = self._folder / sha256(codes).hexdigest()[:32]
        with suppress(OSError, zlib.error, ValueError):  # none yet, or a damaged one
            rows = np.frombuffer(zlib.decompress(file.read_bytes())).reshape(-1, 2 + len(codes))
            return [Relative(int(row[0]), float(row[1]), np.cumsum(row[2:], dtype=np.int32)) for row in rows]
        found = self._searched(codes)
        # steps from residue to residue, nearly all one, take little room
        table = [np.r_[each.chain, each.identity, np.diff(each.residues, prepend=0)] for each in found]
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as partial:
                partial.write_bytes(zlib.compress(np.array(table, dtype=np.float64).tobytes()))
        return found

    def _searched(self, codes: bytes) -> list[Relative]:
        """As many as are used at most of each tenth of identity, for in training the closest are hidden."""
        counts: Counter[int] = Counter()
        kept = []
        for relative in self._database.relatives(decode(np.frombuffer(codes, dtype=np.uint8))):
            tenth = int(10 * relative.identity)
            counts[tenth] += 1
            if counts[tenth] <= self._most:
                start = np.int32(self._starts[relative.chain])
                residues = np.where(relative.residues >= 0, relative.residues + start, np.int32(-1))
                kept.append(Relative(relative.chain, relative.identity, residues))
        return kept

    def _in_window(self, relative: Relative, codes: np.ndarray, window: slice) -> Relative | None:
        """A relative of a whole chain as one of a part of it; None if nothing of that part is aligned."""
        residues = relative.residues[window]
        aligned = residues >= 0
        if not aligned.any():
            return None
        return Relative(relative.chain, float((self._codes[residues[aligned]] == codes[aligned]).mean()), residues)
