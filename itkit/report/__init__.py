"""The report: a page for each test that has failed, and which outcomes of backends tests have seen.

A reader of the timeline, which records nothing for it. Read in this order: ``redaction`` (which
values are never shown), ``trace`` (what a page shows, as plain values), ``page`` (its HTML),
``folder`` (the pages of a run, and their index), ``annotations`` (failures as GitHub shows them),
``handlers`` (what has caught an error), ``mailed`` (which templates mails were made from),
``coverage`` (boundary coverage).
"""

from itkit.report.annotations import annotation, annotation_of, location_of
from itkit.report.folder import Folder, chosen
from itkit.report.redaction import Redactor, redactor
from itkit.report.trace import Grid, State, Trace, trace_of

__all__ = [
    "Folder",
    "Grid",
    "Redactor",
    "State",
    "Trace",
    "annotation",
    "annotation_of",
    "chosen",
    "location_of",
    "redactor",
    "trace_of",
]
