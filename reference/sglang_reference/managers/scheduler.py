"""``sglang.srt.managers.scheduler``: who decides, on every rank alike, what is computed next; and the rank's process.

Facts: SGLang 0.5.11, 0.5.16 and 0.5.23, srt/managers/scheduler.py. Work is done in the order of ``event_loop_normal``
also where SGLang would overlap two steps: that changes when things are done, and not what.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch

from sglang_reference import _spawned

from .._arguments.resolving import settled
from .._released import Lifetime, Parameters, released
from ..plugins import load_plugins
from . import _places, _starting
from ._results import Results
from ._serving import Serving
from ._starting import Starting
from ._stepping import Stepping

logger = logging.getLogger(__name__)

_RANKS = Lifetime(gone="0.5.21")
_SHOWN = Lifetime("0.5.16")


class Scheduler(Starting, Stepping, Results, Serving):
    """A rank's scheduler. All ranks that are handed the same requests, step by step, do the same."""

    @released(
        Parameters(
            {
                **dict.fromkeys(("gpu_id", "tp_rank", "moe_ep_rank", "pp_rank"), _RANKS),
                **dict.fromkeys(("attn_cp_rank", "moe_dp_rank", "dp_rank"), _RANKS),
            }
        )
    )
    def __init__(
        self,
        server_args: Any,
        port_args: Any,
        gpu_id: int,
        tp_rank: int,
        moe_ep_rank: int,
        pp_rank: int,
        attn_cp_rank: int,
        moe_dp_rank: int,
        dp_rank: int | None,
    ) -> None:
        """Start the rank: groups, model, pools, attention backend, graphs.

        From 0.5.21 on, where the rank stands must have been published (:func:`_places.publish`).
        """
        place = _places.own_place(server_args, gpu_id, tp_rank, pp_rank)
        self._start(server_args, port_args, place)


@released(
    Parameters(
        {
            **dict.fromkeys(("attn_cp_rank", "moe_dp_rank", "moe_ep_rank"), _RANKS),
            **dict.fromkeys(("display_tp_rank", "display_dp_rank", "display_moe_ep_rank"), _SHOWN),
        }
    )
)
def run_scheduler_process(
    server_args: Any,
    port_args: Any,
    gpu_id: int,
    tp_rank: int,
    attn_cp_rank: int,
    moe_dp_rank: int,
    moe_ep_rank: int,
    pp_rank: int,
    dp_rank: int | None,
    pipe_writer: Any,
    display_tp_rank: int | None = None,
    display_dp_rank: int | None = None,
    display_moe_ep_rank: int | None = None,
) -> None:
    """A rank's process, from first to last: plugins, scheduler, and what comes in, until it is told to end.

    What becomes of it goes through ``pipe_writer``: that it is ready, or why it has failed. SGLang sends its parent a
    signal instead, which would end whoever has started the server.
    """
    load_plugins()
    torch.set_num_threads(1)  # ranks share the machine's cores
    try:
        scheduler = _scheduler_of(server_args, port_args, gpu_id, tp_rank, pp_rank)
        pipe_writer.send(scheduler.get_init_info())
        scheduler.run_event_loop()
    except Exception as error:
        logger.exception("The scheduler of TP rank %s, PP rank %s has failed", tp_rank, pp_rank)
        pipe_writer.send(_spawned.failure(error))
        sys.exit(1)


def _scheduler_of(server_args: Any, port_args: Any, gpu_id: int, tp_rank: int = 0, pp_rank: int = 0) -> Scheduler:
    """A scheduler, in whatever release, for the rank that stands there; publishes its arguments and place.

    Without a line in ``port_args`` (an empty name) it is driven from this process: hand it requests by
    ``process_input_requests``, have it ``_step()`` until it ``is_fully_idle()``, on all ranks in step; what it sends
    out is then in ``_channel.sent``.
    """
    place = _places.publish(server_args, gpu_id, tp_rank, pp_rank)
    # Looked up now: a hook may have put another class in its place.
    made: Scheduler = globals()["Scheduler"](server_args, port_args, **_starting.rank_arguments(place))
    return made


def dispatch_event_loop(scheduler: Any) -> None:
    """Run the loop that suits the scheduler."""
    if settled(scheduler.server_args).pp_size > 1:
        scheduler.event_loop_pp()
    else:
        scheduler.event_loop_normal()
