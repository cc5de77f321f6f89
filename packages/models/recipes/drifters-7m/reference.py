"""Write what PyTorch samples from the shipped weights, for tests of other runtimes.

    python reference.py --out out --reference ../../src/fixtures/drifters-7m.json

One guided sample of 256 tokens in 4 steps, float32, with the 8-bit weights. The noise is made of mulberry32 and the Box-Muller
transform, so that it need not be stored; of the latents after each step, those of four tokens are.
"""

import argparse
import json
import math

import numpy as np
import torch

import export
import scenes
from model import Drifters, rotary_tables

GRID, STEPS, SEED, TOKENS = (4, 8, 8), 4, 7, (0, 85, 170, 255)
CODE = (1, 5, 7)  # a cyan square that drifts up right


def mulberry32(seed):
    """As Random of @sparse-attention/core: numbers in [0, 1)."""
    state = seed & 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & 0xFFFFFFFF
        t = ((state ^ (state >> 15)) * (state | 1)) & 0xFFFFFFFF
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & 0xFFFFFFFF)) & 0xFFFFFFFF
        yield ((t ^ (t >> 14)) & 0xFFFFFFFF) / 2**32


def noise(count, seed):
    """`count` normal numbers, float32: of two fractions a and b, sqrt(-2 ln(1 - a)) cos(2 pi b)."""
    fractions = mulberry32(seed)
    pairs = [(next(fractions), next(fractions)) for _ in range(count)]
    return np.array([math.sqrt(-2 * math.log(1 - a)) * math.cos(2 * math.pi * b) for a, b in pairs], np.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out", help="what train.py wrote")
    parser.add_argument("--reference", default="../../src/fixtures/drifters-7m.json")
    args = parser.parse_args()
    with open(f"{args.out}/results.json") as f:
        sampling = json.load(f)["sampling"]
    model = Drifters()
    export.load_weights(model, export.dequantised(dict(np.load(f"{args.out}/weights.npz"))))
    tables = rotary_tables(GRID)
    count = len(tables[0])
    x = torch.from_numpy(noise(count * 24, SEED)).view(1, count, 24)
    codes = torch.tensor([CODE, scenes.NULL_CODE])
    shift = sampling["shift_base"] * (count / 256) ** sampling["shift_power"]
    u = np.linspace(1, 0, STEPS + 1)
    times = shift * u / (1 + (shift - 1) * u)
    steps = []
    with torch.no_grad():
        for now, after in zip(times, times[1:]):
            v = model(x.expand(2, -1, -1), torch.full((2,), now, dtype=torch.float32), codes, *tables)
            x = x + float(after - now) * (v[1:] + sampling["guidance"] * (v[:1] - v[1:]))
            steps.append([[round(float(value), 6) for value in x[0, token]] for token in TOKENS])
    result = scenes.check(scenes.to_clip(x, GRID).clamp(-1, 1), codes[:1])
    print({k: v.tolist() for k, v in result.items()})
    with open(args.reference, "w") as f:
        lines = ",\n    ".join(json.dumps(rows) for rows in steps)
        head = json.dumps({"grid": GRID, "code": CODE, "seed": SEED, "tokens": TOKENS})[1:-1]
        f.write("{\n  " + head + ',\n  "steps": [\n    ' + lines + "\n  ]\n}\n")


if __name__ == "__main__":
    main()
