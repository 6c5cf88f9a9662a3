"""Which runs `all` makes, in which order: peers take turns within a workload, so that a slow minute hits everybody."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scripts.bench.catalogue import Peer
from scripts.bench.workloads import Options

# The forms of each workload: the page's values, and shorter ones for a quick look.
FORMS: dict[str, tuple[Options, ...]] = {
    "W1": (Options(conns=1), Options(conns=8)),
    "W2": (Options(),),
    "W3": (Options(workers=1), Options(workers=2)),
    "W4": (Options(),),
    "W5": (Options(),),
    "W6": (Options(),),
    "W6r": (Options(),),
    "W6k": (Options(),),
    "W7": (Options(),),
    "W8": (Options(),),
    "W9": (Options(conns=1), Options(conns=10), Options(conns=100)),
    "scale": (
        *(Options(workers=workers) for workers in (1, 2, 4, 8)),
        Options(variant="queues"),
        Options(variant="kinds"),
    ),
    "memory": (Options(),),
    "L1": (Options(workers=8),),
    "L2": (Options(),),
    "L3": (Options(),),
    "L4": (Options(workers=4),),
    "T1": (Options(conns=4),),
    "T2": (Options(), Options(groups=4)),
    "T3": (Options(),),
    "T4": (Options(),),
}
# What takes long: only asked for with --long, instead of the page's form.
LONG: dict[str, tuple[Options, ...]] = {"W7": (Options(jobs=10_000_000, seconds=60),)}
QUICK: dict[str, dict[str, float]] = {
    "W1": {"seconds": 3},
    "W2": {"jobs": 20_000},
    "W3": {"jobs": 50_000},
    "W4": {"seconds": 6},
    "W5": {"seconds": 8},
    "W6": {"seconds": 30},
    "W6r": {"seconds": 30},
    "W6k": {"seconds": 30},
    "W7": {"jobs": 300_000, "seconds": 6},
    "W8": {"seconds": 6},
    "W9": {"seconds": 5},
    "scale": {"jobs": 20_000},
    "memory": {"jobs": 100_000},
    "L1": {"jobs": 5_000},
    "L2": {"jobs": 20_000},
    "L3": {"jobs": 100_000, "seconds": 5},
    "L4": {"jobs": 10_000},
    "T1": {"seconds": 6},
    "T2": {"jobs": 20_000},
    "T3": {"jobs": 100_000},
    "T4": {"jobs": 20_000},
}
TOPICS = ("T1", "T2", "T3", "T4")
JOBS = tuple(name for name in FORMS if name not in TOPICS)
# What a peer has no part in: the floor has no worker, brokers hold no snapshots, and the main job over HTTP is
# Tandem's alone.
OURS_ALONE = ("W6k", "W9", "scale", "memory", "T4", "L1", "L2", "L3", "L4")
ONLY: dict[str, tuple[str, ...]] = {"floor": ("W1", "W2")}


@dataclass(frozen=True)
class Step:
    """One run."""

    peer: Peer
    workload: str
    options: Options


def plan(
    peers: Sequence[Peer], workloads: Sequence[str], *, repeat: int, quick: bool, long: bool = False
) -> Iterator[Step]:
    """All runs in order."""
    for workload in workloads:
        for _ in range(repeat):
            for form in LONG.get(workload, FORMS[workload]) if long else FORMS[workload]:
                short = {name: int(v) if name == "jobs" else v for name, v in QUICK[workload].items()}
                options = replace(form, **short) if quick else form  # type: ignore[arg-type]
                for peer in peers:
                    if takes_part(peer, workload):
                        variants = [form.variant] if form.variant else peer.variants.get(workload, [None])
                        for variant in variants:
                            yield Step(peer, workload, replace(options, variant=variant))


def takes_part(peer: Peer, workload: str) -> bool:
    """Whether a peer has this workload; a peer may leave some out in its peer.toml."""
    if workload in OURS_ALONE:
        return peer.name == "tandem"
    if workload in TOPICS and not peer.has_topics:
        return False
    allowed = ONLY.get(peer.name) or peer.workloads
    return not allowed or workload in allowed
