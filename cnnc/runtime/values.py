"""Params and states of a graph as kernels read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import DTYPES
from cnnc.lowering.target import Array, Block, Device
from cnnc.runtime.named import Named


@runtime_checkable
class Changing(Protocol):
    """A mapping whose values may be assigned later, and which need not hold them all."""

    def snapshot(self) -> Mapping[str, Any]: ...


class Values(Named[Array]):
    """Values by name. What the graph updates lies in the device's memory; the others are asked for when they are read, and
    held by those who need them.
    """

    def __init__(self, graph: Graph, given: Mapping[str, Any], device: Device) -> None:
        self._nodes: dict[str, Node] = {n.name: n for n in (*graph.parameters, *graph.states)}
        missing = [name for name in self._nodes if name not in given]
        if missing:
            raise KeyError(missing[0])
        self._device = device
        changing = {name for name, _ in graph.updates}
        self._updated: dict[str, Block] = {}
        for name in self._nodes:
            if name in changing:
                array = self._plain(name, given)
                self._updated[name] = device.block(max(array.nbytes, 1))
                self._updated[name].write(array)
        if isinstance(given, Changing):
            self._given = given.snapshot()
        else:
            self._given = {name: self._plain(name, given) for name in self._nodes if name not in changing}

    def _plain(self, name: str, given: Mapping[str, Any]) -> Array:
        return np.ascontiguousarray(given[name], DTYPES[self._nodes[name].type.dtype])

    def block(self, name: str) -> Block:
        """The device's memory of a value."""
        return self._updated[name] if name in self._updated else self._device.put(self[name])

    def assign(self, name: str, value: Array) -> None:
        """Set a value that the graph updates."""
        type = self._nodes[name].type
        self._updated[name].write(np.broadcast_to(np.asarray(value, DTYPES[type.dtype]), type.concrete(1)))

    def __getitem__(self, name: str) -> Array:
        if name not in self._nodes:
            raise KeyError(name)
        if name in self._updated:
            type = self._nodes[name].type
            return self._updated[name].read(np.dtype(DTYPES[type.dtype]), type.concrete(1))
        return self._plain(name, self._given)

    @property
    def _named(self) -> Mapping[str, object]:
        return self._nodes
