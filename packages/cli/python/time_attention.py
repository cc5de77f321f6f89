"""Times PyTorch's scaled_dot_product_attention beside `sparse-attention bench table`, and prints one JSON object.

Batch 1, f16, self-attention; FlashAttention-2 and cuDNN, dense and causal. Times are of the GPU, by CUDA events. Some rows of each
answer are compared with float64 before it is timed.
"""

import argparse
import json
import subprocess
import sys
import time

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BACKENDS = {"flash-attention": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
# As ours: products and sums of halves lose up to a few 1e-3; a wrong mask or head is off by far more.
ALLOWED_ERROR = 1e-2
SHORTEST_SAMPLE_MS = 10
CLOCK_RISE_S = 0.15


def error_of_rows(out, q, k, v, causal):
    """Relative error of the first, the last and six other rows of the first and the last head, against float64."""
    length = q.shape[2]
    rows = torch.cat([torch.tensor([0, length - 1]), torch.randint(length, (6,))]).to(q.device)
    difference = magnitude = 0.0
    for head in {0, q.shape[1] - 1}:
        scores = q[0, head, rows].double() @ k[0, head].double().T / q.shape[3] ** 0.5
        if causal:
            scores.masked_fill_(torch.arange(length, device=q.device) > rows[:, None], float("-inf"))
        exact = scores.softmax(-1) @ v[0, head].double()
        difference += (out[0, head, rows].double() - exact).square().sum().item()
        magnitude += exact.square().sum().item()
    return (difference / magnitude) ** 0.5


def time_ms(call, samples):
    """Milliseconds a call over several samples, with the clocks up; a sample is as many calls as take about 10 ms."""

    def sample(calls):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / calls

    sample(1)
    begin = time.perf_counter()
    while time.perf_counter() - begin < CLOCK_RISE_S:
        first = sample(4)
    calls = max(1, min(256, round(SHORTEST_SAMPLE_MS / first)))
    times = torch.tensor([sample(calls) for _ in range(samples)], dtype=torch.float64)
    p10, median, p90 = times.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).tolist()
    return {"medianMs": median, "p10Ms": p10, "p90Ms": p90}


def measure(name, length, heads, head_dim, causal, samples):
    result = {"backend": name, "length": length, "heads": heads, "headDim": head_dim, "causal": causal}
    q, k, v = (torch.randn(1, heads, length, head_dim, dtype=torch.float16, device="cuda") for _ in range(3))
    try:
        with sdpa_kernel(BACKENDS[name]):
            error = error_of_rows(scaled_dot_product_attention(q, k, v, is_causal=causal), q, k, v, causal)
            right = error <= ALLOWED_ERROR
            gpu = time_ms(lambda: scaled_dot_product_attention(q, k, v, is_causal=causal), samples) if right else None
    except RuntimeError as problem:
        reason = str(problem).splitlines()[0]
        return {**result, "status": "not available", "reason": reason, "checkedError": None, "gpu": None}
    reason = None if right else f"off by {error:.1e} from float64 in the rows checked; {ALLOWED_ERROR} is allowed"
    status = "timed" if right else "wrong result"
    return {**result, "status": status, "reason": reason, "checkedError": error if error == error else None, "gpu": gpu}


def driver_version():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lengths", default="8192,16384,32768,131072", help="tokens, separated by commas")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("torch finds no CUDA device")
    torch.manual_seed(options.seed)
    with torch.no_grad():
        results = [
            measure(name, int(length), options.heads, options.head_dim, causal, options.samples)
            for length in options.lengths.split(",")
            for causal in (False, True)
            for name in BACKENDS
        ]
    versions = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": str(torch.backends.cudnn.version()),
        "driver": driver_version(),
    }
    print(json.dumps({"versions": versions, "device": torch.cuda.get_device_name(), "results": results}))


if __name__ == "__main__":
    main()
