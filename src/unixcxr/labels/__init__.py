"""The 14 CheXpert labels from report text, by rules: the `rule_labeler`.

Standard library and `records` only; every room may import it. Conventions and measured quality stand in
docs/labels.md.
"""

from __future__ import annotations

from unixcxr.labels.report import LabeledSentence, label_report, label_sentences

__all__ = ["LabeledSentence", "label_report", "label_sentences"]
