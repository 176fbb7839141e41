"""The rank pool: long-lived processes that form groups and run named checks, and are never waited for in vain.

Knows no requirement. :mod:`.pool` is what others use; :mod:`.rank` is what runs in a rank.

PYTEST_DONT_REWRITE
"""
