"""Distances between words, and the nearest of several."""

from collections.abc import Iterable


def edit_distance(left: str, right: str) -> int:
    """Levenshtein distance: the fewest insertions, deletions and substitutions of one character."""
    previous = list(range(len(right) + 1))
    for row, a in enumerate(left, start=1):
        current = [row]
        for column, b in enumerate(right, start=1):
            current.append(
                min(previous[column] + 1, current[column - 1] + 1, previous[column - 1] + (a != b))
            )
        previous = current
    return previous[-1]


def closest(word: str, candidates: Iterable[str], *, max_distance: int = 2) -> list[str]:
    """Candidates at most `max_distance` edits from a word, letter case ignored.

    The nearest come first, equally near ones in alphabetical order, and every candidate once.
    """
    wanted = word.lower()
    scored = {candidate: edit_distance(wanted, candidate.lower()) for candidate in candidates}
    near = [candidate for candidate, distance in scored.items() if distance <= max_distance]
    return sorted(near, key=lambda candidate: (scored[candidate], candidate))
