"""The metrics of a mesh in Prometheus' text format, made in pieces that nobody has to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from .figures import MeshFigures
from .metrics import FAMILIES, Family, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_AT_ONCE = 50
"""Samples that are made into text before others get the loop: half a millisecond's work."""


def pieces(figures: MeshFigures) -> Iterator[bytes]:
    """Yield the text, a small piece at a time; a metric without samples is left out."""
    for family in FAMILIES:
        left, has_begun = iter(family.samples(figures)), False
        while samples := list(islice(left, _AT_ONCE)):
            text = generate_latest(_Piece(family, samples))
            yield text.split(b"\n", 2)[2] if has_begun else text  # HELP and TYPE come once
            has_begun = True


async def exposition(figures: MeshFigures) -> list[bytes]:
    """Return the whole text, in its pieces; the loop is free in between."""
    text = []
    for piece in pieces(figures):
        text.append(piece)
        await asyncio.sleep(0)
    return text


class _Piece:
    """Some samples of one family, as prometheus_client collects them."""

    def __init__(self, family: Family, samples: list[Sample]) -> None:
        self._family = family
        self._samples = samples

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        family = self._family
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.text, labels=family.labels)
        for labels, value in self._samples:
            metric.add_metric(labels, value)
        yield metric
