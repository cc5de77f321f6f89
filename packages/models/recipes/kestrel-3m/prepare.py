"""Scale the pictures of Caltech-101 down and pack them in two files, split into training and held-out ones.

    python prepare.py --pictures 101_ObjectCategories --out data

Needs Pillow. Writes pictures.bin, WebP files one after another, and pictures.json: the classes, and for every picture its
name, class, split, place in pictures.bin and size. BACKGROUND_Google, which is no class, is left out.
"""

import argparse
import hashlib
import io
import json
import os
from concurrent.futures import ProcessPoolExecutor

from PIL import Image

SHORTER, LONGEST = 176, 240  # pixels; the model sees 160, so a crop has room to move
HELD_OUT_SHARE, HELD_OUT_LEAST = 0.2, 6
SPLIT_SEED = "kestrel 0"


def scaled(path):
    """Shorter side to SHORTER by the filter that inference uses, the longer one cut to LONGEST around its middle."""
    picture = Image.open(path).convert("RGB")
    width, height = picture.size
    factor = SHORTER / min(width, height)
    width, height = (max(SHORTER, round(side * factor)) for side in (width, height))
    picture = picture.resize((width, height), Image.BICUBIC)
    left, top = max(0, (width - LONGEST) // 2), max(0, (height - LONGEST) // 2)
    picture = picture.crop((left, top, min(width, left + LONGEST), min(height, top + LONGEST)))
    packed = io.BytesIO()
    picture.save(packed, "WEBP", quality=50, method=4)
    return packed.getvalue(), picture.size


def held_out(names):
    """A fifth of a class, six at least: those whose names hash lowest, so that the split does not depend on any order.
    Pictures of Faces_easy are cut out of those of Faces with the same number, so these stay together."""
    count = max(HELD_OUT_LEAST, round(HELD_OUT_SHARE * len(names)))
    place = lambda name: hashlib.sha256(f"{SPLIT_SEED} {name.replace('Faces_easy/', 'Faces/')}".encode()).digest()
    return set(sorted(names, key=place)[:count])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", required=True, help="folder with a folder of JPEGs for each class")
    parser.add_argument("--out", default="data")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    classes = sorted(c for c in os.listdir(args.pictures) if c != "BACKGROUND_Google")
    entries = []
    for label, folder in enumerate(classes):
        names = [f"{folder}/{n}" for n in sorted(os.listdir(f"{args.pictures}/{folder}")) if n.endswith(".jpg")]
        held = held_out(names)
        entries += [{"name": n, "label": label, "held_out": n in held} for n in names]
    with ProcessPoolExecutor() as pool, open(f"{args.out}/pictures.bin", "wb") as f:
        paths = [f"{args.pictures}/{entry['name']}" for entry in entries]
        for entry, (packed, (width, height)) in zip(entries, pool.map(scaled, paths, chunksize=32)):
            entry.update(offset=f.tell(), bytes=len(packed), width=width, height=height)
            f.write(packed)
        size = f.tell()
    with open(f"{args.out}/pictures.json", "w") as f:
        json.dump({"classes": classes, "pictures": entries}, f)
    held = sum(entry["held_out"] for entry in entries)
    print(len(classes), "classes,", len(entries) - held, "pictures to train on,", held, "held out,", size, "bytes")


if __name__ == "__main__":
    main()
