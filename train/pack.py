"""Segments laid into rows for one forward.

A row is a forest. Each token has a parent, the token before it; it attends to its ancestors and itself,
stands at its depth, and is predicted by its parent. Three ways to plant it:

    segments           5 6 7 | 5 6 8 9
    a row each         5 6 7 -          5 6 8 9       `length=0`: right-padded, plain causal attention
    packed             5 6 7 5 6 8 9                  `length=7`: positions 0 1 2 0 1 2 3
    packed and shared  5 6 7 8 9                      8 is another child of 6: positions 0 1 2 2 3

Sharing computes once whatever the samples of a group have in common: the prompt, and their first steps where
these agree. Logprobs and gradients are those of the rows of their own up to rounding
(tests/train/test_pack.py).

Shapes: R rows of L tokens, N predictions, B segments of at most T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from gym_code.types import Segment

ROOT = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Rows, and where in them each sampled token is predicted."""

    ids_RL: Tensor
    positions_RL: Tensor
    parents_RL: Tensor | None
    """Each token's parent's place, -1 at a root and in the padding; None: a segment a row."""
    lengths: list[int] | None
    """Of the segments as they follow each other in all rows, padding among them; None where they share."""
    predictor_N: Tensor
    """Index into the R * L hidden states, flattened; each predicted token once."""
    target_N: Tensor
    place_BT: Tensor
    """Which of the N predictions is this token's; 0 where the mask is 0."""
    mask_BT: Tensor
    """True on sampled tokens."""


@dataclass(slots=True)
class _Row:
    """A forest under construction. `child` finds a token's child by its id, where sharing is on."""

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    child: dict[tuple[str, int, int], int] = field(default_factory=dict)

    def plant(self, segment: Segment, *, shared: bool) -> list[int]:
        """Add what is new of a segment; the place of each of its tokens."""
        here, places = ROOT, []
        for depth, token in enumerate(segment.token_ids_T):
            key = (segment.group_id, here, token)
            place = self.child.get(key) if shared else None
            if place is None:
                place = len(self.ids)
                self.ids.append(token)
                self.parents.append(here)
                self.depths.append(depth)
                if shared:
                    self.child[key] = place
            here = place
            places.append(here)
        return places

    def fits(self, segment: Segment, length: int, *, shared: bool) -> bool:
        """Whether the row stays within `length` with a segment planted."""
        here, new = ROOT, len(segment.token_ids_T)
        while shared and new:
            following = self.child.get((segment.group_id, here, segment.token_ids_T[-new]))
            if following is None:
                break
            here, new = following, new - 1
        return len(self.ids) + new <= length


def pack(segments: Sequence[Segment], *, length: int = 0, shared: bool = False) -> Packed:
    """Lay segments into rows of at most `length` tokens (longer only for a segment that is longer itself).

    0 gives each segment a row of its own. `shared` merges what segments of one group have in common.
    """
    rows: list[_Row] = []
    at: dict[int, tuple[int, list[int]]] = {}
    for number in _order(segments, length):
        segment = segments[number]
        index = next((n for n, row in enumerate(rows) if row.fits(segment, length, shared=shared)), len(rows))
        if index == len(rows):
            rows.append(_Row())
        at[number] = (index, rows[index].plant(segment, shared=shared))
    longest = max(len(row.ids) for row in rows)
    ids_RL = np.zeros((len(rows), longest), dtype=np.int64)
    positions_RL = np.zeros((len(rows), longest), dtype=np.int64)
    parents_RL = np.full((len(rows), longest), ROOT)
    for index, row in enumerate(rows):
        parents_RL[index, : len(row.ids)] = row.parents
        ids_RL[index, : len(row.ids)] = row.ids
        positions_RL[index, : len(row.ids)] = row.depths
    predictor_N, target_N, place_BT, mask_BT = _predictions(segments, at, longest)
    return Packed(
        ids_RL=torch.from_numpy(ids_RL),
        positions_RL=torch.from_numpy(positions_RL),
        parents_RL=torch.from_numpy(parents_RL) if length else None,
        lengths=_lengths(rows, longest) if length and not shared else None,
        predictor_N=predictor_N,
        target_N=target_N,
        place_BT=place_BT,
        mask_BT=mask_BT,
    )


def split(segments: Sequence[Segment], tokens: int) -> list[list[Segment]]:
    """Segments for forwards of at most `tokens` tokens each (0: all in one), groups kept together."""
    if not tokens:
        return [list(segments)]
    first = {segment.group_id: n for n, segment in reversed(list(enumerate(segments)))}
    parts: list[list[Segment]] = []
    left = 0
    for segment in sorted(segments, key=lambda s: first[s.group_id]):
        if not parts or len(segment.token_ids_T) > left:
            parts.append([])
            left = tokens
        parts[-1].append(segment)
        left -= len(segment.token_ids_T)
    return parts


def _order(segments: Sequence[Segment], length: int) -> list[int]:
    """Groups together, the longest segments first: first-fit then wastes little and finds what to share."""
    numbers = list(range(len(segments)))
    if not length:
        return numbers
    longest: dict[str, int] = {}
    for segment in segments:
        longest[segment.group_id] = max(longest.get(segment.group_id, 0), len(segment.token_ids_T))
    return sorted(
        numbers,
        key=lambda n: (
            -longest[segments[n].group_id],
            segments[n].group_id,
            -len(segments[n].token_ids_T),
        ),
    )


def _lengths(rows: Sequence[_Row], longest: int) -> list[int]:
    starts: list[int] = []
    for index, row in enumerate(rows):
        starts += [index * longest + place for place, parent in enumerate(row.parents) if parent == ROOT]
        starts += [index * longest + len(row.ids)] if len(row.ids) < longest else []
    ends = [*starts[1:], len(rows) * longest]
    return [end - start for start, end in zip(starts, ends, strict=True)]


def attends(parents_RL: Tensor) -> Tensor:
    """(R, 1, L, L): true where token i attends to token j, one of its ancestors or itself."""
    rows = parents_RL.numpy()
    made = np.zeros((len(rows), 1, rows.shape[1], rows.shape[1]), dtype=bool)
    for (mine,), parents in zip(made, rows.tolist(), strict=True):
        np.fill_diagonal(mine, val=True)  # the padding too: a softmax over nothing is not a number
        for place, parent in enumerate(parents):
            if parent != ROOT:
                mine[place, : parent + 1] = mine[parent, : parent + 1]
    return torch.from_numpy(made)


def _predictions(
    segments: Sequence[Segment], at: dict[int, tuple[int, list[int]]], longest: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = max(len(s.token_ids_T) for s in segments)
    place_BT = np.zeros((len(segments), width), dtype=np.int64)
    mask_BT = np.zeros((len(segments), width), dtype=bool)
    number_of: dict[int, int] = {}
    predictors: list[int] = []
    targets: list[int] = []
    for n, segment in enumerate(segments):
        index, places = at[n]
        numbers = [0] * len(places)  # one by one into an array would take several times as long
        for t, sampled in enumerate(segment.action_mask_T):
            if sampled:
                spot = index * longest + places[t]
                if spot not in number_of:
                    number_of[spot] = len(targets)
                    predictors.append(index * longest + places[t - 1])
                    targets.append(segment.token_ids_T[t])
                numbers[t] = number_of[spot]
        place_BT[n, : len(numbers)] = numbers
        mask_BT[n, : len(segment.action_mask_T)] = np.array(segment.action_mask_T, dtype=bool)
    return (
        torch.tensor(predictors),
        torch.tensor(targets),
        torch.from_numpy(place_BT),
        torch.from_numpy(mask_BT),
    )
