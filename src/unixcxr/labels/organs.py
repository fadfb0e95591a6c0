"""Heart and mediastinum: organs say nothing until a predicate is paired with them.

"The heart is enlarged", "normal heart and mediastinum", "enlargement of the cardiac silhouette": a run of organs
takes the adjectives directly before it, or else the first telling predicate after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from unixcxr.labels.lexicon import MENTION, ORGAN, Event
from unixcxr.labels.scope import IGNORED, NEGATIVE, POSITIVE, PREDICATES, UNCERTAIN, Scanner

SAYS = {"normal": NEGATIVE, "upper_normal": UNCERTAIN, "enlarged": POSITIVE, "enlargement": POSITIVE}
LINK_WORDS = re.compile(
    r"(?:[\s-]+(?:of|in|the|overall|size|contours?|mild|mildly|moderate|degree|to|for|appearing))*[\s-]*"
)
CONTRASTS = ("but", "although", "though", "however", "which")


def organ_states(scanner: Scanner) -> Iterator[tuple[str, str]]:
    """Yield (label, state) for each organ that something is said of."""
    events = scanner.events
    index = 0
    while index < len(events):
        if events[index].kind != ORGAN:
            index += 1
            continue
        run = [index]
        while (following := next_organ(events, run[-1])) is not None:
            run.append(following)
        state = said_before(scanner, run[0]) or said_after(scanner, run[0], run[-1])
        if state is not None:
            for organ in run:
                for label in events[organ].labels:
                    yield label, state
        index = run[-1] + 1


def next_organ(events: list[Event], index: int) -> int | None:
    """Return the next organ that shares its predicate with the one at `index`."""
    for later in range(index + 1, len(events)):
        if events[later].kind == ORGAN:
            return later
        if events[later].kind in (*PREDICATES, "boundary", "stop", "affirmed"):
            return None
    return None


def said_before(scanner: Scanner, organ: int) -> str | None:
    """Return what words directly before the organ say ("normal heart size", "widening of the mediastinum")."""
    place, start = organ, scanner.events[organ].start
    while place > 0 and scanner.events[place - 1].kind in (*PREDICATES, "affirm", "hedge"):
        event = scanner.events[place - 1]
        if not LINK_WORDS.fullmatch(scanner.lowered, event.end, start):
            return None
        if event.kind in SAYS:
            return predicate_state(scanner, place - 1, None)
        place, start = place - 1, event.start
    return None


def said_after(scanner: Scanner, first: int, last: int) -> str | None:
    """Return what the first telling predicate after the organs says.

    A neutral one ("stable") holds until the next comma; one contrast is crossed ("hard to assess but enlarged").
    """
    events = scanner.events
    neutral = first > 0 and events[first - 1].kind == "neutral"
    crossed = False
    for index in range(last + 1, len(events)):
        kind = events[index].kind
        if kind == "boundary" and not crossed:
            if scanner.lowered[events[index].start : events[index].end] not in CONTRASTS:
                return None
            crossed, neutral = True, False
        elif kind in (ORGAN, "boundary") or (neutral and kind in ("comma", MENTION)):
            return None
        elif kind in ("neutral", "affirmed"):
            neutral = True
        elif kind in SAYS:
            return predicate_state(scanner, index, events[first].start)
    return None


def predicate_state(scanner: Scanner, index: int, organ_start: int | None) -> str | None:
    """Return the state of a predicate under the scope it stands in.

    An adjective after its organ takes only a scope that began after the organ: in "no effusion, heart is enlarged"
    the denial is not of the heart.
    """
    kind = scanner.events[index].kind
    scope, scope_start = scanner.predicate_scopes[index]
    if scope == IGNORED:
        return None
    foreign = kind == "enlarged" and organ_start is not None and scope_start < organ_start
    if kind in ("enlarged", "enlargement") and scope in (NEGATIVE, UNCERTAIN) and not foreign:
        return scope
    return SAYS[kind]
