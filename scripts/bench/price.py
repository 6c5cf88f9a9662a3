"""What a million messages cost in money, from CPU seconds and bytes written: see docs/performance.md."""

# US dollars, list prices of large clouds in 2026, rounded up.
CORE_HOUR = 0.05
GIGABYTE_MONTH = 0.10
# A machine is not always busy: only so much of what is paid for does work.
UTILISATION = 0.5
KEPT_DAYS = 7.0
DAYS_A_MONTH = 30.4


def dollars_per_million(cpu_us: float, written_bytes: float) -> float:
    """The price of a million messages that each take `cpu_us` of CPU, and write bytes that are kept for a week."""
    cpu = cpu_us / 3600 * CORE_HOUR / UTILISATION  # a million microseconds are a second
    disk = written_bytes * 1e6 / 1e9 * GIGABYTE_MONTH * KEPT_DAYS / DAYS_A_MONTH
    return cpu + disk
