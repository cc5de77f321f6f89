"""Write weights.npz as one ONNX graph with 8-bit weights, and check it against PyTorch.

    python export.py --out out --checkpoint ../../checkpoints/drifters-7m

Needs numpy, torch, onnx and onnxruntime; no GPU.
"""

import argparse
import json
import os

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

import scenes
from model import CONFIG, TIME_FEATURES, Drifters, rotary_tables

QUANTISED = ("qkv", "o", "up", "down", "modulation_in", "modulation_out", "time_in", "time_out", "final_modulation")


def save_weights(path, weights):
    with open(f"{path}.part", "wb") as f:
        np.savez(f, **weights)
    os.replace(f"{path}.part", path)


def load_weights(model, weights):
    with torch.no_grad():
        for n, p in model.named_parameters():
            p.copy_(torch.from_numpy(np.array(weights[n], np.float32)))


def quantised(weights):
    """{name: int8}, {name: f32 scales}: symmetric, one scale an output channel, for the large matrices."""
    whole, scales = {}, {}
    for name, w in weights.items():
        if name.endswith(".weight") and name.split(".")[-2] in QUANTISED:
            w = w.astype(np.float32)
            scales[name] = np.maximum(np.abs(w).max(1), 1e-12).astype(np.float32) / np.float32(127)
            whole[name] = np.clip(np.rint(w / scales[name][:, None]), -127, 127).astype(np.int8)
    return whole, scales


def dequantised(weights):
    """The weights as the graph sees them."""
    whole, scales = quantised(weights)
    return {n: whole[n].astype(np.float32) * scales[n][:, None] if n in whole else w.astype(np.float32) for n, w in weights.items()}


def read_weights(path):
    """The weights of a graph that `write` wrote."""
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    weights = {}
    for name, shape in ((n, p.shape) for n, p in Drifters().named_parameters()):
        if f"{name}_int8" in stored:
            w = (stored[f"{name}_int8"].astype(np.float32) * stored[f"{name}_scale"]).T
        else:
            w = stored[name]
        if name.endswith("modulation_out.bias") or name == "final_modulation.bias":
            w = w - modulation_ones(len(w) // CONFIG["hidden_size"])
        # Matrices lie transposed, tables of codes and gains as they are.
        weights[name] = w.T if name in ("patch.weight", "position.weight", "final.weight") else w
        assert weights[name].shape == tuple(shape), name
    return weights


def modulation_ones(count):
    """1 where `count` modulations are scales: every third, from the second on."""
    ones = np.zeros((count, CONFIG["hidden_size"]), np.float32)
    ones[1::3] = 1
    return ones.reshape(-1)


class Graph:
    """Collects nodes and initializers; every helper returns the name of its output."""

    def __init__(self, weights):
        self.nodes, self.initializers, self.weights = [], [], weights
        self.int8, self.scales = quantised(weights)

    def constant(self, name, array):
        if all(each.name != name for each in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def ints(self, *values):
        return self.constant("ints_" + "_".join(map(str, values)).replace("-", "minus_"), np.array(values, np.int64))

    def node(self, kind, inputs, outputs, name=None, **attributes):
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes))
        return outputs[0]

    def float(self, name):
        return self.constant(name, self.weights[name].astype(np.float32))

    def linear(self, name, x, add=None):
        """x W^T + b. `add` goes to the bias."""
        weight = f"{name}.weight"
        if weight in self.int8:
            w = self.constant(f"{weight}_int8", self.int8[weight].T)
            s = self.constant(f"{weight}_scale", self.scales[weight])
            w = self.node("DequantizeLinear", [w, s], weight, axis=1)
        else:
            w = self.constant(weight, self.weights[weight].astype(np.float32).T)
        y = self.node("MatMul", [x, w], f"{name}.product")
        if f"{name}.bias" not in self.weights:
            return y
        bias = self.weights[f"{name}.bias"].astype(np.float32)
        return self.node("Add", [y, self.constant(f"{name}.bias", bias if add is None else bias + add)], f"{name}.output")

    def silu(self, x):
        return self.node("Mul", [x, self.node("Sigmoid", [x], f"{x}.sigmoid")], f"{x}.silu")

    def modulated(self, name, x, shift, scale):
        """LayerNorm(x) * scale + shift; the scale has its 1 already."""
        d = CONFIG["hidden_size"]
        ones, zeros = self.constant("ones", np.ones(d, np.float32)), self.constant("zeros", np.zeros(d, np.float32))
        h = self.node("LayerNormalization", [x, ones, zeros], f"{name}.norm", axis=-1, epsilon=CONFIG["layer_norm_eps"])
        return self.node("Add", [self.node("Mul", [h, scale], f"{name}.scaled"), shift], f"{name}.modulated")

    def modulations(self, name, c, count):
        """[batch, d] -> `count` vectors [batch, 1, d]; every third, from the second on, is a scale and gets its 1."""
        d = CONFIG["hidden_size"]
        m = self.node("Unsqueeze", [self.linear(name, c, add=modulation_ones(count)), self.ints(1)], f"{name}.row")
        parts = [f"{name}.{i}" for i in range(count)]
        self.node("Split", [m, self.ints(*[d] * count)], parts, axis=2)
        return parts


def build(weights):
    g = Graph(weights)
    d, heads, head_dim = CONFIG["hidden_size"], CONFIG["num_attention_heads"], CONFIG["head_dim"]
    half, eps = head_dim // 2, CONFIG["layer_norm_eps"]

    frequencies = (256.0 * (1 / 4096) ** (torch.arange(TIME_FEATURES) / (TIME_FEATURES - 1))).numpy()
    t = g.node("Unsqueeze", ["timestep", g.ints(1)], "time.column")
    angles = g.node("Mul", [t, g.constant("time.frequencies", frequencies)], "time.angles")
    waves = [g.node(kind, [angles], f"time.{kind.lower()}") for kind in ("Cos", "Sin")]
    c = g.silu(g.linear("time_in", g.node("Concat", waves, "time.features", axis=1)))
    c = g.linear("time_out", c)
    for i in range(len(scenes.NULL_CODE)):
        column = g.node("Gather", ["code", g.constant(f"code_{i}", np.int64(i))], f"codes.{i}.index", axis=1)
        c = g.node("Add", [c, g.node("Gather", [g.float(f"codes.{i}.weight"), column], f"codes.{i}.row", axis=0)], f"condition.{i}")
    c = g.silu(c)

    position = g.linear("position", g.node("Concat", ["rope_cos", "rope_sin"], "rope", axis=1))
    x = g.node("Add", [g.linear("patch", "latents"), position], "start")
    cos, sin = (g.node("Unsqueeze", [f"rope_{part}", g.ints(1)], f"rope.{part}_of_heads") for part in ("cos", "sin"))
    unit = g.constant("head_ones", np.ones(head_dim, np.float32))

    for i in range(CONFIG["num_hidden_layers"]):
        b = f"blocks.{i}"
        low = g.silu(g.linear(f"{b}.modulation_in", c))
        shift1, scale1, gate1, shift2, scale2, gate2 = g.modulations(f"{b}.modulation_out", low, 6)
        qkv = g.linear(f"{b}.qkv", g.modulated(f"{b}.attention", x, shift1, scale1))
        g.node("Split", [qkv, g.ints(2 * d, d)], [f"{b}.qk", f"{b}.v"], axis=2)
        qk = g.node("Reshape", [f"{b}.qk", g.ints(0, 0, 2 * heads, head_dim)], f"{b}.qk.heads")
        qk = g.node("SimplifiedLayerNormalization", [qk, unit], f"{b}.qk.norm", axis=-1, epsilon=eps, stash_type=1)
        qk = g.node("Mul", [qk, g.float(f"{b}.qk_gain")], f"{b}.qk.scaled")
        first, second = f"{b}.qk.first", f"{b}.qk.second"
        g.node("Split", [qk, g.ints(half, half)], [first, second], axis=3)

        def product(x, table):
            return g.node("Mul", [x, table], f"{x}.{'cos' if table is cos else 'sin'}")

        turned = [
            g.node("Sub", [product(first, cos), product(second, sin)], f"{b}.qk.turned_first"),
            g.node("Add", [product(second, cos), product(first, sin)], f"{b}.qk.turned_second"),
        ]
        qk = g.node("Concat", turned, f"{b}.qk.turned", axis=3)
        qk = g.node("Reshape", [qk, g.ints(0, 0, 2 * d)], f"{b}.qk.rows")
        g.node("Split", [qk, g.ints(d, d)], [f"{b}.q", f"{b}.k"], axis=2)
        a = g.node(
            "MultiHeadAttention",
            [f"{b}.q", f"{b}.k", f"{b}.v"],
            f"{b}.attended",
            name=f"/blocks.{i}/attn/MultiHeadAttention",
            domain="com.microsoft",
            num_heads=heads,
            scale=head_dim**-0.5,
        )
        a = g.node("Mul", [g.linear(f"{b}.o", a), gate1], f"{b}.attention.gated")
        x = g.node("Add", [x, a], f"{b}.attention.residual")
        h = g.silu(g.linear(f"{b}.up", g.modulated(f"{b}.mlp", x, shift2, scale2)))
        h = g.node("Mul", [g.linear(f"{b}.down", h), gate2], f"{b}.mlp.gated")
        x = g.node("Add", [x, h], f"{b}.mlp.residual")

    shift, scale = g.modulations("final_modulation", c, 2)
    x = g.linear("final", g.modulated("final", x, shift, scale))
    g.node("Identity", [x], "velocity")

    info, f32 = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [
        info("latents", f32, ["batch", "tokens", 24]),
        info("timestep", f32, ["batch"]),
        info("code", TensorProto.INT64, ["batch", 3]),
        info("rope_cos", f32, ["tokens", half]),
        info("rope_sin", f32, ["tokens", half]),
    ]
    outputs = [info("velocity", f32, ["batch", "tokens", 24])]
    # Declared, so that readers of the file know the head dim before anything has run.
    values = [info(f"blocks.{i}.{part}", f32, ["batch", "tokens", d]) for i in range(CONFIG["num_hidden_layers"]) for part in "qkv"]
    graph = helper.make_graph(g.nodes, "drifters-7m", inputs, outputs, g.initializers, value_info=values)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="@sparse-attention/models")


def write(weights, path):
    model = build(weights)
    onnx.save(model, f"{path}.part")
    os.replace(f"{path}.part", path)


def check(path, weights, grid, batch):
    """The graph's velocity against PyTorch's in float32 on a random input: the largest error over the largest value."""
    options = onnxruntime.SessionOptions()
    # 1 means float32 arithmetic; by default native onnxruntime rounds activations to 8 bits where weights are.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    model = Drifters()
    load_weights(model, dequantised(weights))
    generator = torch.Generator().manual_seed(0)
    cos, sin = rotary_tables(grid)
    latents = torch.randn(batch, len(cos), 24, generator=generator)
    t = torch.rand(batch, generator=generator)
    code = scenes.random_codes(batch, "cpu", generator)
    code[-1] = torch.tensor(scenes.NULL_CODE)
    with torch.no_grad():
        wanted = model(latents, t, code, cos, sin).numpy()
    feeds = {"latents": latents, "timestep": t, "code": code, "rope_cos": cos, "rope_sin": sin}
    (found,) = session.run(None, {n: v.numpy() for n, v in feeds.items()})
    return float(np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max()))


def config(sampling, grids, default_grid):
    return {
        "model_type": "video-dit",
        **CONFIG,
        "code": {"shape": scenes.SHAPES, "colour": scenes.COLOURS, "direction": scenes.DIRECTIONS},
        "default_grid": list(default_grid),
        "trained_grids": [list(g) for g in grids],
        "sampling": sampling,
    }


def main():
    from train import DEFAULT_GRID, GRIDS

    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out", help="what train.py wrote")
    parser.add_argument("--checkpoint", default="../../checkpoints/drifters-7m")
    args = parser.parse_args()
    with open(f"{args.out}/results.json") as f:
        sampling = json.load(f)["sampling"]
    weights = dict(np.load(f"{args.out}/weights.npz"))
    os.makedirs(args.checkpoint, exist_ok=True)
    path = f"{args.checkpoint}/model.onnx"
    write(weights, path)
    errors = {f"{g}, batch {b}": check(path, weights, g, b) for g, b in (((4, 8, 8), 2), ((8, 8, 8), 1), ((8, 16, 16), 2))}
    print(os.path.getsize(path), "bytes; largest error over largest value:", {k: f"{v:.1e}" for k, v in errors.items()})
    assert max(errors.values()) < 1e-4
    with open(f"{args.checkpoint}/config.json", "w") as f:
        json.dump(config(sampling, GRIDS, DEFAULT_GRID), f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
