"""The fault rig: a proxy that breaks connections, a workload with a journal, faults by seed, and a history checker."""
