"""HTML pages that need no network: styles and plots are inside, text from corpora and models is escaped."""

from jinja2 import Environment, PackageLoader

from seedbed.report.text import big, duration, number, paragraphs, percent


def environment() -> Environment:
    """What templates are rendered in, those of the kinds of evaluations too."""
    made = Environment(loader=PackageLoader("seedbed.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "seconds": duration, "count": big, "number": number, "paragraphs": paragraphs}
    return made
