"""
Exports small transformers models with random weights, with the inputs they are given and the outputs that PyTorch computes.

    pip install torch==2.11.0 transformers==5.17.0 onnx==1.23.1 onnxscript onnxruntime safetensors
    python export.py <folder>

Writes <name>.onnx.gz and <name>.safetensors (`input.<name>`, `output.<name>`) for each architecture, attention implementation,
exporter and operator set, named `<architecture>-<attention>-<exporter>-<opset>`. Some combinations fail in the exporter
(TorchScript knows no aten::diff) or in onnxruntime (RotaryEmbedding of operator set 23); they are reported and left out.
"""

import gzip
import os
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.numpy import save_file
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import ViTConfig, ViTModel, WhisperConfig
from transformers.cache_utils import DynamicCache
from transformers.models.whisper.modeling_whisper import WhisperEncoder

LAYERS = 2
SIZES = dict(num_hidden_layers=LAYERS, num_attention_heads=4, intermediate_size=48)


class Plain(torch.nn.Module):
    """One tensor in, one out."""

    def __init__(self, model, output, **options):
        super().__init__()
        self.model, self.output, self.options = model, output, options

    def forward(self, x):
        return getattr(self.model(x, **self.options), self.output)


class Masked(torch.nn.Module):
    """With an attention mask."""

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def forward(self, x, attention_mask):
        return getattr(self.model(x, attention_mask=attention_mask), self.output)


class Cached(torch.nn.Module):
    """With keys and values of past tokens in, and those of all tokens out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, *past):
        cache = DynamicCache()
        for i in range(LAYERS):
            cache.update(past[2 * i], past[2 * i + 1], i)
        result = self.model(input_ids, past_key_values=cache, use_cache=True)
        present = [part for layer in result.past_key_values.layers for part in (layer.keys, layer.values)]
        return (result.logits, *present)


def llama(attention):
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=48,
            hidden_size=32,
            num_key_value_heads=2,
            max_position_embeddings=256,
            attn_implementation=attention,
            **SIZES,
        )
    )


def gpt2(attention):
    sizes = dict(n_embd=32, n_layer=LAYERS, n_head=4)
    return GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=128, attn_implementation=attention, **sizes))


def bert(attention):
    config = BertConfig(
        vocab_size=48, hidden_size=32, max_position_embeddings=64, attn_implementation=attention, **SIZES
    )
    return BertModel(config, add_pooling_layer=False)


def vit(attention):
    config = ViTConfig(hidden_size=32, image_size=32, patch_size=8, attn_implementation=attention, **SIZES)
    return ViTModel(config, add_pooling_layer=False)


def whisper(attention):
    return WhisperEncoder(
        WhisperConfig(
            num_mel_bins=16,
            d_model=32,
            encoder_layers=LAYERS,
            encoder_attention_heads=4,
            encoder_ffn_dim=48,
            max_source_positions=24,
            attn_implementation=attention,
        )
    )


def spread(model):
    """The usual initialisation (0.02) leaves attention almost uniform; wider weights make a wrong mask show."""
    for name, parameter in model.named_parameters():
        if parameter.dim() >= 2 and "norm" not in name.lower() and "ln" not in name:
            torch.nn.init.normal_(parameter, std=0.25)
    return model


def strip(path):
    """Drops what the exporter notes about the Python sources: most of the file."""
    model = onnx.load(path)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output]:
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def export(folder, name, module, arguments, inputs, outputs, dynamic, exporter, opset):
    path = os.path.join(folder, f"{name}.onnx")
    module.eval()
    try:
        with torch.no_grad():
            expected = module(*arguments)
            expected = expected if isinstance(expected, tuple) else (expected,)
            common = dict(input_names=inputs, output_names=outputs, opset_version=opset)
            if exporter == "dynamo":
                shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in dynamic.get(n, {})} for n in inputs)
                if isinstance(module, Cached):
                    shapes = (shapes[0], shapes[1:])
                torch.onnx.export(
                    module, arguments, path, dynamo=True, dynamic_shapes=shapes, external_data=False, **common
                )
            else:
                torch.onnx.export(module, arguments, path, dynamo=False, dynamic_axes=dynamic, **common)
        strip(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        actual = session.run(None, {n: a.numpy() for n, a in zip(inputs, arguments)})
        error = max(np.abs(a - e.numpy()).max() / np.abs(e.numpy()).max() for a, e in zip(actual, expected))
        tensors = {f"input.{n}": np.ascontiguousarray(a.numpy()) for n, a in zip(inputs, arguments)}
        tensors |= {f"output.{n}": np.ascontiguousarray(e.numpy()) for n, e in zip(outputs, expected)}
        save_file(tensors, os.path.join(folder, f"{name}.safetensors"))
        with open(path, "rb") as graph, open(f"{path}.gz", "wb") as packed:
            packed.write(gzip.compress(graph.read(), mtime=0))
        os.remove(path)
        print(f"{name}: onnxruntime differs by {error:.1e}", flush=True)
    except Exception as error:
        print(f"{name}: left out, {type(error).__name__}: {str(error)[:200]}", flush=True)
        if os.path.exists(path):
            os.remove(path)


def export_all(folder, attention, exporter, opset):
    torch.manual_seed(7)
    ids = torch.randint(0, 48, (2, 19))
    sequence = {0: "batch", 1: "sequence"}
    padded = torch.ones(2, 19, dtype=torch.long)
    padded[1, 12:] = 0

    def write(name, module, arguments, inputs, outputs, dynamic):
        tag = f"{name}-{attention}-{exporter}-{opset}"
        export(folder, tag, module, arguments, inputs, outputs, dynamic, exporter, opset)

    text = dict(input_ids=sequence)
    masked = dict(input_ids=sequence, attention_mask=sequence)
    names, state = ["input_ids", "attention_mask"], ["last_hidden_state"]
    write("llama", Plain(spread(llama(attention)), "logits", use_cache=False), (ids,), names[:1], ["logits"], text)
    write("gpt2", Plain(spread(gpt2(attention)), "logits", use_cache=False), (ids,), names[:1], ["logits"], text)
    write("bert", Plain(spread(bert(attention)), state[0]), (ids,), names[:1], state, text)
    write("bert-masked", Masked(spread(bert(attention)), state[0]), (ids, padded), names, state, masked)
    ones = torch.ones_like(padded)
    write("llama-masked", Masked(spread(llama(attention)), "logits"), (ids, ones), names, ["logits"], masked)
    image, sound = torch.randn(2, 3, 32, 32), torch.randn(2, 16, 48)
    write("vit", Plain(spread(vit(attention)), state[0]), (image,), ["pixel_values"], state, dict(pixel_values={0: "batch"}))
    features = dict(input_features={0: "batch"})
    write("whisper", Plain(spread(whisper(attention)), state[0]), (sound,), ["input_features"], state, features)
    past = [torch.randn(2, 2, 11, 8) for _ in range(2 * LAYERS)]
    names = [f"past.{i}.{part}" for i in range(LAYERS) for part in ("key", "value")]
    write(
        "llama-cache",
        Cached(spread(llama(attention))),
        (ids[:, :5], *past),
        ["input_ids", *names],
        ["logits", *[name.replace("past", "present") for name in names]],
        text | {name: {0: "batch", 2: "past"} for name in names},
    )


if __name__ == "__main__":
    os.makedirs(sys.argv[1], exist_ok=True)
    for attention, exporter, opset in [
        ("eager", "script", 17),
        ("sdpa", "script", 17),
        ("eager", "dynamo", 18),
        ("sdpa", "dynamo", 18),
        ("sdpa", "dynamo", 23),
    ]:
        export_all(sys.argv[1], attention, exporter, opset)
