"""What the programs of this folder have in common: which checks are made, where their traces go, and the sum at the end."""

import shutil
import sys
import traceback

from report import Report
from webdriver import find_chromium


def choose(every, only):
    """Checks by name: all of them, or those that are named with commas."""
    return every if not only else {name: every[name] for name in only.split(",")}


def perform(arguments, make, what="setting up"):
    """Lets `make` make its checks with a new report and an empty folder for logs; returns the report, which has been written. `what` is
    the name of a failure that is no check's."""
    if None in find_chromium():
        sys.exit("chromium and chromedriver are needed: apt install chromium chromium-driver")
    shutil.rmtree(arguments.logs, ignore_errors=True)
    report = Report()
    try:
        make(report)
    except Exception as error:  # whatever it is, the sum at the end must say that something failed
        report.fail(what, error)
        traceback.print_exc(file=sys.stdout)
    report.write(arguments.json or arguments.logs / "report.json")
    return report


def conclude(report):
    """Prints the sum; returns the exit code."""
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0
