"""How long the machines search: a little in every run, and at length with `--hypothesis-profile=long`."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "long",
    max_examples=2000,
    stateful_step_count=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def chosen(*, examples: int, steps: int) -> settings:
    """The settings of one machine: the same examples in every run, unless the long profile draws new ones."""
    if settings.get_current_profile_name() == "long":
        return settings.get_profile("long")
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
