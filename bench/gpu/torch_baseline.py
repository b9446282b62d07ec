# SPDX-FileCopyrightText: 2026 The moue authors
# SPDX-License-Identifier: Apache-2.0
"""The experts of a layer, and of eight layers, in PyTorch: grouped products, and a loop over experts.

Usage: torch_baseline.py RESULTS [--device cpu] [--quick]

Measures what bench_gpu_layer and bench_gpu_stack left in RESULTS, with the same sizes, and appends lines of its own. Ids
and gates are given; rows are in expert order beforehand, as for the cuBLAS baselines. Outputs, of stacks those of the
first layer and the last, are compared with double at a few tokens.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

SHAPES = {"r-small": (256, 512, 2), "olmoe": (2048, 1024, 8), "qwen3-30b": (2048, 768, 8), "mixtral": (4096, 14336, 2),
          "dsv3-like": (7168, 2048, 8), "tiny": (16, 24, 2)}
TYPES = {"bf16": torch.bfloat16, "float": torch.float32}


LAYERS = 8
# In 16 bits the sum of a token's rows is rounded after each of them.
TOLERANCES = {"bf16": 3e-2, "float": 1e-5}


class Layer:
    """Weights [experts, out, in], and ids and gates of tokens, with rows sorted by expert."""

    def __init__(self, width, hidden, experts, k, tokens, dtype, device):
        new = lambda *shape: torch.randn(*shape, device=device, dtype=dtype)
        self.gate = (new(experts, hidden, width) / width**0.5).requires_grad_()
        self.up = (new(experts, hidden, width) / width**0.5).requires_grad_()
        self.down = (new(experts, width, hidden) / hidden**0.5).requires_grad_()
        weights, ids = torch.topk(torch.randn(tokens, experts, device=device), k, dim=1)
        self.ids, self.weights = ids, torch.softmax(weights, dim=1)
        order = torch.argsort(ids.flatten(), stable=True)
        self.token = order // k
        self.row_weight = self.weights.flatten()[order].to(dtype).unsqueeze(1)
        counts = torch.bincount(ids.flatten(), minlength=experts)
        self.offsets = torch.cumsum(counts, 0).to(torch.int32)
        self.counts = counts.tolist()

    def grouped(self, x):
        rows = x[self.token]
        product = lambda a, w: torch._grouped_mm(a, w.transpose(-2, -1), offs=self.offsets)
        hidden = F.silu(product(rows, self.gate)) * product(rows, self.up)
        return self.combine(x, product(hidden, self.down))

    def loop(self, x):
        rows = torch.split(x[self.token], self.counts)
        # unbind, not indexing: the gradient of an index is a tensor as large as all experts
        experts = zip(rows, self.gate.unbind(), self.up.unbind(), self.down.unbind())
        return self.combine(x, torch.cat([F.silu(r @ g.T) * (r @ u.T) @ d.T for r, g, u, d in experts if len(r) > 0]))

    def combine(self, x, rows):
        return torch.zeros_like(x).index_add(0, self.token, rows * self.row_weight)

    @torch.no_grad()
    def error(self, x, y):
        """max |y - exact| / max |exact| at a few tokens."""
        worst, scale = 0.0, 0.0
        for t in range(0, len(x), max(1, len(x) // 8)):
            row, exact = x[t].double(), 0
            for e, weight in zip(self.ids[t].tolist(), self.weights[t].double()):
                hidden = F.silu(self.gate[e].double() @ row) * (self.up[e].double() @ row)
                exact = exact + weight * (self.down[e].double() @ hidden)
            worst = max(worst, (y[t].double() - exact).abs().max().item())
            scale = max(scale, exact.abs().max().item())
        return worst / scale


class Task:
    """One layer, or a stack of layers with residuals, by `Layer.grouped` or `Layer.loop`."""

    def __init__(self, name, layers, width, hidden, experts, k, tokens, dtype, device):
        torch.manual_seed(1)
        self.run_layer = getattr(Layer, name)
        self.layers = [Layer(width, hidden, experts, k, tokens, dtype, device) for _ in range(layers)]
        new = lambda: torch.randn(tokens, width, device=device, dtype=dtype)
        self.x, self.dy = new().requires_grad_(), new()

    def forward(self, look=lambda layer, x, y: None):
        if len(self.layers) == 1:
            y = self.run_layer(self.layers[0], self.x)
            look(self.layers[0], self.x, y)
            return y
        x = self.x
        for layer in self.layers:
            y = self.run_layer(layer, x)
            look(layer, x, y)
            x = x + y
        return x

    @torch.no_grad()
    def error(self):
        errors = []
        at_ends = lambda layer, x, y: layer in (self.layers[0], self.layers[-1]) and errors.append(layer.error(x, y))
        self.forward(at_ends)
        return max(errors)

    def inference(self):
        with torch.no_grad():
            return self.forward()

    def training(self):
        y = self.forward()
        y.backward(self.dy)
        return y


def median_us(run, options):
    """After 3 runs that do not count."""
    least, most, seconds = (5, 50, 0.1) if options.quick else (20, 200, 1)
    for _ in range(3):
        run()
    times, start = [], time.perf_counter()
    while len(times) < least or (len(times) < most and time.perf_counter() - start < seconds):
        if options.device == "cuda":
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


def graph_us(run, options):
    """The same of a replayed graph; NaN where it cannot be captured."""
    if options.device != "cuda":
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
        return median_us(graph.replay, options)
    except Exception as failure:
        print(f"  not captured: {str(failure).splitlines()[0]}")
        return float("nan")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: PyTorch finds none")
        raise SystemExit(77)
    with open(options.results) as file:
        rows = [line.rstrip("\n").split("\t") for line in file if not line.startswith(("chip\t", "#"))]
    wanted = {}
    for chip, kind, shape, experts, tokens, scope, implementation, _, _, flops, floor, *_ in rows:
        what = scope.split("_")[0]
        if (what, implementation) in (("experts", "moue"), ("stack", "cublas_loop")):
            wanted.setdefault((chip, kind, shape, int(experts), int(tokens), what), {})[scope] = (flops, floor)
    for (chip, kind, shape, experts, tokens, what), scopes in wanted.items():
        width, hidden, k = SHAPES[shape]
        layers = LAYERS if what == "stack" else 1
        for name in ("grouped", "loop"):
            task = None
            try:
                task = Task(name, layers, width, hidden, experts // layers, k, tokens, TYPES[kind], options.device)
                error = task.error()
                for scope, (flops, floor) in scopes.items():
                    run = task.training if scope.endswith("_training") else task.inference
                    eager, graph = median_us(run, options), graph_us(run, options)
                    fields = [chip, kind, shape, experts, tokens, scope, f"torch_{name}", f"{eager:.9g}",
                              f"{graph:.9g}", flops, floor, 0, 0, f"{error:.3g}", TOLERANCES[kind]]
                    print(*fields[2:9], sep="\t", flush=True)
                    with open(options.results, "a") as file:
                        print(*fields, sep="\t", file=file)
            except Exception as failure:
                line = f"# left out: {kind} {shape} T={tokens} {what} torch_{name}: {str(failure).splitlines()[0]}"
                print(line, flush=True)
                with open(options.results, "a") as file:
                    print(line, file=file)
            task = run = None
            if options.device == "cuda":
                torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
