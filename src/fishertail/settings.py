"""How settings are validated: keys must be known, and a boolean is not a number."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole(value: Any) -> Any:
    """Accept numbers as strings, which `snakemake --config seeds=[0]` passes, but not booleans."""
    if isinstance(value, bool):
        raise ValueError("a whole number expected")
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value


def no_boolean(value: Any) -> Any:
    """Refuse true and false, which Python treats as 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number expected")
    return value


Real = Annotated[float, BeforeValidator(no_boolean)]
PositiveInt = Annotated[int, Field(strict=True, ge=1), BeforeValidator(_whole)]
NonNegativeInt = Annotated[int, Field(strict=True, ge=0), BeforeValidator(_whole)]


class Section(BaseModel):
    """A section of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
