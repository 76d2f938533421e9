"""What a verifier is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from hilbridge.model.errors import UsageFault


@dataclass(frozen=True, slots=True)
class Verify:
    """``Bridge(verify=Verify(fast_io=False))``: how strictly to look, and which failures to force.

    `fast_io`: whether drivers may serve requests without an IRP. With False every request is an IRP that is checked, and is
    as slow as one.

    The others are probabilities, from 0 to 1, and need a `seed`: the same seed makes the same choices, so that on the
    hand-cranked machine a run can be repeated. `low_resources`: what a driver allocates is refused with
    STATUS_INSUFFICIENT_RESOURCES (`NtStatusError`). `cancel`: a request that a driver has pended is cancelled at once.
    `delay`: the completion of a pended request happens later, on a worker. The bridge's own allocations never fail.
    """

    fast_io: bool = True
    seed: int | None = None
    low_resources: float = 0.0
    cancel: float = 0.0
    delay: float = 0.0

    def __post_init__(self) -> None:
        chances = {"low_resources": self.low_resources, "cancel": self.cancel, "delay": self.delay}
        for name, chance in chances.items():
            if not 0 <= chance <= 1:
                raise UsageFault(f"{name}={chance}: a probability is between 0 and 1")
        if self.seed is None and any(chances.values()):
            raise UsageFault("forced failures need a seed: Verify(seed=7, ...), so that the run can be repeated")
