"""Run benches and write down what they found: `python -m bench --help`."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import (
    catalogue,
    employers,
    fields,
    ingest,
    ingest_large,
    ingest_news,
    ingest_sizes,
    kernel,
    load,
    memory,
    plots,
    serving,
    startup,
    train,
    train_large,
    wrk,
)
from bench.measuring import ROOT
from bench.report import DOCUMENT, FIGURES, Report, machine_facts, update_document

# A new bench is a function like these: (scratch, quick=...) -> Report
_BENCHES: dict[str, Callable[..., Report]] = {
    "ingest": ingest.run,
    "ingest-sizes": ingest_sizes.run,
    "ingest-large": ingest_large.run,
    "ingest-news": ingest_news.run,
    "train": train.run,
    "train-large": train_large.run,
    "serving": serving.run,
    "load": load.run,
    "memory": memory.run,
    "startup": startup.run,
    "employers": employers.run,
    "fields": fields.run,
    "catalogue": catalogue.run,
    "kernel": kernel.run,
}


def main() -> None:
    """Parse the arguments, and run the benches one after the other."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_BENCHES)} [all]")
    parser.add_argument("--quick", action="store_true", help="small sizes; for trying out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="keep and reuse datasets there")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(_BENCHES):
        parser.error(f"no bench {', '.join(sorted(unknown))}; there are {', '.join(_BENCHES)}")
    names = [name for name in _BENCHES if name in arguments.names or not arguments.names]
    if "serving" in names and (missing := wrk.missing()):
        parser.error(missing)  # now, and not after what goes before
    if arguments.scratch is not None:
        arguments.scratch.mkdir(parents=True, exist_ok=True)
        measured = _run(names, arguments.scratch.absolute(), quick=arguments.quick)
    else:
        with tempfile.TemporaryDirectory(prefix="jobrec-bench-") as scratch:
            measured = _run(names, Path(scratch), quick=arguments.quick)
    records = {report.name: report.record(facts) for report, facts in measured}
    if arguments.json is not None:
        _write_json(arguments.json, {"quick": arguments.quick, "benches": records})
    if arguments.quick:
        print(
            f"--quick: targets are for the full sizes; {DOCUMENT.relative_to(ROOT)} stays",
            file=sys.stderr,
        )
    else:
        for report, _ in measured:
            plots.write(FIGURES, report.name, report.plots)
            _write_json(FIGURES / f"{report.name}.json", records[report.name])
        update_document(DOCUMENT, {report.name: report.lines(facts) for report, facts in measured})
        print(f"wrote {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)


def _write_json(path: Path, content: object) -> None:
    path.write_text(f"{json.dumps(content, indent=1)}\n", encoding="utf-8")
    print(f"wrote {path}", file=sys.stderr)


def _run(names: list[str], scratch: Path, *, quick: bool) -> list[tuple[Report, dict[str, Any]]]:
    """Run benches, and print each report when it is there, with the facts of its machine."""
    measured = []
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        facts = machine_facts()
        report = _BENCHES[name](scratch, quick=quick)
        print("\n".join(report.lines(facts)), flush=True)
        measured.append((report, facts))
    return measured


if __name__ == "__main__":
    main()
