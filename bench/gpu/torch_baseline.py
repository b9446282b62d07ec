# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The experts of a layer in PyTorch: grouped products, and a loop over experts.

Usage: torch_baseline.py RESULTS [--device cpu]

Measures what bench_gpu_layer left in RESULTS, with the same sizes, and appends lines of its own. Ids and gates are given;
rows are in expert order beforehand, as for the cuBLAS baselines. Outputs are compared with double at a few tokens.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = {"r-small": (256, 512, 2), "olmoe": (2048, 1024, 8), "qwen3-30b": (2048, 768, 8), "mixtral": (4096, 14336, 2),
          "dsv3-like": (7168, 2048, 8), "tiny": (16, 24, 2)}
TYPES = {"bf16": torch.bfloat16, "float": torch.float32}


class Layer:
    """Weights [experts, out, in], and rows that are sorted by expert."""

    def __init__(self, width, hidden, experts, k, tokens, dtype, device):
        torch.manual_seed(1)
        new = lambda *shape: torch.randn(*shape, device=device, dtype=dtype)
        self.gate = (new(experts, hidden, width) / width**0.5).requires_grad_()
        self.up = (new(experts, hidden, width) / width**0.5).requires_grad_()
        self.down = (new(experts, width, hidden) / hidden**0.5).requires_grad_()
        self.x, self.dy = new(tokens, width).requires_grad_(), new(tokens, width)
        weights, ids = torch.topk(torch.randn(tokens, experts, device=device), k, dim=1)
        self.ids, self.weights = ids, torch.softmax(weights, dim=1)
        order = torch.argsort(ids.flatten(), stable=True)
        self.token = order // k
        self.row_weight = self.weights.flatten()[order].to(dtype).unsqueeze(1)
        counts = torch.bincount(ids.flatten(), minlength=experts)
        self.offsets = torch.cumsum(counts, 0).to(torch.int32)
        self.counts = counts.tolist()

    def grouped(self):
        rows = self.x[self.token]
        product = lambda a, w: torch._grouped_mm(a, w.transpose(-2, -1), offs=self.offsets)
        hidden = F.silu(product(rows, self.gate)) * product(rows, self.up)
        return self.combine(product(hidden, self.down))

    def loop(self):
        rows = torch.split(self.x[self.token], self.counts)
        # unbind, not indexing: the gradient of an index is a tensor as large as all experts
        experts = zip(rows, self.gate.unbind(), self.up.unbind(), self.down.unbind())
        return self.combine(torch.cat([F.silu(r @ g.T) * (r @ u.T) @ d.T for r, g, u, d in experts if len(r) > 0]))

    def combine(self, rows):
        return torch.zeros_like(self.x).index_add(0, self.token, rows * self.row_weight)

    @torch.no_grad()
    def error(self, y):
        """max |y - exact| / max |exact| at a few tokens."""
        worst, scale = 0.0, 0.0
        for t in range(0, len(self.x), max(1, len(self.x) // 8)):
            x, exact = self.x[t].double(), 0
            for e, weight in zip(self.ids[t].tolist(), self.weights[t].double()):
                hidden = F.silu(self.gate[e].double() @ x) * (self.up[e].double() @ x)
                exact = exact + weight * (self.down[e].double() @ hidden)
            worst = max(worst, (y[t].double() - exact).abs().max().item())
            scale = max(scale, exact.abs().max().item())
        return worst / scale

    def step(self, forward):
        y = forward()
        y.backward(self.dy)
        return y


def median_us(run, device):
    """Of at least 20 runs after 3 that do not count."""
    for _ in range(3):
        run()
    times, start = [], time.perf_counter()
    while len(times) < 20 or (len(times) < 200 and time.perf_counter() - start < 1):
        if device == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(1e3 * begin.elapsed_time(end))
        else:
            before = time.perf_counter()
            run()
            times.append(1e6 * (time.perf_counter() - before))
    return statistics.median(times)


def graph_us(run, device):
    """The same of a replayed graph; NaN where it cannot be captured."""
    if device != "cuda":
        return float("nan")
    try:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return median_us(graph.replay, device)
    except Exception as failure:
        print(f"  not captured: {str(failure).splitlines()[0]}")
        return float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: PyTorch finds none")
        raise SystemExit(77)
    with open(options.results) as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith(("chip\t", "#"))]
    wanted = {}
    for chip, kind, shape, experts, tokens, scope, implementation, _, _, flops, floor, *_ in rows:
        if implementation == "moue" and scope.startswith("experts_"):
            wanted.setdefault((chip, kind, shape, int(experts), int(tokens)), {})[scope] = (flops, floor)
    for (chip, kind, shape, experts, tokens), scopes in wanted.items():
        width, hidden, k = SHAPES[shape]
        for name in ("grouped", "loop"):
            try:
                layer = Layer(width, hidden, experts, k, tokens, TYPES[kind], options.device)
                forward = getattr(layer, name)
                error = layer.error(forward())
                runs = {"experts_forward": torch.no_grad()(forward), "experts_training": lambda: layer.step(forward)}
                for scope, (flops, floor) in scopes.items():
                    run = runs[scope]
                    eager, graph = median_us(run, options.device), graph_us(run, options.device)
                    fields = [chip, kind, shape, experts, tokens, scope, f"torch_{name}", f"{eager:.9g}",
                              f"{graph:.9g}", flops, floor, 0, 0, f"{error:.3g}", 1e-2 if kind == "bf16" else 1e-5]
                    print(*fields[2:9], sep="\t", flush=True)
                    with open(options.results, "a") as file:
                        print(*fields, sep="\t", file=file)
            except Exception as failure:
                print(f"{shape} T={tokens} torch_{name}: {str(failure).splitlines()[0]}", flush=True)
            layer = forward = runs = None
            if options.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
