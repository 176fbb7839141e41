"""The rank pool: long-lived processes that form groups and run named checks, and are never waited for in vain.

Knows no requirement. :mod:`.pool` is what others use, and :mod:`.cluster` for ranks of other machines; :mod:`.rank` is
what runs in a rank, and ``python -m sglang_conformance.ranks`` (:mod:`.agent`) what brings a machine into a cluster.

PYTEST_DONT_REWRITE
"""
