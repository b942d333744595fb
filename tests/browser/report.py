"""Results: what was expected, what was measured, whether it holds; as a table for people and as JSON for programs."""

import json
import statistics


class Report:
    """Collects checks in the order in which they were made."""

    def __init__(self):
        self.checks = []
        self.figures = {}

    def check(self, name, holds, measured, expected):
        """Notes one check and prints its line; returns whether it holds."""
        holds = bool(holds)
        self.checks.append({"name": name, "holds": holds, "measured": measured, "expected": expected})
        print(f"  {'ok  ' if holds else 'FAIL'} {name}: {measured} (expected {expected})", flush=True)
        return holds

    def part(self, name):
        """A report within this one: its checks are called after it, its figures are under its name."""
        return Part(self, name)

    def fail(self, name, error):
        """Notes that something could not be measured at all."""
        self.check(name, False, f"{type(error).__name__}: {error}", "no error")

    @property
    def passed(self):
        return sum(check["holds"] for check in self.checks)

    @property
    def failed(self):
        return len(self.checks) - self.passed

    def write(self, path):
        """Writes everything as JSON."""
        summary = {"passed": self.passed, "failed": self.failed, "figures": self.figures, "checks": self.checks}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


class Part:
    """What `Report.part` gives."""

    def __init__(self, report, name):
        self._report, self._name = report, name
        self.figures = report.figures.setdefault(name, {})

    def check(self, name, holds, measured, expected):
        return self._report.check(f"{self._name}: {name}", holds, measured, expected)


def table(headings, rows):
    """Lines of a plain table."""
    cells = [[str(cell) for cell in row] for row in [headings, *rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines


def spread(values):
    """Median and range, for a person."""
    return f"median {statistics.median(values):.0f}, from {min(values):.0f} to {max(values):.0f}"
