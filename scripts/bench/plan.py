"""Which runs `all` makes, in which order: peers take turns within a workload, so that a slow minute hits everybody."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scripts.bench.catalogue import Pace, Peer
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
    "conns": (
        Options(workers=8, conns=8),
        Options(workers=8, conns=300),
        Options(workers=64, conns=8),
    ),
    "memory": (Options(),),
    "memory-api": (Options(conns=10),),
    "L1": (Options(workers=8),),
    "L2": (Options(),),
    "L3": (Options(),),
    "L4": (Options(workers=4),),
    "T1": (Options(conns=4),),
    "T2": (Options(), Options(groups=4)),
    "T3": (Options(),),
    "T4": (Options(),),
}
# What a workload takes when its options say nothing.
JOBS_OF_PAGE = {"W2": 20_000, "W3": 50_000, "W7": 500_000}
SECONDS_OF_PAGE = {
    "W1": 5.0,
    "W4": 15.0,
    "W5": 20.0,
    "W6": 90.0,
    "W6r": 90.0,
    "W6k": 90.0,
    "W7": 20.0,
    "W8": 15.0,
}
# What takes long: only asked for with --long, instead of the page's form.
LONG: dict[str, tuple[Options, ...]] = {"W7": (Options(jobs=10_000_000, seconds=60),)}
# Between the page's forms and the quick ones: what --budget takes when the page's do not fit.
SHORT: dict[str, dict[str, float]] = {
    "W1": {"seconds": 4},
    "W3": {"jobs": 30_000},
    "W4": {"seconds": 10},
    "W5": {"seconds": 12},
    "W6": {"seconds": 50},
    "W6r": {"seconds": 50},
    "W6k": {"seconds": 50},
    "W7": {"jobs": 300_000, "seconds": 10},
    "W8": {"seconds": 8},
    "W9": {"seconds": 6},
}
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
    "conns": {"seconds": 6},
    "memory": {"jobs": 100_000},
    "memory-api": {"jobs": 10_000},
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
OURS_ALONE = ("W6k", "W9", "scale", "conns", "memory", "memory-api", "T4", "L1", "L2", "L3", "L4")
ONLY: dict[str, tuple[str, ...]] = {"floor": ("W1", "W2")}


@dataclass(frozen=True)
class Step:
    """One run."""

    peer: Peer
    workload: str
    options: Options


def plan(
    peers: Sequence[Peer],
    workloads: Sequence[str],
    *,
    repeat: int,
    quick: bool = False,
    long: bool = False,
    lengths: Mapping[str, Mapping[str, float]] | None = None,
) -> Iterator[Step]:
    """All runs in order. `lengths` (SHORT, QUICK) shortens the page's forms; `quick` is QUICK."""
    lengths = QUICK if quick else lengths or {}
    for workload in workloads:
        short = {n: int(v) if n == "jobs" else v for n, v in lengths.get(workload, {}).items()}
        for _ in range(repeat):
            for form in LONG.get(workload, FORMS[workload]) if long else FORMS[workload]:
                for peer in peers:
                    if takes_part(peer, workload):
                        variants = [form.variant] if form.variant else peer.variants.get(workload, [None])
                        options = replace(form, **short)  # type: ignore[arg-type]
                        if not long:
                            options = for_pace(peer.pace, workload, options)
                        for variant in variants:
                            yield Step(peer, workload, replace(options, variant=variant))


def for_pace(pace: Pace, workload: str, options: Options) -> Options:
    """Less for a slow peer, so that none takes all the time; what a fast one gets is the page's.

    W2: what it enqueues in 10 s. W3: what it drains in 10 s. W7: what it enqueues in 20 s, if it cannot drain that in
    time. W8's second queue: twice what it drains. W6: 70 % of what it keeps up with.
    """
    jobs, seconds = (
        options.jobs or JOBS_OF_PAGE.get(workload),
        options.seconds or SECONDS_OF_PAGE.get(workload, 0),
    )
    if workload == "W6" and options.rate is None:
        return replace(options, rate=min(10_000, 0.7 * pace.keeps_up))
    if workload == "W8" and options.jobs is None:
        return replace(options, jobs=int(seconds * min(60_000, 2 * pace.drains)))
    most = {
        "W2": 10 * pace.enqueues,
        "W3": 10 * pace.drains,
        "W7": max(20 * pace.enqueues, 1.5 * seconds * pace.drains),
    }.get(workload)
    if jobs is None or most is None or jobs <= most:
        return options
    return replace(options, jobs=int(most) // 1000 * 1000)


def takes_part(peer: Peer, workload: str) -> bool:
    """Whether a peer has this workload; a peer may leave some out in its peer.toml."""
    if workload in OURS_ALONE:
        return peer.name == "tandem"
    if workload in TOPICS and not peer.has_topics:
        return False
    allowed = ONLY.get(peer.name) or peer.workloads
    return not allowed or workload in allowed
