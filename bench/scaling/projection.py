"""What many fits take on many devices, from figures of one of them."""

from dataclasses import dataclass

__all__ = ["Single", "projected", "roofline"]

# Devices that share a host: its memory, its cores and its disk.
PER_HOST = 8
# What goes on at the same time, and what is said of the slowest, which holds the others.
SAYS = {
    "devices": "nothing: the devices are what is waited for",
    "transfer": "the bus to the devices",
    "cores": "the cores, with the fits that devices leave to them",
    "files": "writing the files",
}


@dataclass(frozen=True)
class Single:
    """What was measured with one device and one host; bytes and seconds are of one fit.

    Attributes:
        seconds: from data to estimates in memory, on one device, what the cores finish included.
        read: bytes of data that go in.
        written: bytes of estimates that come out.
        share: part of the fits that the cores finish.
        finishing: seconds in which the cores finish one of those.
        file_bytes: what it takes in a file.
        file_seconds: writing it.
        fits_per_file: as many as ``out=`` puts into one.
        bandwidth: bytes a second of the device's memory.
        bus: bytes a second between host and device; of the host's memory if they share it.
        memory: bytes of the host's memory.
    """

    seconds: float
    read: float
    written: float
    share: float
    finishing: float
    file_bytes: float
    file_seconds: float
    fits_per_file: float
    bandwidth: float
    bus: float
    memory: float

    @property
    def device_seconds(self) -> float:
        """Of a fit on the device alone, which is never less than its memory takes."""
        least = (self.read + self.written) / self.bandwidth
        return max(self.seconds - self.share * self.finishing, least)


def roofline(one: Single) -> dict[str, float]:
    """Bytes of a fit, what the memory of a device would allow, and how near the device is to it."""
    moved = one.read + one.written
    return {
        "bytes read": one.read,
        "bytes written": one.written,
        "fits/s that the memory allows": one.bandwidth / moved,
        "fits/s on one device": 1.0 / one.device_seconds,
        "share of the memory's bandwidth": moved / one.bandwidth / one.device_seconds,
    }


def projected(one: Single, fits: float, devices: int) -> tuple[dict[str, float], str]:
    """Time, memory and files of many fits, and what breaks first.

    Every device works by itself and has a bus of its own; those of one host share all else.
    """
    hosts = -(-devices // PER_HOST)
    stages = {
        "devices": fits * one.device_seconds / devices,
        "transfer": fits * (one.read + one.written) / one.bus / devices,
        "cores": fits * one.share * one.finishing / hosts,
        "files": fits * one.file_seconds / hosts,
    }
    slowest, held = max(stages, key=stages.__getitem__), fits * one.written / hosts
    figures = {
        **{f"seconds of {stage}": seconds for stage, seconds in stages.items()},
        "seconds, all at the same time": stages[slowest],
        "seconds, one after the other": sum(stages.values()),
        "GB of estimates on a host, without out=": held / 1e9,
        "GB of files": fits * one.file_bytes / 1e9,
        "files": -(-fits // one.fits_per_file),
    }
    over = "memory, without out=; with it " if held > one.memory else ""
    return figures, over + SAYS[slowest]
