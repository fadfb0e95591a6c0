"""Drawn chest radiographs with known findings and matching reports: truth for training and tests.

A phantom is computed, not photographed: a body (`anatomy`), findings painted onto it (`painters`, `devices`),
a film (`film`) and a report (`report`). The painters also work on real pictures once their lungs are located.
This room needs numpy only; it knows nothing of models.
"""

from unixcxr.phantom.chest_map import ChestMap
from unixcxr.phantom.finding import PhantomFinding, draw_findings
from unixcxr.phantom.locate import estimate_anatomy
from unixcxr.phantom.painters import paint_findings
from unixcxr.phantom.report import ComposedReport, write_phantom_report
from unixcxr.phantom.sample import Phantom, sample_phantom, write_phantom_set

__all__ = [
    "ChestMap",
    "ComposedReport",
    "Phantom",
    "PhantomFinding",
    "draw_findings",
    "estimate_anatomy",
    "paint_findings",
    "sample_phantom",
    "write_phantom_report",
    "write_phantom_set",
]
