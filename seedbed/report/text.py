"""Numbers and paragraphs as people read them."""

from seedbed.config.fields import format_count


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def number(value: float | None, digits: int = 2) -> str:
    if value is None or value != value:
        return "–"
    return f"{value:,.{digits}f}" if abs(value) < 1e7 else f"{value:.1e}"


def big(value: int) -> str:
    return format_count(value) if len(format_count(value)) < 7 else f"{value:,}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 75 is `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def paragraphs(text: str) -> list[str]:
    return [part.strip() for part in text.split("\n\n") if part.strip()]
