"""What the machines of the benchmark can do. Bytes, seconds, bytes per second; GB is 10^9.

These are figures of others, not of the extender: where its own defaults are the same, they come
from the same sources. What a machine really does is drawn around them, so that no policy that
estimates is told the truth.
"""

from __future__ import annotations

import msgspec

GB = 10**9


class Hardware(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster of equal machines, but for their disks.

    ``machines``, ``gpus``: 16 machines of 8 GPUs, the size of the DGX and p5 classes.

    ``disk_bytes``: 640 GB of each machine's disk for models. The size is chosen so that a catalogue
    of 20 models fits on most machines and one of 200 fits once, which is where placement matters.

    ``page_cache_bytes``: 200 GB of the 1 to 2 TB of such machines; the rest belongs to pods.

    ``page_cache``: 6 GB/s with the plain reader of safetensors. Readers that prefetch reach 12
    (ServerlessLLM, Fu et al., OSDI 2024, section 7.2 has 2 to 12 GB/s by reader and device).

    ``disk``: 1 to 4 GB/s by machine, drawn evenly: one NVMe drive (2 where read by one thread, up
    to 4 where prefetched; cloud block devices are slower). Each machine's loader measures its own.

    ``hub``: 0.2 GB/s a machine from a model hub. NVIDIA's ModelExpress tells of 8 min 53 s from the
    hub for what a local disk gives in 1 min 10 s, and of 3 min 16 s from an object store.

    ``egress``: 2.5 GB/s (20 Gbit/s) for the whole cluster: what all downloads share.

    ``engine_median``, ``engine_sigma``: from weights read to serving, log-normal around 20 s. vLLM
    takes that long where its compile cache is kept, and minutes where it is not
    (vllm-project/vllm#44881; "Breaking the Ice: Analyzing Cold Start Latency in vLLM",
    arXiv:2606.07362).

    ``serving``: seconds that a pod serves, exponential; 300 is the default
    ``stabilizationWindowSeconds`` of a HorizontalPodAutoscaler that scales down.

    ``repair``: seconds until a machine that failed is back, with an empty disk.
    """

    machines: int = 16
    gpus: int = 8
    disk_bytes: int = 640 * GB
    page_cache_bytes: int = 200 * GB
    page_cache: float = 6.0 * GB
    disk: tuple[float, float] = (1.0 * GB, 4.0 * GB)
    hub: float = 0.2 * GB
    egress: float = 2.5 * GB
    engine_median: float = 20.0
    engine_sigma: float = 0.2
    serving: float = 300.0
    repair: float = 300.0


SIZES: tuple[tuple[str, int, int, int], ...] = (
    ("7b", 15 * GB, 1, 30),
    ("8b", 16 * GB, 1, 30),
    ("14b", 29 * GB, 1, 15),
    ("32b", 65 * GB, 2, 15),
    ("70b", 141 * GB, 4, 10),
)
"""Sizes of models: as names say them, bytes in bfloat16, GPUs of 80 GB that they take, and how many
of a hundred have it. Bytes are those of Qwen2.5-7B, -14B, -32B and Llama-3.1-8B and -70B on the
hub; the shares are assumed."""
