"""Repeated blocks, drawn once.

The cards that every path from the first to the last goes through (networkx's dominators) cut a network into pieces. Runs
of pieces that follow each other and are alike, card by card and edge by edge, are kept once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cnnc.drawing.cards import Card

LONGEST = 24  # pieces that repeat together


@dataclass(frozen=True)
class Repeated:
    """Cards, by index, that stand for `times` runs of as many."""

    cards: tuple[int, ...]
    times: int


def _spine(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The cards that every path goes through, in order."""
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(range(count))
    graph.add_edges_from(edges)
    begin, end = -1, count
    graph.add_edges_from((begin, n) for n in range(count) if graph.in_degree(n) == 0)
    graph.add_edges_from((n, end) for n in range(count) if graph.out_degree(n) == 0)
    above = networkx.immediate_dominators(graph, begin)
    at, spine = above[end], []
    while at != begin:
        spine.append(at)
        at = above[at]
    return spine[::-1]


def _pieces(cards: Sequence[Card], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Each piece: the cards behind one of the spine, up to the next, which is its last."""
    import networkx

    spine = _spine(len(cards), edges)
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(cards)))
    graph.add_edges_from(edges)
    place = {card: i for i, card in enumerate(spine)}
    pieces: list[list[int]] = [[] for _ in spine]
    behind: dict[int, int] = {}  # card -> how many of the spine it is behind
    for card in networkx.topological_sort(graph):
        behind[card] = max((place.get(p, behind[p] - 1) + 1 for p in graph.predecessors(card)), default=0)
        if behind[card] < len(spine):
            pieces[behind[card]].append(card)
    return [sorted(p) for p in pieces]


def _form(piece: Sequence[int], before: int, cards: Sequence[Card], edges: Sequence[tuple[int, int]]) -> object:
    """What two pieces that are alike have in common: labels, and edges by places."""
    place = {card: i for i, card in enumerate(piece)} | {before: -1}
    links = sorted((place[a], place[b]) for a, b in edges if b in place and a in place and b != before)
    return tuple(cards[i].label for i in piece), tuple(links)


def _forms(
    pieces: Sequence[Sequence[int]], last: Sequence[int], cards: Sequence[Card], edges: Sequence[tuple[int, int]]
) -> list[object]:
    """That of each piece."""
    into: dict[int, list[tuple[int, int]]] = {}
    for a, b in edges:
        into.setdefault(b, []).append((a, b))
    return [
        _form(p, last[i - 1] if i else -2, cards, [e for card in p for e in into.get(card, ())])
        for i, p in enumerate(pieces)
    ]


def fold(
    cards: Sequence[Card], edges: Sequence[tuple[int, int]]
) -> tuple[list[Card], list[tuple[int, int]], list[Repeated]]:
    """The cards that stay, the edges between them, and which of them are repeated."""
    pieces = _pieces(cards, edges)
    last = [p[-1] if p else -2 for p in pieces]
    moved: dict[int, int] = {}  # the last card of a run that goes -> that of the one that stays
    gone: set[int] = set()
    found: list[tuple[list[int], int]] = []
    for at, length, times in _runs(_forms(pieces, last, cards, edges)):
        found.append(([card for p in pieces[at : at + length] for card in p], times))
        gone.update(card for p in pieces[at + length : at + length * times] for card in p)
        moved[last[at + length * times - 1]] = last[at + length - 1]
    kept = [i for i in range(len(cards)) if i not in gone]
    number = {card: i for i, card in enumerate(kept)}
    links = dict.fromkeys((moved.get(a, a), b) for a, b in edges if b not in gone)
    return (
        [cards[i] for i in kept],
        [(number[a], number[b]) for a, b in links if a in number],
        [Repeated(tuple(number[c] for c in stays), times) for stays, times in found],
    )


def _runs(forms: Sequence[object]) -> Iterator[tuple[int, int, int]]:
    """Where pieces repeat, behind the first: from which on, how many, and how often they stand there."""
    at = 1
    while at < len(forms):
        length, times = _best(forms, at)
        if times > 1:
            yield at, length, times
        at += length * times if times > 1 else 1


def _best(forms: Sequence[object], at: int) -> tuple[int, int]:
    """How many pieces from `at` on repeat, and how often they stand there: those that save most pieces."""
    best = (1, 1)
    for length in range(1, min(LONGEST, (len(forms) - at) // 2) + 1):
        times = 1
        while forms[at : at + length] == forms[at + times * length : at + (times + 1) * length]:
            times += 1
        if length * (times - 1) > best[0] * (best[1] - 1):
            best = (length, times)
    return best
