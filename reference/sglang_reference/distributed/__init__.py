"""``sglang.srt.distributed``: the collectives, the groups and their arithmetic, as SGLang offers them together."""

from __future__ import annotations

from . import communication_op, parallel_state
from . import utils as _utils
from .communication_op import *  # noqa: F403
from .parallel_state import *  # noqa: F403
from .utils import *  # noqa: F403

_ABSENT = communication_op._ABSENT | parallel_state._ABSENT | parallel_state._NOT_OFFERED | _utils._ABSENT
