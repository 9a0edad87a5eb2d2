"""stub"""

from typing import Any


def page_of(description: Any) -> Any:
    return description
