"""Templates: known structures of a chain's relatives, which a network remembers from its training chains."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from protcli.proteins.batches import Residues
from protcli.proteins.maps import distances, pair_mask
from protcli.proteins.protein import Protein
from protcli.proteins.relatives import Library, Relative
from protcli.proteins.residues import ALPHABET_SIZE, decode, encode

CLOSEST = 0.15, 1.0  # in training, templates above an identity drawn from this range are hidden
STEEPNESS = 8.0  # a template counts exp(STEEPNESS x identity)
FEATURES = 6


@dataclass(frozen=True)
class Templates:
    """Up to K relatives for each of B chains padded to L residues.

    Attributes:
        points: float32 [B, K, L, 3], the relative's atom at each residue of the chain, in A; 0 where unknown.
        known: bool [B, K, L].
        identity: float32 [B, K], share of equal residues; 0 where there is no template.
    """

    points: Tensor
    known: Tensor
    identity: Tensor

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Features of residue pairs [B, L, L, FEATURES], and the templates' mean distance in A [B, L, L].

        Templates are weighted by their identity. The features are, where a template knows the pair and else 0: one, the
        best identity, the logarithm of one more than the number of templates, the deviation of their distances, and
        two functions of their mean.
        """
        apart = distances(self.points)  # [B, K, L, L]
        both = pair_mask(self.known)
        weight = both * torch.exp(STEEPNESS * self.identity)[..., None, None]
        total = weight.sum(dim=1)
        share = weight / total[:, None].clamp(min=1e-6)
        mean = (share * apart).sum(dim=1)
        deviation = (share * (apart - mean[:, None]).square()).sum(dim=1).sqrt()
        known = (total > 0).to(mean.dtype)
        best = (both * self.identity[..., None, None]).amax(dim=1)
        count = both.sum(dim=1, dtype=mean.dtype)
        features = [known, best, torch.log1p(count), deviation / 5, mean / 20, torch.exp(-mean / 8) * known]
        return torch.stack(features, dim=-1), mean


class TemplateMemory(nn.Module):
    """The training chains with their coordinates, and the templates that they hold for other chains.

    They are kept as buffers, so they are in the weights: a trained network finds templates wherever it is loaded. A
    chain of the memory is known again by its letters, also by a part of them. In training it never is its own template.

    Attributes:
        codes: uint8 [R], residues of all chains, one chain after the other; ALPHABET_SIZE ends each.
        points: float32 [R, 3], their atom in A, NaN where unresolved.
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

    @torch.no_grad()
    def forward(self, residues: Residues) -> Templates:
        """Find the templates; in training, each chain's own record and all above a random identity are hidden."""
        batch, length = residues.sequence.shape
        if self._search is None:
            self._search = _Search(self.codes.cpu().numpy())
        limits = [1.0] * batch
        if self.training:
            limits = torch.empty(batch).uniform_(*CLOSEST).tolist()
        rows = torch.full((batch, self.most, length), -1)
        identity = torch.zeros(batch, self.most)
        chains = zip(residues.sequence.cpu().numpy(), residues.mask.sum(dim=1).tolist(), limits, strict=True)
        for chain, (codes, own_length, limit) in enumerate(chains):
            templates = self._search.templates(codes[:own_length].astype(np.uint8), hide_itself=self.training)
            for place, template in enumerate([each for each in templates if each.identity <= limit][: self.most]):
                rows[chain, place, :own_length] = torch.from_numpy(template.residues)
                identity[chain, place] = template.identity
        rows = rows.to(self.points.device)
        points = self.points[rows] if len(self.points) else torch.zeros(*rows.shape, 3)
        known = (rows >= 0) & ~points.isnan().any(dim=-1)
        points = points.masked_fill(~known[..., None], 0)
        return Templates(points, known, identity.to(self.points.device))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # a memory is as long as the chains that it was made of
        for name in ("codes", "points"):
            if f"{prefix}{name}" in state_dict:
                stored = state_dict[f"{prefix}{name}"]
                setattr(self, name, torch.empty_like(stored, device=getattr(self, name).device))
        self._search = None
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Search:
    """Searches of one memory, each made once. A template's residues are positions in the memory."""

    def __init__(self, codes: np.ndarray) -> None:
        self._text = codes.tobytes()
        self._ends = np.flatnonzero(codes == ALPHABET_SIZE)
        self._starts = np.concatenate([[0], self._ends + 1])[: len(self._ends)]
        parts = [codes[start:end] for start, end in zip(self._starts, self._ends, strict=True)]
        self._library = Library([decode(part) for part in parts]) if parts else None
        self._found: dict[bytes, list[Relative]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Search":
        return self  # it only depends on the memory

    def templates(self, codes: np.ndarray, *, hide_itself: bool) -> list[Relative]:
        """The templates of a chain, the best first, perhaps without its own record in the memory."""
        if self._library is None:
            return []
        place = self._text.find(codes.tobytes()) if len(codes) else -1
        if place < 0:
            return self._search(codes)
        # searched as a whole chain, so that another crop of it is no other search
        itself = int(np.searchsorted(self._ends, place))
        start, end = self._starts[itself], self._ends[itself]
        first = place - start
        found = []
        for each in self._search(np.frombuffer(self._text[start:end], dtype=np.uint8)):
            residues = each.residues[first : first + len(codes)]
            if (residues >= 0).any() and not (hide_itself and each.chain == itself):
                found.append(Relative(each.chain, each.identity, residues))
        return found

    def _search(self, codes: np.ndarray) -> list[Relative]:
        key = codes.tobytes()
        if key not in self._found:
            assert self._library is not None  # see `templates`
            self._found[key] = [
                Relative(each.chain, each.identity, _placed(each.residues, self._starts[each.chain]))
                for each in self._library.relatives(decode(codes))
            ]
        return self._found[key]


def _placed(residues: np.ndarray, start: np.int64) -> np.ndarray:
    """Positions in the memory: int64 [L], from those in a chain that starts there; -1 stays -1."""
    return np.where(residues >= 0, residues.astype(np.int64) + start, -1)
