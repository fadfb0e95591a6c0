"""What one sentence says about each label: negation and uncertainty, forward and backward, clause by clause."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from unixcxr.labels.lexicon import MENTION, ORGAN, Event, find_events

POSITIVE, NEGATIVE, UNCERTAIN, IGNORED = "positive", "negative", "uncertain", "ignored"
DEVICES = "Support Devices"
PREDICATES = {
    "normal": NEGATIVE,
    "upper_normal": UNCERTAIN,
    "enlarged": POSITIVE,
    "enlargement": POSITIVE,
    "neutral": None,
}
LINK_WORDS = re.compile(
    r"(?:[\s-]+(?:of|in|the|overall|size|contours?|mild|mildly|moderate|degree|to|for|appearing))*[\s-]*"
)
PLURAL_VERB = re.compile(r"are|were|have")


@dataclass
class Mention:
    """One mention with its state so far; `index` is its place among the sentence's events."""

    event: Event
    index: int
    state: str
    after_comma: bool


@dataclass
class Scanner:
    """Walks the events of a sentence once, holding the cue in force (`scope`) and what it may reach back to."""

    events: list[Event]
    mentions: list[Mention] = field(default_factory=list)
    predicates: dict[int, tuple[str | None, int]] = field(default_factory=dict)
    reachable: list[Mention] = field(default_factory=list)
    scope: str | None = None
    scope_start: int = -1
    comma_seen: bool = False

    def run(self) -> None:
        for index, event in enumerate(self.events):
            if event.kind == MENTION:
                self.add_mention(index, event)
            elif event.kind in PREDICATES:
                self.predicates[index] = (self.scope, self.scope_start)
                if event.kind == "neutral":
                    self.begin_statement(index)
            else:
                handler = getattr(self, "on_" + event.kind, None)
                if handler is not None:
                    handler(index, event)

    def add_mention(self, index: int, event: Event) -> None:
        state = {None: POSITIVE, "removed": POSITIVE}.get(self.scope, self.scope)
        if self.scope == "removed" and DEVICES in event.labels:
            state = NEGATIVE
        mention = Mention(event, index, state or POSITIVE, self.comma_seen)
        self.mentions.append(mention)
        self.reachable.append(mention)

    def set_scope(self, scope: str | None, start: int) -> None:
        self.scope, self.scope_start, self.comma_seen = scope, start, False

    # Cues that point forward.

    def on_boundary(self, index: int, event: Event) -> None:
        self.set_scope(None, event.start)
        self.reachable = []

    def on_restart(self, index: int, event: Event) -> None:
        self.set_scope(None, event.start)

    def on_pseudo(self, index: int, event: Event) -> None:
        self.set_scope(None, event.start)

    def on_negate(self, index: int, event: Event) -> None:
        self.set_scope(NEGATIVE, event.start)

    def on_ignore(self, index: int, event: Event) -> None:
        self.set_scope(IGNORED, event.start)

    def on_unc_pre(self, index: int, event: Event) -> None:
        denied = self.scope == NEGATIVE and not self.comma_seen
        if not denied and self.scope != IGNORED:
            self.set_scope(UNCERTAIN, event.start)

    on_unc_cause = on_unc_pre

    def on_comma(self, index: int, event: Event) -> None:
        self.comma_seen = True
        if self.scope in (UNCERTAIN, IGNORED, "removed") and not self.list_goes_on(index):
            self.set_scope(None, event.start)
            self.comma_seen = True

    def on_affirm(self, index: int, event: Event) -> None:
        self.begin_statement(index)

    def begin_statement(self, index: int) -> None:
        """End the cue in force where a comma or "and" is followed by a word that begins a new statement."""
        if index and self.events[index - 1].kind in ("comma", "and"):
            self.set_scope(None, self.events[index].start)

    # Cues that point backward, or either way.

    def on_stop(self, index: int, event: Event) -> None:
        for mention in self.reachable[-1:]:
            joined = mention.index and self.events[mention.index - 1].kind in ("or", "and")
            if mention.state == NEGATIVE and mention.after_comma and not joined:
                mention.state = POSITIVE
                self.scope = None
        self.reachable = []

    def on_unc_post(self, index: int, event: Event) -> None:
        self.mark_back(index, UNCERTAIN)

    def on_neg_post(self, index: int, event: Event) -> None:
        self.mark_back(index, NEGATIVE)

    def on_neg_dual(self, index: int, event: Event) -> None:
        if self.reachable:
            self.mark_back(index, NEGATIVE)
        else:
            self.set_scope(NEGATIVE, event.start)

    def on_removed(self, index: int, event: Event) -> None:
        devices = [m for m in self.reachable if DEVICES in m.event.labels]
        if not devices:
            self.set_scope("removed", event.start)
        for mention in self.targets(index):
            if DEVICES in mention.event.labels:
                mention.state = NEGATIVE

    def on_hedge(self, index: int, event: Event) -> None:
        if self.scope == IGNORED or (self.scope == NEGATIVE and not self.comma_seen):
            return
        following = self.next_of(index, {MENTION, ORGAN, "unc_cause", *PREDICATES})
        if (
            following is None
            and self.reachable
            and self.chunk_of(index) == self.chunk_of(self.reachable[-1].index)
        ):
            self.mark_back(index, UNCERTAIN)
        else:
            self.set_scope(UNCERTAIN, event.start)

    def mark_back(self, index: int, state: str) -> None:
        for mention in self.targets(index):
            if mention.state != IGNORED:
                mention.state = state
        self.reachable = []
        self.set_scope(None, self.events[index].start)

    def targets(self, index: int) -> list[Mention]:
        """Return the mentions that a backward cue at `index` speaks of: the whole list, or the last item."""
        found = self.reachable
        if not found:
            return []
        between = [event.kind for event in self.events[found[0].index : index]]
        if "comma" not in between or {"or", "and"} & set(between):
            return list(found)
        last_comma = max(i for i in range(found[0].index, index) if self.events[i].kind == "comma")
        late = [m for m in found if m.index > last_comma]
        return late or found[-1:]

    def next_of(self, index: int, kinds: set[str]) -> Event | None:
        """Return the next event of these kinds before a comma or the end of the clause."""
        for event in self.events[index + 1 :]:
            if event.kind in kinds:
                return event
            if event.kind in ("comma", "boundary"):
                return None
        return None

    def chunk_of(self, index: int) -> int:
        """Number the stretch between commas and boundaries that an event lies in."""
        return sum(event.kind in ("comma", "boundary") for event in self.events[:index])

    def list_goes_on(self, index: int) -> bool:
        """Say whether a list that reached this comma still has its "or", "and" or "versus" to come."""
        for event in self.events[index + 1 :]:
            if event.kind in ("or", "and", "versus"):
                return True
            if event.kind not in (MENTION, "comma", "bridge"):
                return False
        return False


def read_sentence(lowered: str) -> dict[str, str]:
    """Return {label: state} for one lower-case sentence; "other" stands for abnormalities without a label."""
    events = list(find_events(lowered))
    if not any(event.kind in (MENTION, ORGAN) for event in events):
        return {}
    scanner = Scanner(events)
    scanner.run()
    mark_alternatives(scanner)
    states: dict[str, str] = {}
    for mention in scanner.mentions:
        for label in mention.event.labels:
            add_state(states, label, mention.state)
    for label, state in organ_states(scanner, lowered):
        add_state(states, label, state)
    return states


def add_state(states: dict[str, str], label: str, state: str) -> None:
    """Keep the strongest state: positive before uncertain before negative."""
    rank = {IGNORED: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}
    if rank[state] > rank.get(states.get(label, IGNORED), 0):
        states[label] = state


def mark_alternatives(scanner: Scanner) -> None:
    """Make both sides of "A versus B" and of an affirmed "A or B" uncertain."""
    for index, event in enumerate(scanner.events):
        if event.kind not in ("versus", "or"):
            continue
        before = [m for m in scanner.mentions if m.index < index][-1:]
        after = [m for m in scanner.mentions if m.index > index][:1]
        if not before or not after or crosses_clause(scanner.events, before[0].index, after[0].index):
            continue
        pair = before + after
        if event.kind == "or":
            gap = {e.kind for e in scanner.events[index + 1 : after[0].index]}
            if gap - {"affirm", "hedge", "other"} or before[0].event.labels == after[0].event.labels:
                continue
        for mention in pair:
            if mention.state == POSITIVE:
                mention.state = UNCERTAIN


def crosses_clause(events: list[Event], first: int, last: int) -> bool:
    return any(event.kind in ("boundary", "stop") for event in events[first:last])


def organ_states(scanner: Scanner, lowered: str) -> list[tuple[str, str]]:
    """Pair each organ, or run of organs, with the predicate said of it ("heart and mediastinum are normal")."""
    events, found = scanner.events, []
    index = 0
    while index < len(events):
        if events[index].kind != ORGAN:
            index += 1
            continue
        run = [index]
        while (following := _next_organ(events, run[-1])) is not None:
            run.append(following)
        state = _said_before(scanner, lowered, run[0]) or _said_after(scanner, run[0], run[-1])
        if state is not None:
            found += [(label, state) for i in run for label in events[i].labels]
        index = run[-1] + 1
    return found


def _next_organ(events: list[Event], index: int) -> int | None:
    for later in range(index + 1, len(events)):
        if events[later].kind == ORGAN:
            return later
        if events[later].kind in PREDICATES or events[later].kind in ("boundary", "stop"):
            return None
    return None


def _said_before(scanner: Scanner, lowered: str, organ: int) -> str | None:
    """Return what adjectives directly before the organ say ("normal heart size", "enlargement of the heart")."""
    place, start = organ, scanner.events[organ].start
    while place > 0 and scanner.events[place - 1].kind in (*PREDICATES, "affirm", "hedge"):
        event = scanner.events[place - 1]
        if not LINK_WORDS.fullmatch(lowered, event.end, start):
            return None
        if event.kind in PREDICATES and event.kind != "neutral":
            return _predicate_state(scanner, place - 1, None)
        place, start = place - 1, event.start
    return None


def _said_after(scanner: Scanner, first: int, last: int) -> str | None:
    """Return what the first telling predicate after the organ says; a neutral one stands until the next comma."""
    events = scanner.events
    neutral = False
    for index in range(last + 1, len(events)):
        kind = events[index].kind
        if kind == ORGAN or kind == "boundary" or (kind == MENTION and neutral):
            return None
        if kind == "comma" and neutral:
            return None
        if kind == "neutral":
            neutral = True
        elif kind in PREDICATES:
            return _predicate_state(scanner, index, events[first].start)
    return None


def _predicate_state(scanner: Scanner, index: int, organ_start: int | None) -> str | None:
    kind = scanner.events[index].kind
    scope, scope_start = scanner.predicates[index]
    state = PREDICATES[kind]
    if scope == IGNORED:
        return None
    if kind in ("enlarged", "enlargement"):
        adjective_after = kind == "enlarged" and organ_start is not None
        if scope in (NEGATIVE, UNCERTAIN) and not (adjective_after and scope_start < (organ_start or 0)):
            return scope
    return state
