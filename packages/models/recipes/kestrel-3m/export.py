"""Write weights.npz as one ONNX graph and check it against PyTorch's logits.

    python export.py --out out --checkpoint ../../checkpoints/kestrel-3m

Needs numpy, onnx and onnxruntime; no GPU. Every attention of the graph is dense and written out, as exporters of PyTorch models
write it, over [batch, heads, tokens, head_dim] with tokens in rows of the map; the convolution of the values ("LePE") stands
beside it. Which regions attend to which is no part of the graph: a runtime that routes puts that in the place of the attention.
"""

import argparse
import json
import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes and initializers; every helper returns the name of its output."""

    def __init__(self, stored):
        self.stored, self.nodes, self.initializers, self.known = stored, [], [], set()

    def constant(self, name, array):
        if name not in self.known:
            self.known.add(name)
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def weight(self, name, transposed=False):
        """int8 and its scales -> float, dequantised when the graph runs."""
        w, scale = self.stored[f"{name}.weight"], self.stored[f"{name}.weight.scale"]
        inputs = [
            self.constant(f"{name}.weight_int8", w.T if transposed else w),
            self.constant(f"{name}.weight_scale", scale),
        ]
        return self.node("DequantizeLinear", inputs, f"{name}.weight", axis=1 if transposed else 0)

    def bias(self, name):
        return self.constant(f"{name}.bias", self.stored[f"{name}.bias"])

    def linear(self, name, x):
        product = self.node("MatMul", [x, self.weight(name, transposed=True)], f"{name}.product")
        return self.node("Add", [product, self.bias(name)], f"{name}.output")

    def conv(self, name, x, stride=1):
        channels, inputs, side, _ = self.stored[f"{name}.weight"].shape
        attributes = dict(kernel_shape=[side, side], pads=[side // 2] * 4, strides=[stride, stride])
        group = channels if inputs == 1 else 1
        return self.node("Conv", [x, self.weight(name), self.bias(name)], f"{name}.output", group=group, **attributes)

    def norm(self, name, x):
        w = self.constant(f"{name}.weight", self.stored[f"{name}.weight"])
        return self.node("LayerNormalization", [x, w, self.bias(name)], f"{name}.output", axis=-1, epsilon=1e-6)

    def gelu(self, name, x):
        scaled = self.node("Div", [x, self.constant("sqrt_2", np.float32(np.sqrt(2)))], f"{name}.scaled")
        erf = self.node("Erf", [scaled], f"{name}.erf")
        lifted = self.node("Add", [erf, self.constant("one", np.float32(1))], f"{name}.lifted")
        product = self.node("Mul", [x, lifted], f"{name}.product")
        return self.node("Mul", [product, self.constant("half", np.float32(0.5))], f"{name}.output")

    def shaped(self, name, x, shape):
        """0 keeps a size: the batch's."""
        target = self.constant(f"shape_{'_'.join(map(str, shape))}", np.array(shape, dtype=np.int64))
        return self.node("Reshape", [x, target], name)

    def tokens(self, name, x, channels, side):
        """[B, C, side, side] -> [B, side², C]"""
        return self.node("Transpose", [self.shaped(f"{name}.flat", x, [0, channels, side * side])], name, perm=[0, 2, 1])

    def map(self, name, x, channels, side):
        """[B, side², C] -> [B, C, side, side]"""
        turned = self.node("Transpose", [x], f"{name}.turned", perm=[0, 2, 1])
        return self.shaped(name, turned, [0, channels, side, side])


def attention(g, name, x, channels, side, head_dim):
    """x [B, N, C] normed -> [B, N, C]"""
    N, heads = side * side, channels // head_dim
    q, k, v = (g.linear(f"{name}.{part}", x) for part in "qkv")
    split = lambda part, value, perm: g.node(
        "Transpose", [g.shaped(f"{name}.{part}.split", value, [0, N, heads, head_dim])], f"{name}.{part}.heads", perm=perm
    )
    q, k = split("q", q, [0, 2, 1, 3]), split("k", k, [0, 2, 3, 1])
    scores = g.node("MatMul", [q, k], f"{name}.scores")
    factor = g.constant("attention_scale", np.float32(head_dim**-0.5))
    scores = g.node("Mul", [scores, factor], f"{name}.scaled_scores")
    shares = g.node("Softmax", [scores], f"{name}.softmax", axis=-1)
    out = g.node("MatMul", [shares, split("v", v, [0, 2, 1, 3])], f"{name}.heads_output")
    out = g.node("Transpose", [out], f"{name}.joined", perm=[0, 2, 1, 3])
    out = g.shaped(f"{name}.attended", out, [0, N, channels])
    near = g.conv(f"{name}.near", g.map(f"{name}.v.map", v, channels, side))
    both = g.node("Add", [out, g.tokens(f"{name}.near.tokens", near, channels, side)], f"{name}.both")
    return g.linear(f"{name}.o", both)


def build(stored, config):
    g = Graph(stored)
    x = g.conv("stem.0.0", "pixel_values", stride=2)
    x = g.conv("stem.2.0", g.gelu("stem.1", x), stride=2)
    for i, (channels, depth) in enumerate(zip(config["dims"], config["depths"])):
        side = config["image"] // 4 // 2**i
        if i > 0:
            x = g.conv(f"merges.{i - 1}.0", x, stride=2)
        for j in range(depth):
            block = f"stages.{i}.{j}"
            x = g.node("Add", [x, g.conv(f"{block}.position", x)], f"{block}.placed")
            x = g.tokens(f"{block}.tokens", x, channels, side)
            attended = attention(g, f"{block}.attention", g.norm(f"{block}.norm1", x), channels, side, config["head_dim"])
            x = g.node("Add", [x, attended], f"{block}.attention_residual")
            h = g.gelu(f"{block}.gelu", g.linear(f"{block}.up", g.norm(f"{block}.norm2", x)))
            x = g.node("Add", [x, g.linear(f"{block}.down", h)], f"{block}.residual")
            x = g.map(f"{block}.map", x, channels, side)
    x = g.node("ReduceMean", [x], "mean", axes=[2, 3], keepdims=0)
    product = g.node("MatMul", [x, g.weight("head", transposed=True)], "head.product")
    g.node("Add", [product, g.bias("head")], "logits")
    image, classes = config["image"], len(config["classes"])
    info = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    inputs, outputs = [info("pixel_values", ["batch", 3, image, image])], [info("logits", ["batch", classes])]
    graph = helper.make_graph(g.nodes, "kestrel-3m", inputs, outputs, g.initializers)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="@sparse-attention/models"
    )


def check(path, reference):
    """Largest difference from PyTorch's dense logits, over the largest logit, for a batch and for one picture alone."""
    options = onnxruntime.SessionOptions()
    # Native onnxruntime fuses DequantizeLinear + MatMul and then, by default (4), rounds activations to 8 bits as well.
    # 1 means float32 arithmetic. onnxruntime-web on wasm does not do this.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    run = lambda pictures: session.run(["logits"], {"pixel_values": pictures})[0]
    pictures, wanted = reference["pictures"], reference["dense"]
    both = np.concatenate([run(pictures), run(pictures[:1])]) - np.concatenate([wanted, wanted[:1]])
    return float(np.abs(both).max() / np.abs(wanted).max())


def config_json(results):
    config = results["config"]
    stages = [
        {
            "blocks": depth,
            "channels": channels,
            "heads": channels // config["head_dim"],
            "grid": [config["image"] // 4 // 2**i] * 2,
            "regions": config["regions"] if top_k else None,
            "top_k": top_k,
        }
        for i, (channels, depth, top_k) in enumerate(zip(config["dims"], config["depths"], config["top_k"]))
    ]
    return {
        "model_type": "biformer",
        "architectures": ["BiFormerForImageClassification"],
        "image_size": config["image"],
        "resize_shorter": 176,
        "image_mean": config["mean"],
        "image_std": config["std"],
        "stages": stages,
        "classes": config["classes"],
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", default="out", help="what train.py wrote")
    parser.add_argument("--checkpoint", default="../../checkpoints/kestrel-3m")
    args = parser.parse_args()
    with open(f"{args.out}/results.json") as f:
        results = json.load(f)
    os.makedirs(args.checkpoint, exist_ok=True)
    path = f"{args.checkpoint}/model.onnx"
    onnx.save(build(dict(np.load(f"{args.out}/weights.npz")), results["config"]), path)
    error = check(path, np.load(f"{args.out}/reference.npz"))
    print(os.path.getsize(path), "bytes; largest error over largest logit:", f"{error:.1e}")
    assert error < 1e-3
    with open(f"{args.checkpoint}/config.json", "w") as f:
        json.dump(config_json(results), f, indent=2)
        f.write("\n")


if __name__ == "__main__":
    main()
