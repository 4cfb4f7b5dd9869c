"""What every reader asks of a protein. The checks raise ValueError with a clause that says what was expected."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import numpy as np

from protcli.errors import ProtcliError, excerpt
from protcli.proteins.protein import Protein

LONGEST_ID = 300  # characters
LONGEST_RECORD = 1 << 25  # bytes of one protein; titin's 34,350 residues take about 10 million as text
FARTHEST = 10_000.0  # A from zero along an axis, the most that PDB's columns hold; ProteinNet's chains stay within 600
# A profile's values are 0 to 1 in all of ProteinNet's files. Information content that is computed from frequencies of
# four digits, whose sum is 0.9993 to 1.0008, can miss 0 or 1 by this much.
ROUNDING = 1e-3


def proteins_of(
    results: Generator[Protein | ProtcliError, None, None], on_bad: Callable[[ProtcliError], None] | None
) -> Iterator[Protein]:
    """The proteins among what a reader finds; an error is given to `on_bad` or, without it, raised."""
    # Closed here: the traceback of an error would keep a reader and its threads until the garbage collector ends them,
    # perhaps in one of these threads, which then waits for itself
    with closing(results):
        for result in results:
            if isinstance(result, Protein):
                yield result
            elif on_bad is None:
                raise result
            else:
                on_bad(result)


def check_protein(protein: Protein) -> Protein:
    """The protein itself, if its ID, profile and coordinates keep the limits."""
    check_id(protein.id)
    check_profile(protein.profile)
    check_coords(protein.coords)
    return protein


def check_id(id: str) -> None:
    """Refuse an ID that is long, or that holds control characters: it is printed, and names files."""
    if len(id) > LONGEST_ID:
        raise ValueError(f"an ID of {len(id)} characters: expected at most {LONGEST_ID}")
    if not id.isprintable():
        wrong = next(each for each in id if not each.isprintable())
        raise ValueError(f"the ID '{excerpt(id)}' holds {wrong!a}: expected characters that can be printed")


def check_profile(profile: np.ndarray) -> None:
    """Refuse values outside 0 to 1, of any shape, and NaN."""
    if profile.size and not (profile.min() >= -ROUNDING and profile.max() <= 1 + ROUNDING):
        wrong = profile[~((profile >= -ROUNDING) & (profile <= 1 + ROUNDING))][0]
        raise ValueError(f"{wrong:g} in a profile: expected frequencies and information content from 0 to 1")


def check_coords(coords: np.ndarray) -> None:
    """Refuse coordinates in A, of any shape, beyond FARTHEST; NaN is a missing atom."""
    far = np.abs(coords) > FARTHEST
    if far.any():
        raise ValueError(f"a coordinate of {coords[far][0]:g} A: expected at most {FARTHEST:,.0f} A from zero")
