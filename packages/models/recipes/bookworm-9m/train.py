"""Train bookworm-9m: a 9.3M-parameter Llama that reads 16k tokens of book text and finds what was hidden there.

    python train.py --books gutenberg.tar.xz --out out --seconds 560

One process trains on one GPU; twelve make windows. `--seconds` is the wall-clock limit of the whole run: training ends
`--reserve` seconds before it, the rest evaluates the 8-bit weights and writes them. `--init DIR` goes on from the
weights of an earlier run (the optimizer starts anew).

Written to --out: weights_a.npz and weights_b.npz (f16), weights_int8.npz (what ships), reference.npz (logits that the
exported graph is checked against), tokenizer.json and tokenizer_fixture.json, results.json.
"""

import argparse
import json
import math
import multiprocessing
import os
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch.nn.attention import SDPBackend, sdpa_kernel

import tasks

STARTED = time.time()

CONFIG = dict(
    vocab_size=tasks.VOCABULARY,
    hidden_size=320,
    num_hidden_layers=8,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=64,
    intermediate_size=704,
    rope_theta=500_000.0,
    rms_norm_eps=1e-5,
    max_position_embeddings=16384,
)
TOKENS_PER_STEP = 131_072

# (share of the training time at which the stage ends, {window length: weight}). Looking back is learned at 512 tokens,
# where questions are dense, and carried to longer windows; some short ones stay to the end.
CURRICULUM = [
    (0.36, {512: 1.0}),
    (0.62, {512: 0.25, 2048: 0.75}),
    (0.84, {512: 0.2, 2048: 0.25, 8192: 0.55}),
    (1.01, {512: 0.15, 2048: 0.2, 16384: 0.65}),
]
# For a run that starts from trained weights: all lengths at once.
CURRICULUM_AGAIN = [
    (0.7, {512: 0.4, 2048: 0.3, 8192: 0.3}),
    (1.01, {512: 0.2, 2048: 0.25, 16384: 0.55}),
]
LOSS_WEIGHTS = {tasks.TEXT: 1.0, tasks.ANSWER: 1.0, tasks.REPEAT: 0.5, tasks.VALUE: 1.0, tasks.TRACE: 1.0}


def log(*parts):
    print(f"[{time.time() - STARTED:6.1f}]", *parts, flush=True)


# ---------------------------------------------------------------------------------------------------------- model


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(CONFIG["hidden_size"]))

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight.to(x.dtype), CONFIG["rms_norm_eps"])


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        d, f, hd = CONFIG["hidden_size"], CONFIG["intermediate_size"], CONFIG["head_dim"]
        self.query_heads, self.kv_heads, self.head_dim = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"], hd
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.input_norm, self.post_norm = RMSNorm(), RMSNorm()
        self.q, self.k, self.v = (linear(d, h * hd) for h in (self.query_heads, self.kv_heads, self.kv_heads))
        self.o = linear(self.query_heads * hd, d)
        self.gate, self.up, self.down = linear(d, f), linear(d, f), linear(f, d)

    def forward(self, x, cos, sin):
        B, L, _ = x.shape
        h = self.input_norm(x)
        q = self.q(h).view(B, L, self.query_heads, self.head_dim).transpose(1, 2)
        k = self.k(h).view(B, L, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(h).view(B, L, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if q.dtype == torch.float32:  # the one memory-saving kernel for float32 knows no grouped heads
            k, v = (t.repeat_interleave(self.query_heads // self.kv_heads, 1) for t in (k, v))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=k.shape[1] != self.query_heads)
        x = x + self.o(a.transpose(1, 2).reshape(B, L, -1))
        h = self.post_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Bookworm(nn.Module):
    def __init__(self):
        super().__init__()
        layers = CONFIG["num_hidden_layers"]
        self.embed = nn.Embedding(CONFIG["vocab_size"], CONFIG["hidden_size"])
        self.blocks = nn.ModuleList(Block() for _ in range(layers))
        self.norm = RMSNorm()
        for p in self.parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        for b in self.blocks:
            b.o.weight.data /= math.sqrt(2 * layers)
            b.down.weight.data /= math.sqrt(2 * layers)
        # In float64 first: at position 16383 a float32 angle is off by up to 1e-3 rad.
        half = torch.arange(0, CONFIG["head_dim"], 2, dtype=torch.float64) / CONFIG["head_dim"]
        angles = torch.outer(torch.arange(CONFIG["max_position_embeddings"] + 64).double(), CONFIG["rope_theta"] ** -half)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def hidden(self, ids, blocks=None):
        """[B, L] ids -> [B, L, D] after the last norm. `blocks` may be compiled versions of the model's own."""
        x, L = self.embed(ids), ids.shape[1]
        cos, sin = self.cos[:L], self.sin[:L]
        for block in blocks or self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, hidden):
        return (hidden @ self.embed.weight.to(hidden.dtype).T).float()


@torch.compile(dynamic=False)
def class_sums(hidden, embedding, targets, classes):
    """Sum of the cross entropy of each class of target. [N, D], [V, D], [N], [N] -> [classes]"""
    logits = (hidden @ embedding.to(hidden.dtype).T).float()
    losses = F.cross_entropy(logits, targets, reduction="none")
    return torch.stack([(losses * (classes == c)).sum() for c in range(len(tasks.CLASS_NAMES))])


def class_means(model, blocks, windows, classes):
    """Mean loss of every class over a batch [B, L + 1]; 0 for a class that the batch lacks."""
    hidden = model.hidden(windows[:, :-1], blocks).reshape(-1, CONFIG["hidden_size"])
    targets, kinds = windows[:, 1:].reshape(-1), classes[:, 1:].reshape(-1)
    half = targets.numel() // 2  # two parts: the logits of a whole batch would take 2 GB several times over
    sums = sum(class_sums(hidden[s], model.embed.weight, targets[s], kinds[s]) for s in (slice(0, half), slice(half, None)))
    counts = torch.stack([(kinds == c).sum() for c in range(len(tasks.CLASS_NAMES))]).clamp(min=1)
    return sums / counts


# ------------------------------------------------------------------------------------------------------ optimizer


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised by five Newton-Schulz steps (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/). Matrices of one shape are updated together."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.01):
        groups = {}
        for p in params:
            groups.setdefault(p.shape, []).append(p)
        super().__init__([{"params": g} for g in groups.values()], dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            params = group["params"]
            grads = torch.stack([p.grad for p in params])
            state = self.state[params[0]]
            buffer = state.setdefault("momentum", torch.zeros_like(grads))
            buffer.lerp_(grads, 1 - group["momentum"])
            update = orthogonalise(grads.lerp(buffer, group["momentum"]))
            rows, columns = params[0].shape
            step = group["lr"] * max(1, rows / columns) ** 0.5
            for p, u in zip(params, update.unbind()):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u.to(p.dtype), alpha=-step)


def orthogonalise(g):
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.02 + 1e-7)
    for _ in range(5):
        y = x @ x.mT
        x = a * x + (b * y + c * y @ y) @ x
    return x.mT if tall else x


# --------------------------------------------------------------------------------------------------- quantisation


def quantise(weights):
    """{name: f32 array} -> {name: int8} and {name: f32 scales}, symmetric, one scale for an output channel.
    Matrices are [out, in]; the embedding has one scale a token. Norms are left alone."""
    quantised, scales = {}, {}
    for name, w in weights.items():
        if w.ndim == 2:
            scale = np.maximum(np.abs(w).max(1), 1e-12) / 127
            quantised[name] = np.clip(np.rint(w / scale[:, None]), -127, 127).astype(np.int8)
            scales[name] = scale.astype(np.float32)
    return quantised, scales


def weights_of(model):
    return {k: v.detach().float().cpu().numpy() for k, v in model.state_dict().items()}


def load_weights(model, weights):
    model.load_state_dict({k: torch.from_numpy(np.asarray(v, dtype=np.float32)) for k, v in weights.items()})


def dequantised(weights):
    quantised, scales = quantise(weights)
    return {k: quantised[k].astype(np.float32) * scales[k][:, None] if k in quantised else w for k, w in weights.items()}


# ----------------------------------------------------------------------------------------------------- evaluation


EVALUATION_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]


@torch.no_grad()
@sdpa_kernel(EVALUATION_KERNELS)
def accuracy(model, task, text, lines, length, count, dtype=torch.bfloat16):
    """Share of `count` prompts answered exactly. The whole answer is fed and every next token must be the most likely
    one: that is what greedy decoding would have written."""
    prompts, answers = tasks.evaluation_set(task, text, lines, length, count)
    rows, right, size = max(1, TOKENS_PER_STEP // length), 0, answers.shape[1]
    for i in range(0, count, rows):
        ids = torch.from_numpy(np.concatenate([prompts[i : i + rows], answers[i : i + rows]], 1)).cuda()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = model.hidden(ids[:, :-1])[:, -size:]
        right += int((model.logits(hidden.float()).argmax(-1) == ids[:, -size:]).all(1).sum())
    return right / count


@torch.no_grad()
@sdpa_kernel(EVALUATION_KERNELS)
def bits_per_byte(model, text, token_bytes, length, spans=24, dtype=torch.bfloat16):
    """Over `spans` stretches of 16 384 held-out tokens, spread evenly and cut into windows of `length` that start with
    BOS: the same tokens are scored at every length."""
    nats, size, long = 0.0, 0, CONFIG["max_position_embeddings"]
    for i in range(spans):
        start = i * (len(text) - long) // spans
        targets = torch.from_numpy(text[start : start + long].astype(np.int64)).cuda().view(-1, length)
        ids = torch.cat([torch.full_like(targets[:, :1], tasks.BOS), targets[:, :-1]], 1)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            hidden = model.hidden(ids)
        nats += float(F.cross_entropy(model.logits(hidden.float()).flatten(0, 1), targets.flatten(), reduction="sum"))
        size += int(token_bytes[text[start : start + long]].sum())
    return nats / math.log(2) / size


FINAL_CASES = [
    ("needle", 2048), ("needle", 4096), ("needle", 8192), ("needle", 16384), ("multi_key", 4096),
    ("tracking_value", 4096), ("tracking_trace", 4096), ("tracking_value_4_chains", 4096),
    ("multi_key", 2048), ("tracking_value", 2048), ("tracking_trace", 2048), ("tracking_trace_4_chains", 4096),
    ("needle", 1024), ("multi_key", 1024), ("tracking_value", 1024), ("tracking_trace", 1024),
    ("multi_key", 8192), ("tracking_value", 8192), ("tracking_trace", 8192),
    ("multi_key", 16384), ("tracking_value", 16384), ("tracking_trace", 16384),
]  # fmt: skip


def final_evaluation(model, data, deadline, count=100, spans=24, cases=FINAL_CASES, lengths=(1024, 4096, 16384)):
    """Rates of the loaded weights in float32 arithmetic; stops when the time is over and says so."""
    results = {"bits_per_byte": {}, "accuracy": {}}
    for length in lengths:
        results["bits_per_byte"][length] = round(
            bits_per_byte(model, data.held, data.token_bytes, length, spans, torch.float32), 4
        )
    for task, length in cases:
        if time.time() > deadline:
            log("out of time: not measured", task, length)
            continue
        rate = accuracy(model, task, data.held, data.lines, length, count, torch.float32)
        results["accuracy"].setdefault(task, {})[length] = rate
    return results


# ---------------------------------------------------------------------------------------------------------- data


class Data:
    def __init__(self, books_path, tokenizer_path):
        books = tasks.read_books(books_path)
        training = [text for name, text in sorted(books.items()) if name not in tasks.HELD_OUT]
        held = [books[name] for name in tasks.HELD_OUT]
        if not os.path.exists(tokenizer_path):
            tasks.train_tokenizer(training, tokenizer_path)
        self.tokenizer = Tokenizer.from_file(tokenizer_path)
        self.lines = tasks.Lines(self.tokenizer)
        self.train = tasks.encode_books(self.tokenizer, training)
        self.held = tasks.encode_books(self.tokenizer, held)
        # A piece that is not whole UTF-8 decodes to U+FFFD, so sizes come from the byte-level alphabet: one character
        # of a token is one byte. BOS scores as no byte.
        self.token_bytes = np.array([len(self.tokenizer.id_to_token(i)) for i in range(tasks.VOCABULARY)])
        self.token_bytes[tasks.BOS] = 0


def make_batches(queue, mixture, windows, seed):
    """Runs in a process of its own: batches of the lengths and weights that `mixture` holds at the time."""
    r = random.Random(seed)
    while True:
        now = mixture[:]
        length = r.choices(now[:4], now[4:])[0]
        rows, kinds = zip(*[windows.sample(length, r) for _ in range(TOKENS_PER_STEP // length)])
        queue.put((length, np.stack(rows), np.stack(kinds)))


def set_mixture(mixture, weights):
    pairs = list(weights.items()) + [(512, 0.0)] * (4 - len(weights))
    mixture[:] = [p[0] for p in pairs] + [int(p[1] * 100) for p in pairs]


# ------------------------------------------------------------------------------------------------------- training


def choose_attention():
    """cuDNN's or flash's attention kernel, whichever is faster here at 8192 tokens, forward and backward."""
    times = {}
    for name, cudnn in (("flash", False), ("cudnn", True)):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        torch.backends.cuda.enable_flash_sdp(not cudnn)
        try:
            q = torch.randn(8, 6, 8192, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            k = torch.randn(8, 2, 8192, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
            for i in range(8):
                if i == 3:
                    torch.cuda.synchronize()
                    start = time.time()
                out = F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)
                out.backward(out.detach())
            torch.cuda.synchronize()
            times[name] = (time.time() - start) / 5 * 1000
        except RuntimeError as error:
            log(name, "is not usable:", str(error).split("\n")[0][:120])
    best = min(times, key=times.get)
    torch.backends.cuda.enable_cudnn_sdp(best == "cudnn")
    torch.backends.cuda.enable_flash_sdp(best == "flash")
    log("attention ms", {k: round(v, 1) for k, v in times.items()}, "->", best)


def learning_rate(share):
    """Flat for 40 % of the time, then straight down to 2 %."""
    return 1.0 if share < 0.4 else 0.02 + 0.98 * max(0.0, 1 - share) / 0.6


def train(model, data, args, end):
    curriculum = CURRICULUM_AGAIN if args.init else CURRICULUM
    context = multiprocessing.get_context("fork")
    queue, mixture = context.Queue(24), context.Array("i", 8)
    set_mixture(mixture, curriculum[0][1])
    windows = tasks.Windows(data.train, data.lines)
    workers = [
        context.Process(target=make_batches, args=(queue, mixture, windows, 1000 * args.seed + i), daemon=True)
        for i in range(args.workers)
    ]
    for w in workers:
        w.start()

    blocks = [torch.compile(b, dynamic=False) for b in model.blocks]
    matrices = [p for b in model.blocks for p in b.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers = [
        (Muon(matrices, lr=args.muon), args.muon),
        (torch.optim.AdamW(rest, lr=args.adam, betas=(0.9, 0.95), weight_decay=0.0, fused=True), args.adam),
    ]
    start = last_check = last_save = time.time()
    step, seen, stage, sums, counts = 0, 0, 0, np.zeros(6), np.zeros(6)
    while True:
        share = (time.time() - start) / (end - start)
        if share >= 1:
            break
        if share > curriculum[stage][0]:
            stage += 1
            set_mixture(mixture, curriculum[stage][1])
            log("stage", curriculum[stage][1])
        length, rows, kinds = queue.get()
        if length not in curriculum[stage][1]:
            continue
        rows = torch.from_numpy(rows).cuda(non_blocking=True).long()
        kinds = torch.from_numpy(kinds).cuda(non_blocking=True)
        for optimizer, peak in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, (step + 1) / 100) * learning_rate(share)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            means = class_means(model, blocks, rows, kinds)
        loss = sum(means[c] * w for c, w in LOSS_WEIGHTS.items())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step, seen = step + 1, seen + rows.numel()
        if step % 20 == 0:  # a look at the losses waits for the GPU
            m = means.tolist()
            sums, counts = sums + m, counts + (np.array(m) > 0)
        if step % 200 == 0:
            shown = {n: round(float(s / max(1, c)), 3) for n, s, c in zip(tasks.CLASS_NAMES, sums, counts) if n != "ignored"}
            speed = seen / (time.time() - start) / 1e6
            log(f"step {step} length {length} {shown} {seen / 1e6:.0f} Mtok, {speed:.2f} Mtok/s, waiting {queue.qsize()}")
            sums, counts = np.zeros(6), np.zeros(6)
            if not math.isfinite(loss.item()):
                raise SystemExit("the loss is not finite")
        if time.time() - last_check > 50:
            last_check = time.time()
            quick = {
                f"{task} {n}": accuracy(model, task, data.held, data.lines, n, 32)
                for n in (512, 2048)
                for task in ("needle", "multi_key", "tracking_value", "tracking_trace")
            }
            log("check", quick, f"({time.time() - last_check:.1f} s)")
        if time.time() - last_save > 120:
            last_save = time.time()
            save(model, args.out)
    for w in workers:
        w.kill()
    log(f"trained {step} steps, {seen / 1e6:.0f} Mtok in {time.time() - start:.0f} s")
    return {"steps": step, "tokens": seen, "seconds": round(time.time() - start)}


def save(model, out):
    weights = weights_of(model)
    names = list(weights)
    for part, some in (("a", names[: len(names) // 2]), ("b", names[len(names) // 2 :])):
        np.savez(f"{out}/weights_{part}.npz", **{n: weights[n].astype(np.float16) for n in some})


def finish(model, data, args, deadline, training, count=100, **smaller):
    """Save, quantise, evaluate what ships, then what it was before; write the reference for the export."""
    save(model, args.out)
    before = weights_of(model)
    quantised, scales = quantise(before)
    np.savez(
        f"{args.out}/weights_int8.npz",
        **quantised,
        **{f"{n}.scale": s for n, s in scales.items()},
        **{n: w for n, w in before.items() if n not in quantised},
    )
    load_weights(model, dequantised(before))
    with open(f"{args.out}/tokenizer_fixture.json", "w") as f:
        json.dump([{"text": t, "ids": data.tokenizer.encode(t).ids} for t in FIXTURE_TEXTS], f, ensure_ascii=False)
    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        ids = torch.from_numpy(data.held[1000:1300].astype(np.int64)).cuda()[None]
        np.savez(f"{args.out}/reference.npz", ids=ids.cpu().numpy(), logits=model.logits(model.hidden(ids)).cpu().numpy())
    torch.set_float32_matmul_precision("high")
    results = {"config": CONFIG, "training": training, "seed": args.seed, "samples": count}
    for name, weights in (("int8", None), ("float", before)):
        if weights is not None:
            load_weights(model, weights)
        results[name] = final_evaluation(model, data, deadline, count, **smaller)
        log(name, json.dumps(results[name]))
        with open(f"{args.out}/results.json", "w") as f:
            json.dump(results, f, indent=1)


FIXTURE_TEXTS = [
    "",
    " ",
    "Hello, world!",
    "\nThe secret number of Ada of the garden is 482130.\n",
    "\nQuestion: what is the value of T? Answer: 48213.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.",
    "don't  stop\t\n\n  now...  1234567890 and 3.14159, 12th",
    "naïve café — “quoted” æther 東京 🙂 \u0000\u00a0end",
    "<|bos|>Chapter 1",
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--books", default="gutenberg.tar.xz")
    parser.add_argument("--tokenizer", help="a tokenizer.json to use; trained and written to --out by default")
    parser.add_argument("--out", default="out")
    parser.add_argument("--init")
    parser.add_argument("--seconds", type=float, default=560)
    parser.add_argument("--reserve", type=float, default=75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--muon", type=float, default=0.02)
    parser.add_argument("--adam", type=float, default=3e-3)
    args = parser.parse_args()
    os.makedirs(args.out, exist_ok=True)
    deadline = STARTED + args.seconds
    torch.manual_seed(args.seed)
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64

    data = Data(args.books, args.tokenizer or f"{args.out}/tokenizer.json")
    log(f"{len(data.train)} training tokens, {len(data.held)} held out, torch {torch.__version__}, {torch.cuda.get_device_name()}")
    model = Bookworm().cuda()
    log(f"{sum(p.numel() for p in model.parameters())} parameters")
    choose_attention()
    # Everything that runs after the training runs once before it, small: a slip there would cost the whole training.
    start = weights_of(model)
    small = [(task, 512) for task in tasks.TASKS]
    finish(model, data, args, math.inf, {}, count=2, spans=1, cases=small, lengths=(1024, 16384))
    load_weights(model, start)
    if args.init:
        load_weights(model, {k: v for part in "ab" for k, v in np.load(f"{args.init}/weights_{part}.npz").items()})
    training = train(model, data, args, deadline - args.reserve)
    finish(model, data, args, deadline - 8, training)


if __name__ == "__main__":
    main()
