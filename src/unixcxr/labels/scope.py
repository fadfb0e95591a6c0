"""What one sentence says about each label: negation and uncertainty, forward and backward, by clause.

The scanner walks the events of a sentence once. A cue that points forward ("no", "possible") sets the scope, which
colours the mentions that follow until something ends it; a cue that points backward ("is not seen", "has resolved")
colours the mentions still in reach.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from unixcxr.labels.lexicon import MENTION, ORGAN, Event, find_events

POSITIVE, NEGATIVE, UNCERTAIN = "positive", "negative", "uncertain"
IGNORED, REMOVED = "ignored", "removed"
DEVICES = "Support Devices"
PREDICATES = ("normal", "upper_normal", "enlarged", "enlargement", "neutral")
STRENGTH = {IGNORED: 0, NEGATIVE: 1, UNCERTAIN: 2, POSITIVE: 3}

MARKINGS = re.compile(r"(?:markings?|engorgement|vasculature|vascularity|vessels|pattern|interstitium)$")
TIP = re.compile(r"\b(?:tips?|ends?|side ?(?:holes?|ports?)|course|distal)\b")
TIP_REACH = 30
"""How many characters before a device its tip may be named ("the distal tip of the left tube")."""
STANDS_ALONE = re.compile(r"\s*(?:$|[.;,)]|(?:present|seen|there|in|at|on|given|and|or|but|for|with|as)\b)")


@dataclass
class Mention:
    """One mention and what is said of it so far; `index` is its place among the sentence's events."""

    event: Event
    index: int
    state: str
    after_comma: bool


@dataclass
class Scanner:
    """The walk over one sentence: the cue in force (`scope`), and the mentions that a later cue can reach."""

    lowered: str
    events: list[Event]
    mentions: list[Mention] = field(default_factory=list)
    predicate_scopes: dict[int, tuple[str | None, int]] = field(default_factory=dict)
    reachable: list[Mention] = field(default_factory=list)
    interrupted: list[Mention] = field(default_factory=list)
    scope: str | None = None
    scope_start: int = -1
    comma_seen: bool = False
    lists_bare: bool = False

    def run(self) -> None:
        """Walk the events; each kind of cue has its method, kinds without one change nothing."""
        for index, event in enumerate(self.events):
            if event.kind in PREDICATES:
                self.on_predicate(index, event)
                continue
            handler = getattr(self, "on_" + event.kind, None)
            if handler is not None:
                handler(index, event)

    def said(self, event: Event) -> str:
        """Return the words of an event."""
        return self.lowered[event.start : event.end]

    def set_scope(self, scope: str | None, start: int) -> None:
        self.scope, self.scope_start, self.comma_seen, self.lists_bare = scope, start, False, False

    def on_mention(self, index: int, event: Event) -> None:
        state = self.scope or POSITIVE
        if state == REMOVED:
            state = NEGATIVE if DEVICES in event.labels else POSITIVE
        mention = Mention(event, index, state, self.comma_seen)
        self.mentions.append(mention)
        self.reachable.append(mention)

    def on_predicate(self, index: int, event: Event) -> None:
        """Keep the scope for the organs; take back markings called normal; let "stable" begin a statement."""
        self.predicate_scopes[index] = (self.scope, self.scope_start)
        if event.kind == "normal":
            for mention in self.reachable[-1:]:
                if MARKINGS.search(self.said(mention.event)) and self.same_chunk(mention.index, index):
                    mention.state = NEGATIVE
        if event.kind == "neutral":
            self.begin_statement(index)

    # What ends a scope.

    def on_boundary(self, index: int, event: Event) -> None:
        """End everything; a relative clause between commas gives back what it interrupted."""
        relative = index and self.events[index - 1].kind == "comma" and self.said(event) in ("which", "that")
        self.interrupted = self.reachable if relative else []
        self.set_scope(None, event.start)
        self.reachable = []

    def on_restart(self, index: int, event: Event) -> None:
        self.set_scope(None, event.start)

    on_pseudo = on_restart

    def on_affirm(self, index: int, event: Event) -> None:
        self.begin_statement(index)

    def begin_statement(self, index: int) -> None:
        """End the scope where a comma or "and" is followed by a word that begins a new statement."""
        if index and self.events[index - 1].kind in ("comma", "and"):
            self.set_scope(None, self.events[index].start)
            self.reachable = []

    def on_comma(self, index: int, event: Event) -> None:
        """Let a denial run on over commas, and doubt only where a list does."""
        if self.interrupted:
            self.reachable, self.interrupted = self.interrupted, []
        named = self.lists_bare and index + 1 < len(self.events) and self.events[index + 1].kind == MENTION
        if self.scope not in (None, NEGATIVE) and not named and not self.list_goes_on(index):
            self.set_scope(None, event.start)
        self.comma_seen = True

    def list_goes_on(self, index: int) -> bool:
        """Say whether a list that reached this comma still has its "or", "and" or "versus" to come."""
        for event in self.events[index + 1 :]:
            if event.kind in ("or", "and", "versus"):
                return True
            if event.kind not in (MENTION, "comma", "bridge"):
                return False
        return False

    # Cues that point forward.

    def on_negate(self, index: int, event: Event) -> None:
        self.set_scope(NEGATIVE, event.start)

    def on_ignore(self, index: int, event: Event) -> None:
        self.set_scope(IGNORED, event.start)

    def on_unc_pre(self, index: int, event: Event) -> None:
        if self.scope != IGNORED and not self.denied():
            self.set_scope(UNCERTAIN, event.start)
            self.lists_bare = True

    on_unc_cause = on_unc_pre

    def denied(self) -> bool:
        """Say whether doubt is part of a denial ("no opacity suspicious for pneumonia")."""
        return self.scope == NEGATIVE and not self.comma_seen

    # Cues that point backward, or either way.

    def on_stop(self, index: int, event: Event) -> None:
        self.reachable = []

    def on_affirmed(self, index: int, event: Event) -> None:
        """Rescue a statement spliced on by a comma ("no edema, effusion is small")."""
        for mention in self.reachable[-1:]:
            listed = mention.index and self.events[mention.index - 1].kind in ("or", "and")
            if mention.state == NEGATIVE and mention.after_comma and not listed:
                mention.state = POSITIVE
                self.set_scope(None, event.start)
        self.reachable = []

    def on_unc_post(self, index: int, event: Event) -> None:
        """Doubt the list before; after a predicate ("is minimal, if any") the mention that the predicate is of."""
        last = self.mentions[-1] if self.mentions else None
        if (
            not self.reachable
            and last
            and not any(e.kind == "boundary" for e in self.events[last.index : index])
        ):
            self.reachable = [last]
        self.mark_back(index, UNCERTAIN)

    def on_neg_post(self, index: int, event: Event) -> None:
        self.mark_back(index, NEGATIVE)

    def on_neg_dual(self, index: int, event: Event) -> None:
        if self.reachable:
            self.mark_back(index, NEGATIVE)
        else:
            self.set_scope(NEGATIVE, event.start)

    def on_removed(self, index: int, event: Event) -> None:
        if not any(DEVICES in mention.event.labels for mention in self.reachable):
            self.set_scope(REMOVED, event.start)
        for mention in self.targets(index):
            if DEVICES in mention.event.labels:
                mention.state = NEGATIVE

    def on_hedge(self, index: int, event: Event) -> None:
        """Doubt what follows in the clause; with nothing to follow, what went before ("effusion is likely")."""
        if self.scope == IGNORED or self.denied():
            return
        alone = STANDS_ALONE.match(self.lowered, event.end) and not self.mention_follows(index)
        if alone and self.reachable and self.same_chunk(self.reachable[-1].index, index):
            self.mark_back(index, UNCERTAIN)
        else:
            self.set_scope(UNCERTAIN, event.start)

    def mark_back(self, index: int, state: str) -> None:
        first = self.reachable[0].event.start if self.reachable else 0
        tip_spoken_of = TIP.search(self.lowered, max(0, first - TIP_REACH), self.events[index].start)
        for mention in self.targets(index):
            if mention.state != IGNORED and not (tip_spoken_of and DEVICES in mention.event.labels):
                mention.state = state
        self.reachable = []
        self.set_scope(None, self.events[index].start)

    def targets(self, index: int) -> list[Mention]:
        """Return the mentions that a backward cue speaks of: the list that it ends, or its last item."""
        found = self.reachable
        if not found:
            return []
        commas = [i for i in range(found[0].index, index) if self.events[i].kind == "comma"]
        if not commas or {"or", "and"} & {event.kind for event in self.events[commas[-1] : index]}:
            return list(found)
        return [mention for mention in found if mention.index > commas[-1]] or found[-1:]

    def mention_follows(self, index: int) -> bool:
        """Say whether something to doubt follows before a comma or the end of the clause."""
        for event in self.events[index + 1 :]:
            if event.kind in (MENTION, ORGAN, "unc_cause", *PREDICATES):
                return True
            if event.kind in ("comma", "boundary"):
                return False
        return False

    def same_chunk(self, first: int, last: int) -> bool:
        """Say whether no comma and no boundary stands between two events."""
        return not any(event.kind in ("comma", "boundary") for event in self.events[first:last])


def scan(lowered: str) -> Scanner:
    """Walk one lower-case sentence and return the scanner with its mentions settled."""
    scanner = Scanner(lowered, list(find_events(lowered)))
    scanner.run()
    mark_alternatives(scanner)
    return scanner


def mark_alternatives(scanner: Scanner) -> None:
    """Make both sides of "A versus B" and of an affirmed "A or B" uncertain."""
    events = scanner.events
    for index, event in enumerate(events):
        if event.kind not in ("versus", "or"):
            continue
        before = next((m for m in reversed(scanner.mentions) if m.index < index), None)
        after = next((m for m in scanner.mentions if m.index > index), None)
        if before is None or after is None:
            continue
        if any(e.kind in ("boundary", "stop", "affirmed") for e in events[before.index : after.index]):
            continue
        if event.kind == "or":
            gap = {e.kind for e in events[index + 1 : after.index]}
            if gap - {"affirm", "hedge"} or before.event.labels == after.event.labels:
                continue
            if said_of_change(events, index):
                continue
        for mention in (before, after):
            if mention.state == POSITIVE:
                mention.state = UNCERTAIN


def said_of_change(events: list[Event], index: int) -> bool:
    """Say whether "or" stands in a list of things that did not change ("no change in A or B")."""
    for event in reversed(events[:index]):
        if event.kind in ("boundary", "pseudo"):
            return event.kind == "pseudo"
    return False
