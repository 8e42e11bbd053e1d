"""Objects of masks: memory for a volume four times as large, and time against scipy and scikit-image in memory.

    python benchmarks/objects.py [--slices 64] [--side 512]

Each measurement is a process of its own. Times are ratios within one run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from deepscem_tui.engine import parameters as p
from deepscem_tui.engine.context import Context
import cc3d, edt, scipy.ndimage, scipy.sparse.csgraph, skimage.measure
from deepscem_tui.engine.evaluation import evaluate as evaluation
from deepscem_tui.engine.objects import clean_masks, find_objects
source, what = sys.argv[1:]
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
out = Path(source).with_name(f"out-{what.split()[0]}.tif")
if what == "find":
    parameters = p.FindObjects(input=source, out=out, csv=out.with_suffix(".csv"), overwrite=True)
    count = len(find_objects.find_objects(parameters, Context()).facts["objects"])
elif what == "find, split":
    parameters = p.FindObjects.model_validate({"input": source, "out": out, "split_touching": "3", "overwrite": True})
    count = len(find_objects.find_objects(parameters, Context()).facts["objects"])
elif what == "clean":
    parameters = p.CleanMasks.model_validate(
        {"input": source, "out": out, "smooth": "1", "fill_holes": "all", "min_size": "50", "overwrite": True})
    clean_masks.clean_masks(parameters, Context())
    count = 0
elif what == "evaluate":
    evaluation.evaluate(p.Evaluate(reference=source, segmentation=source, objects=True), Context())
    count = 0
else:
    import tifffile
    labels, count = scipy.ndimage.label(tifffile.imread(source))
    if "regionprops" in what:
        rows = [(r.area, r.centroid, r.bbox) for r in skimage.measure.regionprops(labels)]
    tifffile.imwrite(out, labels.astype("uint16"))
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"objects": count, "seconds": seconds, "more_mib": (after - before) / 1024}))
"""


def write_mask(path: Path, slices: int, side: int) -> None:
    """Balls of many sizes on a jittered grid, some touching, about an eighth of the volume; written slab by slab."""
    random, step = np.random.default_rng(0), 32
    y, x = np.ogrid[:side, :side]
    with tifffile.TiffWriter(path) as file:
        for first in range(0, slices, step):
            centres = [
                (first + random.integers(8, 24), *(place + random.integers(-9, 10, 2)), random.integers(5, 15))
                for place in np.stack(np.meshgrid(*[np.arange(16, side, step)] * 2), -1).reshape(-1, 2)
            ]
            for z in range(first, min(first + step, slices)):
                plane = np.zeros((side, side), np.uint8)
                for cz, cy, cx, radius in centres:
                    if (rest := radius**2 - (z - cz) ** 2) > 0:
                        rows, columns = (slice(max(0, c - radius), c + radius + 1) for c in (cy, cx))
                        plane[rows, columns] |= (y[rows] - cy) ** 2 + (x[:, columns] - cx) ** 2 < rest
                file.write(plane * 255, contiguous=True)


def measured(path: Path, what: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path), what], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--side", type=int, default=512)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.tif", Path(folder) / "large.tif"
        write_mask(small, given.slices, given.side)
        write_mask(large, 4 * given.slices, given.side)
        voxels = given.slices * given.side**2
        print(f"{voxels / 1e6:.0f} and {4 * voxels / 1e6:.0f} million voxels")
        for what in ("find", "find, split", "clean", "evaluate"):
            one, four = measured(small, what), measured(large, what)
            print(
                f"{what}: {one['more_mib']:.0f} and {four['more_mib']:.0f} MiB more, ratio "
                f"{four['more_mib'] / one['more_mib']:.2f}; {four['seconds']:.1f} s for the larger"
            )
        ours = measured(large, "find")
        for what in ("scipy label", "scipy label and regionprops"):
            theirs = measured(large, what)
            times, memory = ours["seconds"] / theirs["seconds"], ours["more_mib"] / theirs["more_mib"]
            print(
                f"{what}: {theirs['objects']} objects (here {ours['objects']}), {theirs['seconds']:.1f} s; "
                f"find takes {times:.2f} times as long and {memory:.2f} times the memory"
            )


if __name__ == "__main__":
    main()
