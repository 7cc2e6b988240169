"""All comparisons, side by side in one run: ``python -m benchmarks``.

Prints how meshvisor stands to what is asked of it and to others, clause by clause, and then all that was measured.
Takes about ten minutes, with ``--quick`` about three, and wants the machine to itself. ``--only`` takes a clause
(``rtt-one-asyncio``) or a part (``link``), may be repeated, and runs the parts that are needed for it.

    --json FILE         write all samples there, or, with --report, read them from there
    --plots DIR         draw what was measured, as SVG
    --report            measure nothing: refresh benchmarks/README.md and its plots from the file of a run
    --compare A B       measure nothing: how do two runs agree? with --report: write that into README.md, too

Each part can be run by itself, and has more options then: ``python -m benchmarks.recovery``, ``.link``, ``.calls``,
``.stall``, ``.shared_memory``, ``.liveness``, ``.operator``, ``.growth``, ``.fanout``, ``.idle``, ``.births``,
``.blacklist_storm``. A second Python for some rows is named by MESHVISOR_OTHER_PYTHON; MESHVISOR_FALSE_VERDICTS=600
waits ten minutes for false verdicts instead of half a one.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .clauses import CLAUSES
from .judge import index, judge
from .report import Run, agreement, blocks, comparison, refresh, terminal
from .table import Row, as_json, merge, render

HERE = Path(__file__).parent
README = HERE / "README.md"
LATEST = HERE / "results" / "latest.json"
PLOTS = HERE / "results"


def measure(parts: Sequence[str], quick: bool) -> tuple[dict[str, Any], list[Row]]:
    """Run ``parts`` one after the other; return the facts of the machine, and all rows.

    What fails is told, and does not keep the others from being measured.
    """
    from .machine import facts
    from .parts import PARTS

    machine = facts()
    began = time.monotonic()
    rows: list[Row] = []
    spent, failed = {}, {}
    for name in parts:
        so_far = time.monotonic() - began
        print(f"{so_far:5.0f} s  {name}", file=sys.stderr, flush=True)
        try:
            for row in PARTS[name](quick):
                rows.append(row)  # what there is before it fails is kept
        except Exception as error:
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {error}".partition("\n")[0]
        spent[name] = round(time.monotonic() - began - so_far, 1)
    machine |= {"minutes": round(sum(spent.values()) / 60, 1), "seconds": spent, "quick": quick, "failed": failed}
    return machine, merge(rows)


def chosen(only: Sequence[str], quick: bool = False) -> list[str]:
    """Return the parts that are needed for clauses and parts, in their order; all of them for none (almost, if quick).

    Raises:
        SystemExit: If there is no clause or part of such a name.
    """
    from .parts import LONG, NEEDS, PARTS

    of_clause = {clause.key: (clause.part, *NEEDS.get(clause.part, ())) for clause in CLAUSES}
    wanted: set[str] = set()
    for name in only:
        if name not in PARTS and name not in of_clause:
            sys.exit(f"there is no row or part {name!r}; parts: {', '.join(PARTS)}; rows: {', '.join(of_clause)}")
        wanted.update([name] if name in PARTS else of_clause[name])
    return [name for name in PARTS if (name in wanted if only else not (quick and name in LONG))]


def load(file: Path) -> Run:
    """Read a run.

    Raises:
        SystemExit: If there is none in the file.
    """
    try:
        return Run.from_json(json.loads(file.read_text()))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"{file} is no run of the benchmarks: {error}")


def write_report(run: Run, others: Sequence[Run]) -> None:
    """Refresh README.md and its plots."""
    filled = blocks(run)
    if others:
        filled["agreement"] = agreement(*others)
    README.write_text(refresh(README.read_text(), filled))
    draw(run, PLOTS)


def draw(run: Run, folder: Path) -> None:
    """Draw all plots that a run has figures for."""
    if importlib.util.find_spec("matplotlib") is None:
        sys.exit("plots need matplotlib: pip install 'meshvisor[bench]'")
    from .plots import draw as draw_all

    folder.mkdir(parents=True, exist_ok=True)
    for file in draw_all(index(run.rows), folder):
        print(f"drawn: {file}", file=sys.stderr)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="ROW", action="append", default=[], help="a clause or a part")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", metavar="FILE", type=Path)
    parser.add_argument("--plots", metavar="DIR", type=Path)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--compare", metavar=("A", "B"), nargs=2, type=Path)
    return parser.parse_args(arguments)


def lines(asked: argparse.Namespace) -> Iterator[str]:
    """Do what is asked, and yield what to print."""
    others = [load(file) for file in asked.compare or ()]
    if others:
        yield comparison(*others)
    if asked.report:
        write_report(load(asked.json or LATEST), others)
    elif not others:
        parts = chosen(asked.only, asked.quick)
        machine, rows = measure(parts, asked.quick)
        if asked.json:
            asked.json.write_text(json.dumps({"machine": machine, "rows": as_json(rows)}, indent=1) + "\n")
        yield terminal([one for one in judge(index(rows)) if one.clause.part in parts])
        yield render(rows)
        if asked.plots:
            draw(Run(machine, rows), asked.plots)
        if machine["failed"]:
            sys.exit("\n".join(f"{name} failed: {why}" for name, why in machine["failed"].items()))


def main() -> None:
    """Run, report or compare."""
    for text in lines(parse()):
        print(text)


if __name__ == "__main__":
    main()
