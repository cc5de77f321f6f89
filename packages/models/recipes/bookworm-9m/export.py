"""Write weights_int8.npz as one ONNX graph and check it against PyTorch's logits.

    python export.py --out out --checkpoint ../../checkpoints/bookworm-9m

Needs numpy, onnx and onnxruntime; no GPU. The graph follows what the onnxruntime-genai model builder and transformers.js
exports look like (GroupQueryAttention, SimplifiedLayerNormalization, past and present per layer), except that the rotary
tables (4 MB at 16k positions) are computed from two small ones.
"""

import argparse
import json
import math
import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

COARSE, FINE = 256, 128  # a position is high * FINE + low, see `rotary_tables`


class Graph:
    """Collects nodes and initializers; every helper returns the name of its output."""

    def __init__(self):
        self.nodes, self.initializers = [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind, inputs, outputs, name=None, **attributes):
        outputs = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=name or outputs[0], **attributes))
        return outputs[0]

    def matrix(self, name, quantised, scale):
        """[out, in] int8 and its [out] scales -> float [in, out], dequantised when the graph runs."""
        w = self.constant(f"{name}.weight_int8", quantised.T)
        s = self.constant(f"{name}.weight_scale", scale)
        return self.node("DequantizeLinear", [w, s], f"{name}.weight", axis=1)

    def norm(self, name, x, weight, epsilon):
        w = self.constant(f"{name}.weight", weight)
        return self.node(
            "SimplifiedLayerNormalization", [x, w], f"{name}.output", axis=-1, epsilon=epsilon, stash_type=1
        )


def rotary_tables(g, config, total_length):
    """cos and sin, f32 [total, head_dim / 2], of position * theta^(-2i / head_dim), for up to 32 768 positions.

    By angle addition from two tables of 100 kB in all. WGSL lets a GPU's cos be off by 2^-11, differently on each device,
    and a float32 angle at position 16k is off by up to 1e-3 rad; products of tables from float64 are off by 1e-7.
    """
    half = np.arange(0, config["head_dim"], 2, dtype=np.float64) / config["head_dim"]
    frequency = config["rope_theta"] ** -half
    zero, one = g.constant("rope.zero", np.int64(0)), g.constant("rope.one", np.int64(1))
    step = g.constant("rope.step", np.int64(FINE))
    positions = g.node("Range", [zero, total_length, one], "rope.positions")
    high = g.node("Div", [positions, step], "rope.high")
    low = g.node("Sub", [positions, g.node("Mul", [high, step], "rope.high_start")], "rope.low")
    rows = {}
    for part, index, angles in (
        ("high", high, np.outer(np.arange(COARSE) * FINE, frequency)),
        ("low", low, np.outer(np.arange(FINE), frequency)),
    ):
        for name, values in (("cos", np.cos(angles)), ("sin", np.sin(angles))):
            table = g.constant(f"rope.{part}_{name}_table", values.astype(np.float32))
            rows[part, name] = g.node("Gather", [table, index], f"rope.{part}_{name}", axis=0)

    def product(high, low):
        return g.node("Mul", [rows["high", high], rows["low", low]], f"rope.{high}_{low}")

    cos = g.node("Sub", [product("cos", "cos"), product("sin", "sin")], "rope.cos")
    sin = g.node("Add", [product("sin", "cos"), product("cos", "sin")], "rope.sin")
    return cos, sin


def build(weights, config):
    g = Graph()
    layers, heads, kv_heads = (config[k] for k in ("num_hidden_layers", "num_attention_heads", "num_key_value_heads"))
    head_dim, vocabulary, epsilon = config["head_dim"], config["vocab_size"], config["rms_norm_eps"]

    one = g.constant("one", np.array([1], dtype=np.int64))
    total = g.node("Shape", ["attention_mask"], "attention_mask.shape")
    total = g.node("Gather", [total, g.constant("axis_1", np.int64(1))], "total_length", axis=0)
    total_int32 = g.node("Cast", [total], "total_sequence_length", to=TensorProto.INT32)
    seqlens = g.node("ReduceSum", ["attention_mask", one], "attention_mask.sum", keepdims=0)
    seqlens = g.node("Sub", [seqlens, one], "attention_mask.last")
    seqlens = g.node("Cast", [seqlens], "seqlens_k", to=TensorProto.INT32)
    cos, sin = rotary_tables(g, config, total)

    # One stored table serves as the input embedding and, transposed, as the head.
    table = g.constant("model.embed_tokens.weight_int8", weights["embed.weight"])
    scale = g.constant("model.embed_tokens.weight_scale", weights["embed.weight.scale"])
    table = g.node("DequantizeLinear", [table, scale], "model.embed_tokens.weight", axis=0)
    x = g.node("Gather", [table, "input_ids"], "model.embed_tokens.output", axis=0)

    for i in range(layers):
        layer, block = f"model.layers.{i}", f"blocks.{i}"

        def linear(name, part, x):
            w = g.matrix(f"{layer}.{name}", weights[f"{block}.{part}.weight"], weights[f"{block}.{part}.weight.scale"])
            return g.node("MatMul", [x, w], f"{layer}.{name}.output")

        h = g.norm(f"{layer}.input_layernorm", x, weights[f"{block}.input_norm.weight"], epsilon)
        q, k, v = (linear(f"self_attn.{p}_proj", p, h) for p in "qkv")
        attended = g.node(
            "GroupQueryAttention",
            [q, k, v, f"past_key_values.{i}.key", f"past_key_values.{i}.value", seqlens, total_int32, cos, sin],
            [f"{layer}.self_attn.output", f"present.{i}.key", f"present.{i}.value"],
            name=f"/model/layers.{i}/attn/GroupQueryAttention",
            domain="com.microsoft",
            num_heads=heads,
            kv_num_heads=kv_heads,
            scale=1 / math.sqrt(head_dim),
            do_rotary=1,
            rotary_interleaved=0,
        )
        x = g.node("Add", [x, linear("self_attn.o_proj", "o", attended)], f"{layer}.attention_residual")
        h = g.norm(f"{layer}.post_attention_layernorm", x, weights[f"{block}.post_norm.weight"], epsilon)
        gate, up = linear("mlp.gate_proj", "gate", h), linear("mlp.up_proj", "up", h)
        gate = g.node("Mul", [gate, g.node("Sigmoid", [gate], f"{layer}.mlp.sigmoid")], f"{layer}.mlp.silu")
        h = g.node("Mul", [gate, up], f"{layer}.mlp.product")
        x = g.node("Add", [x, linear("mlp.down_proj", "down", h)], f"{layer}.mlp_residual")

    # The last n positions; n = 0 starts at -0 and keeps all.
    start = g.node("Reshape", [g.node("Neg", ["num_logits_to_keep"], "keep.negative"), one], "keep.start")
    end = g.constant("keep.end", np.array([2**63 - 1], dtype=np.int64))
    x = g.node("Slice", [x, start, end, one], "model.kept")
    x = g.norm("model.norm", x, weights["norm.weight"], epsilon)
    head = g.node("Transpose", [table], "lm_head.weight", perm=[1, 0])
    g.node("MatMul", [x, head], "logits")

    i64, f32 = TensorProto.INT64, TensorProto.FLOAT
    info = helper.make_tensor_value_info
    cache = lambda name, length: info(name, f32, ["batch_size", kv_heads, length, head_dim])
    inputs = [
        info("input_ids", i64, ["batch_size", "sequence_length"]),
        info("attention_mask", i64, ["batch_size", "total_sequence_length"]),
        info("num_logits_to_keep", i64, []),
    ]
    outputs = [info("logits", f32, ["batch_size", "kept_length", vocabulary])]
    for i in range(layers):
        for part in ("key", "value"):
            inputs.append(cache(f"past_key_values.{i}.{part}", "past_sequence_length"))
            outputs.append(cache(f"present.{i}.{part}", "total_sequence_length"))
    graph = helper.make_graph(g.nodes, "bookworm-9m", inputs, outputs, g.initializers)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="@sparse-attention/models")


def check(path, config, reference):
    """The graph's logits against PyTorch's, in one call, in two calls with a cache, and with only the last kept.
    Returns the largest error over the largest logit."""
    options = onnxruntime.SessionOptions()
    # Native onnxruntime fuses DequantizeLinear + MatMul and then, by default (4), rounds activations to 8 bits as well:
    # an error of 3.7e-2 instead of 3e-6. 1 means float32 arithmetic. onnxruntime-web on wasm does not do this.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ids, wanted = reference["ids"], reference["logits"]
    layers, shape = config["num_hidden_layers"], (1, config["num_key_value_heads"], 0, config["head_dim"])
    empty = {f"past_key_values.{i}.{p}": np.zeros(shape, np.float32) for i in range(layers) for p in ("key", "value")}
    names = [o.name for o in session.get_outputs()]

    def run(ids, total, past, keep=0):
        feed = {"input_ids": ids, "attention_mask": np.ones((1, total), np.int64), "num_logits_to_keep": np.array(keep, np.int64)}
        out = dict(zip(names, session.run(None, {**feed, **past})))
        return out.pop("logits"), {k.replace("present", "past_key_values"): v for k, v in out.items()}

    whole, _ = run(ids, 300, empty)
    first, past = run(ids[:, :200], 200, empty)
    second, past = run(ids[:, 200:299], 299, past)
    last, _ = run(ids[:, 299:], 300, past, keep=1)
    kept, _ = run(ids, 300, empty, keep=5)
    assert kept.shape[1] == 5
    error = lambda a, b: float(np.abs(a - b).max() / np.abs(b).max())
    return {
        "one call": error(whole, wanted),
        "200 + 99 + 1 tokens": error(np.concatenate([first, second, last], 1), wanted),
        "last 5 kept": error(kept, wanted[:, -5:]),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out", help="what train.py wrote")
    parser.add_argument("--checkpoint", default="../../checkpoints/bookworm-9m")
    args = parser.parse_args()
    with open(f"{args.out}/results.json") as f:
        config = json.load(f)["config"]
    weights = dict(np.load(f"{args.out}/weights_int8.npz"))
    os.makedirs(args.checkpoint, exist_ok=True)
    path = f"{args.checkpoint}/model.onnx"
    onnx.save(build(weights, config), path)
    errors = check(path, config, np.load(f"{args.out}/reference.npz"))
    print(os.path.getsize(path), "bytes; largest error over largest logit:", {k: f"{v:.1e}" for k, v in errors.items()})
    assert max(errors.values()) < 1e-3
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        **config,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": 0,
        "eos_token_id": None,
    }
    with open(f"{args.checkpoint}/config.json", "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
