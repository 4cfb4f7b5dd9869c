"""A new store out of another one: the same chains in the same splits, with something about each of them changed."""

from collections.abc import Callable, Generator, Iterable
from pathlib import Path

from protcli.errors import ProtcliError
from protcli.experiments.pages import Progress
from protcli.proteins.protein import Protein
from protcli.proteins.store import Families, create_store, open_store

OF_STORE, OF_SPLIT = ("about", "ignored"), ("read", "dropped", "sources", "notes")  # of a manifest, kept


def rewrite(
    path: str | Path, out: str | Path, change: Callable[[Iterable[Protein]], Iterable[Protein]], note: object
) -> Generator[Progress]:
    """Write a new store of a store's chains, families and notes, yielding progress; memory does not grow with it.

    The store is in place when the iterator is exhausted; after an exception nothing of it remains.

    Args:
        path: store folder; it is not changed.
        out: folder of the new store.
        change: makes the new chains of a split out of its chains: as many, in the same order, with the same ids.
        note: as text, what was changed in a split that is complete, for `data inspect`.

    Raises:
        ProtcliError: as `open_store` does; a split is damaged; `out` is there already; what `change` raises.
    """
    store, out = open_store(path), Path(out)
    if out.exists():
        raise ProtcliError(f"{out}: exists already; give the new store another --out")
    with create_store(out, synthetic=store.synthetic) as writer:
        writer.manifest |= {key: store.manifest[key] for key in OF_STORE if key in store.manifest}
        for name in store.splits:
            split, info = store.split(name), store.split_info(name)
            split.verify()  # or the new digest would vouch for what is damaged
            with writer.split(name) as proteins:
                for done, protein in enumerate(change(split), start=1):
                    proteins.add(protein)
                    yield Progress(name, done, len(split), "proteins")
                if split.family_source is not None:
                    proteins.families = Families(split.families.tolist(), split.family_source)
                origin = f"of {store.name}, {split.digest[:12]}: {note}"
                details = {key: info[key] for key in OF_SPLIT if key in info}
                proteins.details = details | {"notes": [*details.get("notes", ()), origin]}
            writer.overlaps[name] = info.get("overlaps", {})
