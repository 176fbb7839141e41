"""Where the processes of a server meet. Facts: SGLang 0.5.11 and 0.5.23, srt/server_args.py."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from sglang_reference import _lines
from sglang_reference._errors import not_covered

from ._arguments.resolving import settled
from ._partial import Partial


@dataclass
class PortArgs(Partial):
    """The line to the first scheduler, and the port at which ranks meet. An empty name is no line."""

    tokenizer_ipc_name: str
    scheduler_input_ipc_name: str
    detokenizer_ipc_name: str
    nccl_port: int
    rpc_ipc_name: str = ""
    metrics_ipc_name: str = ""
    tokenizer_worker_ipc_name: str | None = None

    @staticmethod
    def init_new(server_args: Any, dp_rank: int | None = None, worker_ports: list[int] | None = None) -> PortArgs:
        """A line that nobody has, and a port that is free now, unless the arguments name one."""
        if dp_rank or worker_ports:
            raise not_covered("ports of data-parallel workers")
        name = _lines.new_name()
        return PortArgs(
            tokenizer_ipc_name=name,
            scheduler_input_ipc_name=name,
            detokenizer_ipc_name=name,
            nccl_port=settled(server_args).nccl_port or _free_port(),
        )


def _free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        port: int = own.getsockname()[1]
        return port


PortArgs.__module__ = f"{__package__}.server_args"
