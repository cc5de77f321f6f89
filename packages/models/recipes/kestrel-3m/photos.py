"""Write what PyTorch makes of the test photos: logits of the 8-bit weights, routed and dense, on the CPU.

    python photos.py --out out --photos ../../photos

Pillow decodes and scales in float32; nothing of this project's own code has a part in it, so that its tests have a judge.
"""

import argparse
import glob
import json
import os

import numpy as np
import torch
from PIL import Image

from model import IMAGE, Folded
from prepare import SHORTER
from train import MEAN, STD, dequantised


def pixels(path):
    picture = Image.open(path).convert("RGB")
    factor = SHORTER / min(picture.size)
    width, height = (round(side * factor) for side in picture.size)
    channels = [np.asarray(c.convert("F").resize((width, height), Image.BICUBIC)) for c in picture.split()]
    left, top = (width - IMAGE) // 2, (height - IMAGE) // 2
    x = np.stack(channels)[:, top : top + IMAGE, left : left + IMAGE].clip(0, 255) / 255
    x = (x - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    return torch.tensor(x[None], dtype=torch.float32)


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out", help="what train.py wrote")
    parser.add_argument("--photos", default="../../photos")
    args = parser.parse_args()
    model = Folded(dequantised(dict(np.load(f"{args.out}/weights.npz"))))
    with open(f"{args.out}/results.json") as f:
        classes = json.load(f)["config"]["classes"]
    lines = []
    for path in sorted(glob.glob(f"{args.photos}/*.jpg")):
        x = pixels(path)
        routed, dense = (model(x, dense=dense)[0] for dense in (False, True))
        logits = {"routed": [round(v, 4) for v in routed.tolist()], "dense": [round(v, 4) for v in dense.tolist()]}
        lines.append(json.dumps({"photo": os.path.basename(path), "class": classes[routed.argmax()], **logits}))
    with open(f"{args.photos}/logits.json", "w") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
