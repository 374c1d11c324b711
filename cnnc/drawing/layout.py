"""Where cards stand: a layered drawing (Sugiyama, Tagawa and Toda, 1981) from top to bottom.

Cards stand in networkx's topological generations; an edge that skips generations goes round the cards between through a
place of its own in each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from cnnc.drawing.cards import Card

GAP, SPREAD, LANE, MARGIN = 26, 28, 14, 20  # pixels
HEAVY = 1000.0  # beside 1, the weight of other cards


def arrange(cards: list[Card], edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Give every card its place, and add lanes, which are cards without nodes. Every edge as a path of neighbors."""
    levels = _levels(cards, edges)
    paths = _route(cards, edges, levels)
    above, below = _neighbors(paths, len(cards))
    _order(levels, above, below)
    _place(cards, levels, above, below)
    return paths


def _levels(cards: list[Card], edges: Iterable[tuple[int, int]]) -> list[list[int]]:
    import networkx

    graph = networkx.DiGraph()
    graph.add_nodes_from(range(len(cards)))
    graph.add_edges_from(edges)
    for i in networkx.dag_longest_path(graph):  # the longest path is drawn straight
        cards[i].weight = HEAVY
    levels = [sorted(generation) for generation in networkx.topological_generations(graph)]
    for number, level in enumerate(levels):
        for i in level:
            cards[i].level = number
    return levels


def _route(cards: list[Card], edges: Sequence[tuple[int, int]], levels: list[list[int]]) -> list[list[int]]:
    """Every edge as a path of neighbors; a lane is put into each level that an edge skips."""
    paths = []
    for a, b in edges:
        path = [a]
        for level in range(cards[a].level + 1, cards[b].level):
            cards.append(Card(width=LANE, level=level))
            levels[level].append(len(cards) - 1)
            path.append(len(cards) - 1)
        paths.append([*path, b])
    return paths


def _neighbors(paths: Iterable[Sequence[int]], count: int) -> tuple[list[list[int]], list[list[int]]]:
    above: list[list[int]] = [[] for _ in range(count)]
    below: list[list[int]] = [[] for _ in range(count)]
    for path in paths:
        for a, b in pairwise(path):
            below[a].append(b)
            above[b].append(a)
    return above, below


def _order(levels: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each level by the mean place of the neighbors, down and up a few times, so that few edges cross."""
    place = {i: p for level in levels for p, i in enumerate(level)}
    for sweep in range(6):
        near = above if sweep % 2 == 0 else below
        for level in levels if sweep % 2 == 0 else reversed(levels):
            level.sort(key=lambda i: (sum(place[j] for j in near[i]) / len(near[i]) if near[i] else place[i], place[i]))
            place.update({i: p for p, i in enumerate(level)})


def _place(cards: list[Card], levels: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Centers: first side by side, then drawn towards the neighbors while nothing overlaps."""
    for level in levels:
        at = 0.0
        for i in level:
            cards[i].x = at + cards[i].width / 2
            at += cards[i].width + SPREAD
        for i in level:
            cards[i].x -= (at - SPREAD) / 2
    for sweep in range(8):
        near = above if sweep % 2 == 0 else below
        for level in levels if sweep % 2 == 0 else reversed(levels):
            _settle([cards[i] for i in level], [_middle(cards, i, near[i]) for i in level])
    y = float(MARGIN)
    for level in levels:
        tallest = max((cards[i].height for i in level), default=0.0)
        for i in level:
            cards[i].y = y + (tallest - cards[i].height) / 2
            cards[i].row = (y, y + tallest)
        y += tallest + GAP
    left = min(c.x - c.width / 2 for c in cards)
    for c in cards:
        c.x += MARGIN - left


def _middle(cards: list[Card], card: int, near: list[int]) -> float:
    """Where a card would stand for its neighbors' sake: those of the longest path go by each other alone."""
    heavy = [j for j in near if cards[j].weight == HEAVY]
    chosen = heavy if heavy and cards[card].weight == HEAVY else near
    return sum(cards[j].x for j in chosen) / len(chosen) if chosen else cards[card].x


def _settle(row: list[Card], wanted: list[float]) -> None:
    """Put a row as near to the wanted centers as its widths allow: groups that would overlap move as one (least
    squares, by the cards' weights)."""
    # members, offsets from the first, weight, the first's center
    groups: list[tuple[list[Card], list[float], float, float]] = []
    for card, center in zip(row, wanted, strict=True):
        members, offsets, weight, first = [card], [0.0], card.weight, center
        while groups:
            m, o, w, f = groups[-1]
            step = o[-1] + (m[-1].width + members[0].width) / 2 + SPREAD
            if f + step <= first:
                break
            groups.pop()
            first = (f * w + (first - step) * weight) / (w + weight)
            members, offsets, weight = m + members, o + [step + x for x in offsets], w + weight
        groups.append((members, offsets, weight, first))
    for members, offsets, _, first in groups:
        for card, offset in zip(members, offsets, strict=True):
            card.x = first + offset
