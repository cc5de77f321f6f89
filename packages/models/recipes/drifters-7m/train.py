"""Train drifters-7m on clips that are made as it goes.

    torchrun --nproc-per-node=3 train.py --out out --seconds 560

Any number of GPUs, one process each; without torchrun it is one, and without a GPU the CPU (for trying it: `--toy`). `--seconds` is the
wall-clock limit of the whole run: training ends `--reserve` seconds before it, the rest evaluates the 8-bit weights.

Written to --out: weights.npz (f16), model.onnx and config.json (export.py), results.json, samples.png.
"""

import argparse
import json
import math
import os
import random
import sys
import time
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image

import export
import scenes
from model import CONFIG, Drifters, rotary_tables

STARTED = time.time()
RANK, RANKS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if CUDA else torch.device("cpu")

DEFAULT_GRID = (8, 32, 32)
GRIDS = [(4, 8, 8), (8, 8, 8), (4, 16, 16), (8, 16, 16), (8, 24, 24), DEFAULT_GRID]
# (share of the training time at which the stage ends, share of its time for each grid)
CURRICULUM = [
    (0.30, [0.15, 0.25, 0.20, 0.40, 0.00, 0.00]),
    (0.55, [0.08, 0.10, 0.07, 0.30, 0.45, 0.00]),
    (1.01, [0.05, 0.07, 0.03, 0.05, 0.05, 0.75]),
]
# For a run that goes on from trained weights.
SAMPLING_AGAIN = (3.0, 2.0)  # guidance and shift that the first run chose
CURRICULUM_AGAIN = [(1.01, [0.05, 0.08, 0.02, 0.05, 0.05, 0.75])]
# Steps of the sampler that a grid is judged at.
STEPS = {(4, 8, 8): 4, (8, 8, 8): 8}
DEFAULT_STEPS = 30
SHIFT_POWER = 0.4


def tokens_of(grid):
    return math.prod(grid)


def log(*parts):
    if RANK == 0:
        print(f"[{time.time() - STARTED:6.1f}]", *parts, flush=True)


def agree(value):
    """Rank 0's number, on every rank."""
    if RANKS == 1:
        return value
    shared = torch.tensor([float(value)], device=DEVICE, dtype=torch.float64)
    dist.broadcast(shared, 0)
    return shared.item()


def mean_over_ranks(tensor):
    """In place."""
    if RANKS > 1:
        dist.all_reduce(tensor)
        tensor /= RANKS
    return tensor


def autocast():
    return torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=CUDA)


TABLES = {}


def tables(grid):
    if grid not in TABLES:
        TABLES[grid] = tuple(t.to(DEVICE) for t in rotary_tables(grid))
    return TABLES[grid]


# ------------------------------------------------------------------------------------------------------- training


def flow_times(count, grid, generator):
    """Logit-normal, shifted towards noise for large grids, whose layout is decided earlier; 15 % uniform."""
    shift = 2 * (tokens_of(grid) / 256) ** SHIFT_POWER
    t = torch.sigmoid(1.3 * torch.randn(count, device=DEVICE, generator=generator))
    t = shift * t / (1 + (shift - 1) * t)
    uniform = torch.rand(count, device=DEVICE, generator=generator)
    return torch.where(torch.rand(count, device=DEVICE, generator=generator) < 0.15, uniform, t)


def flow_loss(model, blocks, grid, batch, generator):
    with torch.no_grad():
        f, h, w = grid
        code = scenes.random_codes(batch, DEVICE, generator)
        video = scenes.to_tokens(scenes.render(code, 2 * f, 2 * h, 2 * w, generator))
        null = torch.tensor(scenes.NULL_CODE, device=DEVICE)
        code = torch.where(torch.rand(batch, 1, device=DEVICE, generator=generator) < 0.1, null, code)
        t = flow_times(batch, grid, generator)
        noise = torch.randn(video.shape, device=DEVICE, generator=generator)
        noisy = torch.lerp(video, noise, t[:, None, None])
    with autocast():
        velocity = model(noisy, t, code, *tables(grid), blocks=blocks)
    return F.mse_loss(velocity.float(), noise - video)


class Trainer:
    def __init__(self, model, args):
        self.model, self.args, self.step = model, args, 0
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=CUDA)
        self.average = [p.detach().clone() for p in self.parameters]
        self.generator = torch.Generator(DEVICE).manual_seed(1000 * args.seed + RANK)
        self.blocks = None

    def batch(self, grid):
        n = tokens_of(grid)
        return max(1, (self.args.tokens if n > 1024 else self.args.tokens // 2) // n)

    def losses(self, grid, steps, share):
        """Some steps; their mean loss over steps and ranks."""
        total = torch.zeros((), device=DEVICE)
        for _ in range(steps):
            rate = min(1.0, (self.step + 1) / self.args.warmup) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))
            for group in self.optimizer.param_groups:
                group["lr"] = self.args.lr * rate
            loss = flow_loss(self.model, self.blocks, grid, self.batch(grid), self.generator)
            loss.backward()
            self.update()
            total += loss.detach()
        return mean_over_ranks(total / steps).item()

    def update(self):
        gradients = [p.grad for p in self.parameters]
        flat = mean_over_ranks(torch.cat([g.reshape(-1) for g in gradients]))
        norm = flat.norm()
        # Clipped to 1; a step with a gradient that is not finite changes nothing but the optimizer's averages.
        flat = torch.where(norm.isfinite(), flat * (1 / norm.clamp(min=1.0)), torch.zeros_like(flat))
        for p, part in zip(self.parameters, flat.split([g.numel() for g in gradients])):
            p.grad = part.view_as(p)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.args.average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)

    def compile(self):
        """Compiled blocks, one specialisation a grid; eager ones where that fails."""
        if not CUDA or self.args.eager:
            return
        blocks = [torch.compile(b, dynamic=False) for b in self.model.blocks]
        for grid in GRIDS:
            began = time.time()
            worked = 1
            try:
                for _ in range(2):
                    flow_loss(self.model, blocks, grid, self.batch(grid), self.generator).backward()
                torch.cuda.synchronize()
            except Exception as error:
                print(f"rank {RANK}: compiling failed: {str(error)[:2000]}", file=sys.stderr, flush=True)
                worked = 0
            self.optimizer.zero_grad(set_to_none=True)
            if RANKS > 1:  # all or none
                ok = torch.tensor(float(worked), device=DEVICE)
                dist.all_reduce(ok, op=dist.ReduceOp.MIN)
                worked = ok.item()
            log(f"compiled for {grid}: {time.time() - began:.1f} s" if worked else "compiling failed, eager blocks from here on")
            if not worked:
                return
        self.blocks = blocks

    def weights(self):
        weights = {n: p.detach() for n, p in self.model.named_parameters()}
        weights.update(zip([n for n, p in self.model.named_parameters() if p.requires_grad], self.average))
        return {n: w.half().cpu().numpy() for n, w in weights.items()}

    def sharpen(self, guidance, base, heads, mass):
        """Raises the gain of queries, of the heads that are nearest, until `heads` heads have `mass` in a quarter of each row of
        blocks at the default grid; from then on gains stay as they are, and the rest of the network gets used to them."""
        gains = [b.qk_gain for b in self.model.blocks]
        for g in gains:
            g.requires_grad_(False)
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        for attempt in range(16):
            found = torch.tensor(block_mass(self.model, DEFAULT_GRID, guidance, base, 10, RANKS)["quarter_by_row"])
            chosen = found.flatten().sort(descending=True).indices[:heads].tolist()
            below = [divmod(i, found.shape[1]) for i in chosen if found.flatten()[i] < mass]
            log(f"sharpening {attempt}: of {heads} heads {len(below)} below {mass}, the least {found.flatten()[chosen[-1]]:.3f}")
            if not below:
                break
            for layer, head in below:
                gains[layer].data[head] *= 1.12
        self.optimizer = torch.optim.AdamW(self.parameters, lr=self.args.lr, betas=(0.9, 0.99), weight_decay=0.0, fused=CUDA)
        self.average = [p.detach().clone() for p in self.parameters]

    def train(self, end):
        curriculum = CURRICULUM_AGAIN if self.args.init else CURRICULUM
        start = saved = shown = time.time()
        stage, spent, sums, seen, broken, last = 0, [0.0] * len(GRIDS), {}, [0] * len(GRIDS), 0, {}
        while True:
            share = agree((time.time() - start) / (end - start) if end > start else 1.0)
            if share >= 1:
                break
            if share >= curriculum[stage][0]:
                stage, spent = stage + 1, [0.0] * len(GRIDS)
            # The grid that is furthest behind its share of the stage's time.
            wanted = curriculum[stage][1]
            behind = [w * (sum(spent) + 0.5) - s for w, s in zip(wanted, spent)]
            index = int(agree(behind.index(max(behind))))
            began = time.time()
            loss = self.losses(GRIDS[index], 4, share)
            broken = 0 if math.isfinite(loss) else broken + 1
            if broken == 3:
                raise SystemExit("the loss is not finite")
            if broken:
                continue
            spent[index] += time.time() - began
            seen[index] += 4 * RANKS * self.batch(GRIDS[index])
            total, count = sums.get(index, (0.0, 0))
            sums[index] = (total + loss, count + 1)
            if time.time() - shown > 5:
                shown = time.time()
                means = {f"{tokens_of(GRIDS[i])}": round(t / c, 4) for i, (t, c) in sorted(sums.items())}
                log(f"step {self.step} share {share:.3f} loss {json.dumps(means)}")
                last, sums = means, {}
            if RANK == 0 and time.time() - saved > 60:
                saved = time.time()
                export.save_weights(f"{self.args.out}/weights.npz", self.weights())
        clips = {f"{tokens_of(g)}": n for g, n in zip(GRIDS, seen)}
        log(f"trained {self.step} steps in {time.time() - start:.0f} s, clips {json.dumps(clips)}")
        return {"steps": self.step, "seconds": round(time.time() - start), "clips": clips, "ranks": RANKS, "last_loss": last}


def choose_attention():
    """The faster of two attention kernels, at 16 x 8192 tokens, forward and backward."""
    if not CUDA:
        return
    times = {}
    for name in ("flash", "cudnn"):
        torch.backends.cuda.enable_cudnn_sdp(name == "cudnn")
        torch.backends.cuda.enable_flash_sdp(name == "flash")
        try:
            q = torch.randn(8, 4, 8192, 64, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
            for i in range(8):
                if i == 3:
                    torch.cuda.synchronize()
                    start = time.time()
                out = F.scaled_dot_product_attention(q, q, q)
                out.backward(torch.ones_like(out))
            torch.cuda.synchronize()
            times[name] = (time.time() - start) / 5 * 1000
        except RuntimeError as error:
            log(name, "is not usable:", str(error).split("\n")[0][:120])
    cudnn = agree(float(times.get("cudnn", math.inf) < times.get("flash", math.inf))) == 1
    torch.backends.cuda.enable_cudnn_sdp(cudnn)
    torch.backends.cuda.enable_flash_sdp(not cudnn)
    log("attention ms", {k: round(v, 1) for k, v in times.items()}, "->", "cudnn" if cudnn else "flash")


# ----------------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def sample(model, grid, code, seeds, steps, guidance, shift, at_step=None):
    """Clips [B, 2F, 2H, 2W, 3]; each has its own seed, so a split over ranks changes nothing. `at_step(i, x, t)` may look on."""
    n = tokens_of(grid)
    x = torch.stack([torch.randn(n, 24, generator=torch.Generator().manual_seed(s)) for s in seeds]).to(DEVICE)
    null = torch.tensor(scenes.NULL_CODE, device=DEVICE).expand_as(code)
    u = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    times = (shift * u / (1 + (shift - 1) * u)).tolist()
    for i, t in enumerate(times[:-1]):
        if at_step:
            at_step(i, x, t)
        both = torch.full((2 * len(x),), t, device=DEVICE)
        with autocast():
            v = model(torch.cat([x, x]), both, torch.cat([code, null]), *tables(grid)).float()
        with_code, without = v.chunk(2)
        x = x + (times[i + 1] - t) * (without + guidance * (with_code - without))
    return scenes.to_clip(x, grid).clamp(-1, 1)


def evaluation_codes(count):
    """Codes that take every direction, colour and shape about equally often."""
    return torch.tensor([[i % 4, (i // 2) % 6, (i * 3 + i // 8) % 8] for i in range(count)])


def shift_of(base, grid):
    return base * (tokens_of(grid) / 256) ** SHIFT_POWER


def passes(model, grid, seed, steps, guidance, base, count=48):
    """How many of `count` samples pass the centroid track, by part. Every rank makes some."""
    mine = list(range(RANK, count, RANKS))
    code = evaluation_codes(count)[mine].to(DEVICE)
    sums = torch.zeros(6, device=DEVICE, dtype=torch.float64)
    if mine:
        clips = sample(model, grid, code, [seed * 1000 + i for i in mine], steps, guidance, shift_of(base, grid))
        result = scenes.check(clips, code)
        sums = torch.stack([v.double().sum() for v in result.values()]).to(DEVICE)
    if RANKS > 1:
        dist.all_reduce(sums)
    names = ["passed", "one_shape", "moves", "direction", "colour", "angle_error"]
    values = dict(zip(names, sums.tolist()))
    return {**{k: int(v) for k, v in values.items() if k != "angle_error"}, "angle_error": round(values["angle_error"] / count, 2)}


@torch.no_grad()
def block_mass(model, grid, guidance, base, steps, count, block=64):
    """Per layer and head: the share of attention mass in the quarter of the 64 x 64 blocks that hold most, chosen for each row of
    blocks (`row`) or over the whole map (`map`); and in a tenth, by row. Means over `count` samples with their codes and five
    steps of sampling."""
    layers, heads = CONFIG["num_hidden_layers"], CONFIG["num_attention_heads"]
    sums, looks = torch.zeros(3, layers, heads, device=DEVICE), torch.zeros((), device=DEVICE)
    blocks = max(1, tokens_of(grid) // block)
    block = tokens_of(grid) // blocks
    watched = {round(k * (steps - 1)) for k in (0.1, 0.3, 0.5, 0.7, 0.9)}
    mine = list(range(RANK, count, RANKS))
    code = evaluation_codes(count)

    def look(i, x, t):
        nonlocal looks
        if i not in watched:
            return
        looks += 1
        with autocast():
            c = model.condition(torch.full((1,), t, device=DEVICE), one)
            h = model.start(x, *tables(grid))
            for layer, each in enumerate(model.blocks):
                shift, scale = each.modulations(c)[:2]
                q, k, _ = each.heads(h, shift, scale, *tables(grid))
                for head in range(heads):
                    with torch.autocast(DEVICE.type, enabled=False):
                        p = (q[0, :, head].float() @ k[0, :, head].float().T / 8).softmax(-1)
                    mass = p.view(blocks, block, blocks, block).sum(3).mean(1)
                    by_row = mass.sort(1, descending=True).values
                    sums[0, layer, head] += by_row[:, : max(1, blocks // 4)].sum(1).mean()
                    sums[1, layer, head] += mass.flatten().sort(descending=True).values[: max(1, blocks * blocks // 4)].sum() / blocks
                    sums[2, layer, head] += by_row[:, : max(1, blocks // 10)].sum(1).mean()
                h = each(h, c, *tables(grid))

    for i in mine:
        one = code[i : i + 1].to(DEVICE)
        sample(model, grid, one, [70_000 + i], steps, guidance, shift_of(base, grid), look)
    if RANKS > 1:
        dist.all_reduce(sums)
        dist.all_reduce(looks)
    row, whole, tenth = (sums / looks).tolist()
    over = lambda table: sum(v >= 0.9 for heads in table for v in heads)
    rounded = lambda table: [[round(v, 3) for v in heads] for heads in table]
    return {
        "heads": layers * heads,
        "heads_with_90_percent_in_a_quarter_of_each_row": over(row),
        "heads_with_90_percent_in_a_quarter_of_the_map": over(whole),
        "quarter_by_row": rounded(row),
        "quarter_of_map": rounded(whole),
        "tenth_by_row": rounded(tenth),
    }


def strips(model, grids, guidance, base, path, rows=6):
    """Rows of eight frames of sampled clips, for each grid, enlarged to equal size."""
    pictures = []
    for grid, steps in grids:
        code = evaluation_codes(48)[[0, 9, 18, 27, 37, 46][:rows]].to(DEVICE)
        clips = sample(model, grid, code, [5000 + i for i in range(len(code))], steps, guidance, shift_of(base, grid))
        frames = clips[:, :: max(1, clips.shape[1] // 8)][:, :8]
        pixels = ((frames + 1) * 127.5).round().byte().cpu().numpy()
        size = 64 // pixels.shape[3] if 64 % pixels.shape[3] == 0 else 1
        for clip in pixels:
            strip = np.concatenate([f.repeat(size, 0).repeat(size, 1) for f in clip], 1)
            pictures.append(np.pad(strip, ((0, 2), (0, max(0, 512 - strip.shape[1])), (0, 0)))[:, :512])
    Image.fromarray(np.concatenate(pictures)).save(path)


def write_graph(weights, path):
    try:
        export.write(weights, path)
    except Exception as error:  # export.py can be run again from weights.npz, the training cannot
        print("export failed:", repr(error)[:2000], file=sys.stderr, flush=True)


def finish(trainer, args, deadline, training, toy=False):
    """Save, quantise, choose guidance and shift, evaluate what ships."""
    model = trainer.model
    weights = trainer.weights()
    if RANK == 0:
        export.save_weights(f"{args.out}/weights.npz", weights)
        write_graph(weights, f"{args.out}/model.onnx")
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    export.load_weights(model, export.dequantised(weights))
    grids = [(2, 4, 4)] if toy else GRIDS
    final_grid = grids[-1]
    small, count, steps = (grids[:1], 2, 2) if toy else (grids[:2], args.samples, DEFAULT_STEPS)
    results = {
        "seed": args.seed,
        "training": training,
        "versions": {"torch": torch.__version__, "device": torch.cuda.get_device_name() if CUDA else "cpu"},
    }
    left = lambda: agree(deadline - time.time())

    def write():
        if RANK == 0:
            with open(f"{args.out}/results.json.part", "w") as f:
                json.dump(results, f, indent=1)
            os.replace(f"{args.out}/results.json.part", f"{args.out}/results.json")

    # Which guidance and shift: by samples that are not the ones reported.
    tried = []
    settings = [SAMPLING_AGAIN, (3.0, 3.0), (2.0, 2.0)] if args.init else [(2.0, 3.0), (2.0, 2.0), (3.0, 3.0), (1.5, 3.0), (3.0, 2.0), (4.0, 3.0)]
    for guidance, base in settings[: 1 if toy else None]:
        if left() < 40 and tried:
            break
        found = {tokens_of(g): passes(model, g, 1, min(steps, STEPS.get(g, DEFAULT_STEPS)), guidance, base, count) for g in dict.fromkeys([*small, final_grid])}
        tried.append((guidance, base, found))
        log(f"guidance {guidance} shift {base}:", json.dumps(found))
    score = lambda found: (min(r["passed"] for r in found.values()), sum(r["passed"] for r in found.values()))
    guidance, base = max(tried, key=lambda each: score(each[2]))[:2]
    results["tried"] = [{"guidance": g, "shift_base": b, "passed": f} for g, b, f in tried]
    results["sampling"] = {"guidance": guidance, "shift_base": base, "shift_power": SHIFT_POWER, "steps": DEFAULT_STEPS}
    log("sampling", json.dumps(results["sampling"]))
    write()
    if RANK == 0:
        # Beside what the other ranks do: nothing here is shared.
        strips(model, [(g, min(steps, STEPS.get(g, DEFAULT_STEPS))) for g in [final_grid, *reversed(small)]], guidance, base, f"{args.out}/samples.png")
    results["passed"] = {}
    cases = [(g, STEPS.get(g, DEFAULT_STEPS)) for g in reversed(grids)] + [(final_grid, 15), (final_grid, 50)]
    for grid, steps in [(final_grid, 2)] if toy else cases:
        if left() < 25:
            break
        key = f"{'x'.join(map(str, grid))}, {steps} steps"
        results["passed"][key] = passes(model, grid, 2, steps, guidance, base, count)
        log(key, json.dumps(results["passed"][key]))
    write()
    if left() > 15:
        results["block_mass"] = block_mass(model, final_grid, guidance, base, 3 if toy else DEFAULT_STEPS, 1 if toy else max(4, 2 * RANKS))
        log("block mass", json.dumps(results["block_mass"]))
        write()
    if not toy and left() > 12:
        # The loss before the weights were rounded, and what rounding does to it.
        for name, state in (("8-bit", None), ("16-bit", {n: w.astype(np.float32) for n, w in weights.items()})):
            if state:
                export.load_weights(model, state)
            losses = {}
            for grid in GRIDS:
                generator = torch.Generator(DEVICE).manual_seed(99 + RANK)
                with torch.no_grad():
                    loss = sum(flow_loss(model, None, grid, max(1, trainer.batch(grid) // 2), generator) for _ in range(2)) / 2
                losses[tokens_of(grid)] = round(mean_over_ranks(loss).item(), 5)
            results.setdefault("loss", {})[name] = losses
            log("loss,", name, json.dumps(losses))
        write()
    if RANK == 0:
        try:
            path = f"{args.out}/model.onnx"
            sizes = [((2, 4, 4), 2)] if toy else [((4, 8, 8), 2), ((8, 8, 8), 1), (DEFAULT_GRID, 1)]
            results["onnx"] = {"bytes": os.path.getsize(path)}
            for grid, batch in sizes:
                if deadline - time.time() < 6:
                    break
                results["onnx"][f"{'x'.join(map(str, grid))}, batch {batch}"] = export.check(path, weights, grid, batch)
                log("ONNX", json.dumps(results["onnx"]))
                write()
        except Exception as error:
            print("checking the export failed:", repr(error)[:2000], file=sys.stderr, flush=True)
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(before[n])
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out")
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--reserve", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--init", help="a model.onnx to go on from: see README.md")
    parser.add_argument("--average", type=float, default=0.998)
    parser.add_argument("--tokens", type=int, default=131_072, help="tokens of a step on each GPU; half for small grids")
    parser.add_argument("--samples", type=int, default=48, help="clips that each setting is judged by")
    parser.add_argument("--eager", action="store_true")
    parser.add_argument("--toy", action="store_true", help="tiny grids, to try the script without a GPU")
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    deadline = STARTED + args.seconds
    if CUDA:
        torch.cuda.set_device(DEVICE)
        torch.set_num_threads(16 if RANK == 0 else 4)  # the export is checked on the CPU
    if RANKS > 1:
        dist.init_process_group("nccl" if CUDA else "gloo", timeout=timedelta(seconds=180))
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    if args.toy:
        global GRIDS, DEFAULT_GRID, DEFAULT_STEPS
        DEFAULT_STEPS = 3
        DEFAULT_GRID = (4, 8, 8)
        GRIDS = [(2, 4, 4), (4, 4, 4), (2, 8, 8), (4, 6, 6), (2, 10, 10), DEFAULT_GRID]

    model = Drifters().to(DEVICE)
    if args.init:
        export.load_weights(model, export.read_weights(args.init))
    if RANKS > 1:
        for p in model.parameters():
            dist.broadcast(p.data, 0)
    names = f"torch {torch.__version__}, {torch.cuda.get_device_name()}" if CUDA else f"torch {torch.__version__}, CPU"
    log(f"seed {args.seed}, {RANKS} ranks, {names}; {sum(p.numel() for p in model.parameters())} parameters")
    choose_attention()
    trainer = Trainer(model, args)
    # Everything that runs after the training runs once before it, small: a slip there would cost the whole training.
    finish(trainer, args, math.inf, {}, toy=True)
    log("rehearsed")
    if args.init:
        trainer.sharpen(*SAMPLING_AGAIN, heads=18, mass=0.4 if args.toy else 0.93)
    trainer.compile()
    training = trainer.train(agree(deadline) - args.reserve)
    finish(trainer, args, agree(deadline) - 8, training)
    log("done")
    if RANKS > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
