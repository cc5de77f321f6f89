"""Train kestrel-3m on one GPU, by the clock.

    python train.py --data data --out out --seconds 470

`--data` is what prepare.py wrote. All pictures lie on the GPU as bytes, and are cropped, turned and coloured there. Written to
--out: weights.npz (8-bit weights, scales, and what stays f32), weights_f16.npz (as trained), reference.npz (held-out pictures
with the logits of the 8-bit weights, which export.py checks the graph against), results.json, held_out.png. Training never looks at the held-out pictures; the log does.
"""

import argparse
import io
import json
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from model import DEPTHS, DIMS, HEAD_DIM, IMAGE, MLP_RATIO, REGIONS, TOP_K, Folded, Kestrel, fold

STARTED = time.time()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CANVAS = 240  # pixels: no prepared picture is larger


def log(*parts):
    print(f"[{time.time() - STARTED:6.1f}]", *parts, flush=True)


# ----------------------------------------------------------------------------------------------------------- data


class Pictures:
    """Some of the pictures, on the device. `canvas` u8 [n, 3, CANVAS, CANVAS], each picture in its upper left corner;
    `sizes` [n, 2] is width and height; `labels` [n]."""

    def __init__(self, folder, entries, device):
        with open(f"{folder}/pictures.bin", "rb") as f:
            packed = f.read()

        def decoded(entry):
            picture = Image.open(io.BytesIO(packed[entry["offset"] : entry["offset"] + entry["bytes"]]))
            return np.array(picture.convert("RGB")).transpose(2, 0, 1)

        self.canvas = torch.zeros(len(entries), 3, CANVAS, CANVAS, dtype=torch.uint8)
        with ThreadPoolExecutor() as pool:
            for i, pixels in enumerate(pool.map(decoded, entries)):
                self.canvas[i, :, : pixels.shape[1], : pixels.shape[2]] = torch.from_numpy(pixels)
        self.canvas = self.canvas.to(device)
        self.sizes = torch.tensor([[e["width"], e["height"]] for e in entries], dtype=torch.float32, device=device)
        self.labels = torch.tensor([e["label"] for e in entries], device=device)
        self.names = [e["name"] for e in entries]

    def centres(self, indices):
        """The middle 160×160, normalised: what inference sees, since the shorter side is scaled already."""
        left, top = ((self.sizes[indices] - IMAGE) / 2).floor().long().unbind(1)
        step = torch.arange(IMAGE, device=indices.device)
        rows, columns = (top[:, None] + step)[:, None, :, None], (left[:, None] + step)[:, None, None, :]
        channel = torch.arange(3, device=indices.device)[None, :, None, None]
        return normalised(self.canvas[indices[:, None, None, None], channel, rows, columns].float() / 255)


def constant(values, like):
    return torch.tensor(values, device=like.device).view(1, 3, 1, 1)


def normalised(x):
    return (x - constant(MEAN, x)) / constant(STD, x)


def uniform(n, low, high, device):
    return torch.rand(n, device=device) * (high - low) + low


def crops(pictures, indices):
    """Random crops of 20 to 100 % of each picture, turned by up to 15°, half of them mirrored, brought to 160×160, in 0..1."""
    n, device = len(indices), indices.device
    size = pictures.sizes[indices]
    area = size.prod(1) * uniform(n, 0.2, 1, device)
    aspect = uniform(n, math.log(3 / 4), math.log(4 / 3), device).exp()
    extent = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], 1).minimum(size)
    middle = extent / 2 + torch.rand(n, 2, device=device) * (size - extent)
    angle = uniform(n, -math.pi / 12, math.pi / 12, device) * (torch.rand(n, device=device) < 0.5)
    mirror = torch.where(torch.rand(n, device=device) < 0.5, -1.0, 1.0)
    line = (torch.arange(IMAGE, device=device) + 0.5) / IMAGE - 0.5
    x = line[None, None, :] * (extent[:, 0] * mirror)[:, None, None]
    y = line[None, :, None] * extent[:, 1, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    place = torch.stack([cos * x - sin * y, sin * x + cos * y], -1) + middle[:, None, None]
    # What a turned crop would take from beside the picture is its edge.
    place = place.maximum(torch.tensor(0.5, device=device)).minimum(size[:, None, None] - 0.5)
    source = pictures.canvas[indices].float() / 255
    return F.grid_sample(source, place / CANVAS * 2 - 1, align_corners=False)


def coloured(x):
    """Brightness, contrast, saturation and hue at random; some pictures grey; some with a grey patch over them."""
    n, device = len(x), x.device
    one = lambda low, high: uniform(n, low, high, device).view(-1, 1, 1, 1)
    x = x * one(0.6, 1.4)
    x = (x - x.mean((1, 2, 3), keepdim=True)) * one(0.6, 1.4) + x.mean((1, 2, 3), keepdim=True)
    # In YIQ, saturation is a factor on the last two axes and hue an angle between them.
    to = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]], device=device)
    saturation = uniform(n, 0.5, 1.5, device) * (torch.rand(n, device=device) > 0.1)
    hue = uniform(n, -0.3, 0.3, device)
    cos, sin, zero = saturation * hue.cos(), saturation * hue.sin(), torch.zeros_like(hue)
    turn = torch.stack([torch.ones_like(hue), zero, zero, zero, cos, -sin, zero, sin, cos], 1).view(n, 3, 3)
    x = torch.einsum("nij,njhw->nihw", torch.linalg.inv(to) @ turn @ to, x).clamp(0, 1)
    side, rest = uniform(n, 0.1, 0.45, device), torch.rand(n, 2, device=device)
    line = torch.arange(IMAGE, device=device) / IMAGE
    inside = lambda at: (line > at[:, None]) & (line < (at + side)[:, None])
    patch = inside(rest[:, 0] * (1 - side))[:, None, :, None] & inside(rest[:, 1] * (1 - side))[:, None, None, :]
    patch &= (torch.rand(n, device=device) < 0.25).view(-1, 1, 1, 1)
    return torch.where(patch, constant(MEAN, x), x)


def mixed(x, targets):
    """Mixup (half of the batches) or CutMix with the batch turned around. targets [n, classes]"""
    n, device = len(x), x.device
    if torch.rand(()) < 0.5:
        share = torch.distributions.Beta(0.4, 0.4).sample((n,)).to(device)
        x = x * share.view(-1, 1, 1, 1) + x.flip(0) * (1 - share).view(-1, 1, 1, 1)
    else:
        side, at = (1 - torch.rand(n, device=device)).sqrt(), torch.rand(n, 2, device=device)
        line = torch.arange(IMAGE, device=device) / IMAGE
        inside = lambda c: (line - c[:, None]).abs() < side[:, None] / 2
        window = inside(at[:, 0])[:, None, :, None] & inside(at[:, 1])[:, None, None, :]
        x = torch.where(window, x.flip(0), x)
        share = 1 - window.float().mean((1, 2, 3))
    return x, targets * share[:, None] + targets.flip(0) * (1 - share)[:, None]


# ------------------------------------------------------------------------------------------------- 8-bit weights


def quantise(weights):
    """Matrices and convolutions as int8, symmetric, one scale for an output channel; biases and norms are left alone."""
    stored = {}
    for name, w in weights.items():
        if w.ndim < 2:
            stored[name] = w
            continue
        scale = (np.maximum(np.abs(w).reshape(len(w), -1).max(1), 1e-12) / 127).astype(np.float32)
        each = scale.reshape(-1, *[1] * (w.ndim - 1))
        stored[name], stored[f"{name}.scale"] = np.clip(np.rint(w / each), -127, 127).astype(np.int8), scale
    return stored


def dequantised(stored):
    weights = {}
    for name, w in stored.items():
        if not name.endswith(".scale"):
            scale = stored.get(f"{name}.scale")
            weights[name] = w if scale is None else w.astype(np.float32) * scale.reshape(-1, *[1] * (w.ndim - 1))
    return weights


# ----------------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def logits_of(model, pictures, dense, autocast=False, rows=256):
    device = pictures.labels.device
    out = []
    for i in range(0, len(pictures.labels), rows):
        x = pictures.centres(torch.arange(i, min(i + rows, len(pictures.labels)), device=device))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            out.append(model(x, dense).float())
    return torch.cat(out)


def rates(logits, labels, classes):
    """Share of pictures whose class is the likeliest, among the five likeliest, and the first's mean over the classes."""
    best = logits.topk(5).indices == labels[:, None]
    first = best[:, 0].float()
    counts = torch.bincount(labels, minlength=classes)
    means = torch.bincount(labels, first, minlength=classes)[counts > 0] / counts[counts > 0]
    return {
        "top_1": round(first.mean().item(), 4),
        "top_5": round(best.any(1).float().mean().item(), 4),
        "mean_class_top_1": round(means.mean().item(), 4),
    }


# ------------------------------------------------------------------------------------------------------- training


class Average:
    """Moving average of all floats of a model, statistics of batch norms among them."""

    def __init__(self, model, decay):
        self.decay, self.steps = decay, 0
        self.pairs = [(v, v.detach().clone()) for v in model.state_dict().values() if v.is_floating_point()]

    @torch.no_grad()
    def update(self):
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_([mean for _, mean in self.pairs], [now.detach() for now, _ in self.pairs], 1 - decay)

    @torch.no_grad()
    def swap(self):
        for now, mean in self.pairs:
            kept = now.clone()
            now.copy_(mean)
            mean.copy_(kept)


def optimizer_of(model, lr):
    """Weight decay for matrices and convolutions only."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.08}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), fused=model.head.weight.is_cuda)


def train(model, pictures, held, args, classes):
    device = pictures.labels.device
    on_gpu = device.type == "cuda"
    average, optimizer = Average(model, 0.998), optimizer_of(model, args.lr)
    # Between all pictures alike and all classes alike: a third of the pictures is of six classes.
    chances = torch.bincount(pictures.labels, minlength=classes).float().rsqrt()[pictures.labels]

    def loss_of(x, targets):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=on_gpu):
            logits = model(x)
        return -(targets * logits.float().log_softmax(1)).sum(1).mean()

    def step():
        indices = torch.multinomial(chances, args.batch, replacement=True)
        targets = F.one_hot(pictures.labels[indices], classes).float() * 0.9 + 0.1 / classes
        x, targets = mixed(normalised(coloured(crops(pictures, indices))), targets)
        loss = loss_of(x, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update()
        return loss

    def report(name, share):
        model.eval()
        average.swap()
        held_out = rates(logits_of(model, held, False, on_gpu), held.labels, classes)
        log(f"step {name} at {share:.0%}, loss {running:.3f}, held out {held_out}")
        average.swap()
        model.train()

    model.train()
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for _ in range(2):
        running = step().item()  # kernels are chosen; the clock starts after it
    log("warm")
    start, steps, shown = time.time(), 0, 0.0
    length = min(args.seconds, args.end - (start - STARTED))
    while (share := (time.time() - start) / length) < 1:
        rate = args.lr * min(1, (steps + 1) / 300) * (0.5 + 0.5 * math.cos(math.pi * share))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = step()
        steps += 1
        if steps % 50 == 0:
            running += 0.1 * (loss.item() - running)
            if not math.isfinite(running):
                raise SystemExit("the loss is no number")
        if share > shown + 0.1:
            shown = share
            report(steps, share)
    report(steps, 1)
    average.swap()
    log(steps, "steps,", round(steps * args.batch / len(pictures.labels)), "pictures of each, about")
    return {"steps": steps, "batch": args.batch, "seconds": round(time.time() - start)}


def sheet(path, pictures, logits, classes, columns=12, rows=6):
    """A picture of some held-out ones with their class and what they were taken for, to look at."""
    chosen = logits.argmax(1)
    order = torch.argsort((chosen == pictures.labels).float(), stable=True).tolist()
    order = order[:: max(1, len(order) // (columns * rows))][: columns * rows]
    board = Image.new("RGB", (columns * 124, rows * 150), "white")
    draw = ImageDraw.Draw(board)
    for i, n in enumerate(order):
        width, height = (int(s) for s in pictures.sizes[n].tolist())
        small = Image.fromarray(pictures.canvas[n].cpu().numpy().transpose(1, 2, 0)[:height, :width]).resize((120, 120))
        x, y = i % columns * 124, i // columns * 150
        board.paste(small, (x, y))
        draw.text((x, y + 121), classes[pictures.labels[n]][:20], fill="black")
        draw.text((x, y + 134), classes[chosen[n]][:20], fill="green" if chosen[n] == pictures.labels[n] else "red")
    board.save(path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="data")
    parser.add_argument("--out", default="out")
    parser.add_argument("--seconds", type=float, default=470, help="of training, evaluation not counted")
    parser.add_argument("--end", type=float, default=1e9, help="training ends that many seconds after the start at the latest")
    parser.add_argument("--batch", type=int, default=384)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="use every n-th picture, to try the script")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with open(f"{args.data}/pictures.json") as f:
        index = json.load(f)
    classes, entries = index["classes"], index["pictures"][:: args.limit]
    pictures = Pictures(args.data, [e for e in entries if not e["held_out"]], device)
    held = Pictures(args.data, [e for e in entries if e["held_out"]], device)
    model = Kestrel(drop=0.15, classes=len(classes)).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    log(len(pictures.labels), "pictures to train on,", len(held.labels), "held out,", parameters, "parameters, seed", args.seed)
    run = train(model, pictures, held, args, len(classes))

    model.eval()
    floats = fold(model)
    stored = quantise(floats)
    np.savez(f"{args.out}/weights.npz", **stored)
    np.savez(f"{args.out}/weights_f16.npz", **{name: w.astype(np.float16) for name, w in floats.items()})
    results = {"parameters": parameters, "run": run, "seed": args.seed, "held_out": len(held.labels), "accuracy": {}}
    results["torch"], results["device"] = torch.__version__, torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    for bits, weights in (("f32", floats), ("int8", dequantised(stored))):
        folded = Folded(weights).to(device)
        outcomes = {name: logits_of(folded, held, dense) for name, dense in (("routed", False), ("dense", True))}
        same = (outcomes["routed"].argmax(1) == outcomes["dense"].argmax(1)).float().mean().item()
        results["accuracy"][bits] = {n: rates(o, held.labels, len(classes)) for n, o in outcomes.items()}
        results["accuracy"][bits]["same_top_1"] = round(same, 4)
        log(bits, results["accuracy"][bits])
    counts, right = torch.bincount(held.labels, minlength=len(classes)), outcomes["routed"].argmax(1) == held.labels
    results["classes"] = {
        name: [int(right[held.labels == i].sum()), int(counts[i])] for i, name in enumerate(classes)
    }
    some = torch.arange(0, len(held.labels), max(1, len(held.labels) // 8), device=device)[:8]
    np.savez(
        f"{args.out}/reference.npz",
        pictures=held.centres(some).cpu().numpy(),
        **{name: o[some].cpu().numpy() for name, o in outcomes.items()},
    )
    shape = dict(image=IMAGE, dims=DIMS, depths=DEPTHS, top_k=TOP_K, regions=REGIONS, head_dim=HEAD_DIM, mlp_ratio=MLP_RATIO)
    results["config"] = {**shape, "mean": MEAN, "std": STD, "classes": classes}
    with open(f"{args.out}/results.json", "w") as f:
        json.dump(results, f, indent=1)
    sheet(f"{args.out}/held_out.png", held, outcomes["routed"], classes)
    log("done")


if __name__ == "__main__":
    main()
