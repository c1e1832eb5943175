"""How large the noise of the gradient is beside its mean, and when it takes over."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

_ROUNDING = 1e-6  # of trace F: a trace of the covariance below it is the rounding of norms in float32


@dataclass(frozen=True)
class Noise:
    """The mean and the noise of the samples' gradients.

    Attributes:
        mean_norm: |mean g|.
        trace: of F, mean |g_x|^2.
    """

    mean_norm: float
    trace: float

    @property
    def covariance_trace(self) -> float:
        """tr(Sigma) = trace F - |mean g|^2, of the population covariance Sigma; NaN where a gradient is not finite."""
        if not np.isfinite(self.trace):
            return np.nan
        left = self.trace - self.mean_norm**2
        return left if left > _ROUNDING * self.trace else 0.0

    @property
    def noise_scale(self) -> float:
        """tr(Sigma) / |mean g|^2, in samples; NaN where all gradients are 0, infinite where only their mean is."""
        return _ratio(self.covariance_trace, self.mean_norm**2)

    @property
    def signal_to_noise(self) -> float:
        """|mean g| / sqrt(tr(Sigma)); NaN where all gradients are 0, infinite where all are equal."""
        return _ratio(self.mean_norm, float(np.sqrt(self.covariance_trace)))


def _ratio(above: float, below: float) -> float:
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.divide(above, below))


def crossing(steps: ArrayLike, ratios: ArrayLike) -> float:
    """The step at which a ratio first falls below 1; NaN if it never does.

    Between two checkpoints the logarithm of the ratio is linear in log(1 + step). Ratios that are NaN are left out.

    Args:
        steps: (n,) ascending.
        ratios: (n,) at these steps.
    """
    steps, ratios = np.asarray(steps, dtype=np.float64), np.asarray(ratios, dtype=np.float64)
    known = ~np.isnan(ratios)
    time, size = np.log1p(steps[known]), np.log(np.clip(ratios[known], 1e-300, 1e300))
    falls = np.flatnonzero((size[:-1] >= 0) & (size[1:] < 0))
    if not len(falls):
        return np.nan
    at = int(falls[0])
    share = size[at] / (size[at] - size[at + 1])
    return float(np.expm1(time[at] + share * (time[at + 1] - time[at])))
