"""The report of a sweep: one HTML page with pictures to filter, and static pictures. Needs the extra `sweep`."""

from jaxmlp.sweep.report.html_page import write_pictures, write_report

__all__ = ["write_pictures", "write_report"]
