"""The part of a device check that needs PyTorch: ceilings, a checkpoint of random weights with a reference's outputs, and
transformers as a peer. Octavo itself needs no Python.

  device_peer.py ceilings   --output FILE [--device D] [--small]
  device_peer.py checkpoint --shapes FILE --name NAME --directory DIR [--device D] [--reference auto|transformers|torch]
  device_peer.py generate   --directory DIR --output FILE [--device D] [--batch-sizes 1,16,64,256]
                            [--llama-bench FILE --gguf FILE]
"""

import argparse
import json
import math
import os
import struct
import subprocess
import time

import torch

SEED = 20
PROMPT_LENGTHS = (5, 64, 700)  # the last one is longer than a segment of attention (512 positions)
CONTINUATION = 16


def write_json(path, value):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file, indent=1)


def has_transformers():
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def synchronize(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def best_seconds(device, body, calls, rounds=5):
    """The best of several rounds; `calls` calls each, after one to warm up."""
    body()
    best = math.inf
    for _ in range(rounds):
        synchronize(device)
        began = time.perf_counter()
        for _ in range(calls):
            body()
        synchronize(device)
        best = min(best, (time.perf_counter() - began) / calls)
    return best


def ceilings(args):
    """Bytes per second of a copy in device memory (read and written), FLOP per second of a large fp16 product."""
    device = torch.device(args.device)
    if device.type != "cuda" and not args.small:
        return write_json(args.output, {"absent": "no GPU"})
    words = 1 << (20 if args.small else 30)
    source = torch.empty(words, dtype=torch.int32, device=device).random_()
    target = torch.empty_like(source)
    copy = best_seconds(device, lambda: target.copy_(source), 1 if args.small else 10)
    del source, target
    size = 256 if args.small else 8192
    half = torch.float16 if device.type == "cuda" else torch.float32
    a = torch.randn(size, size, dtype=half, device=device)
    b = torch.randn(size, size, dtype=half, device=device)
    product = best_seconds(device, lambda: torch.matmul(a, b), 1 if args.small else 20)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    write_json(
        args.output,
        {
            "device": name,
            "torch": torch.__version__,
            "copyBytesPerSecond": 2 * 4 * words / copy,
            "matrixFlopPerSecond": 2 * size**3 / product,
        },
    )


# The checkpoint.


def tensor_shapes(shape):
    """Names and shapes of a Llama or Qwen2 checkpoint, as transformers names them."""
    hidden, head = shape["hidden_size"], shape["head_dim"]
    queries, keys = shape["num_attention_heads"] * head, shape["num_key_value_heads"] * head
    ffn, vocab = shape["intermediate_size"], shape["vocab_size"]
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(shape["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "input_layernorm.weight", (hidden,)
        for name, size in (("q", queries), ("k", keys), ("v", keys)):
            yield f"{layer}self_attn.{name}_proj.weight", (size, hidden)
            if shape["model_type"] == "qwen2":
                yield f"{layer}self_attn.{name}_proj.bias", (size,)
        yield layer + "self_attn.o_proj.weight", (hidden, queries)
        yield layer + "post_attention_layernorm.weight", (hidden,)
        yield layer + "mlp.gate_proj.weight", (ffn, hidden)
        yield layer + "mlp.up_proj.weight", (ffn, hidden)
        yield layer + "mlp.down_proj.weight", (hidden, ffn)
    yield "model.norm.weight", (hidden,)
    if not shape["tie_word_embeddings"]:
        yield "lm_head.weight", (vocab, hidden)


def random_tensor(name, size, generator, device):
    """fp16: 0.02 N(0, 1), norms around 1."""
    values = torch.randn(size, generator=generator, device=device, dtype=torch.float32)
    values = 1 + 0.1 * values if name.endswith("norm.weight") else 0.02 * values
    return values.to(torch.float16)


def write_checkpoint(shape, directory, device):
    """config.json and model.safetensors, a tensor at a time. [safetensors format: header length, JSON header, data]"""
    os.makedirs(directory, exist_ok=True)
    config = {**shape, "torch_dtype": "float16", "hidden_act": "silu", "attention_bias": False}
    write_json(os.path.join(directory, "config.json"), config)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, size in tensor_shapes(shape):
        end = offset + 2 * math.prod(size)
        header[name] = {"dtype": "F16", "shape": list(size), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device=device).manual_seed(SEED)
    with open(os.path.join(directory, "model.safetensors"), "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name, size in tensor_shapes(shape):
            file.write(random_tensor(name, size, generator, device).cpu().numpy().tobytes())


def read_checkpoint(directory, device):
    """name -> tensor in fp32."""
    with open(os.path.join(directory, "model.safetensors"), "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            file.seek(8 + length + first)
            half = torch.frombuffer(bytearray(file.read(last - first)), dtype=torch.float16)
            tensors[name] = half.reshape(entry["shape"]).to(device).float()
    return tensors


class TorchReference:
    """The forward pass written out in fp32, for machines without transformers."""

    name = "torch"

    def __init__(self, directory, device):
        with open(os.path.join(directory, "config.json")) as file:
            self.shape = json.load(file)
        self.weights = read_checkpoint(directory, device)
        self.device = device

    def linear(self, x, name):
        bias = self.weights.get(name + ".bias")
        return torch.nn.functional.linear(x, self.weights[name + ".weight"], bias)

    def norm(self, x, name):
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.shape["rms_norm_eps"])
        return x * scale * self.weights[name + ".weight"]

    def rotate(self, x):
        """x [heads, tokens, head_dim]; pairs (i, i + head_dim / 2)."""
        _, tokens, size = x.shape
        exponents = torch.arange(0, size, 2, dtype=torch.float64, device=self.device) / size
        angles = torch.outer(
            torch.arange(tokens, dtype=torch.float64, device=self.device),
            self.shape["rope_theta"] ** -exponents,
        )
        cos, sin = angles.cos().float(), angles.sin().float()
        first, second = x[..., : size // 2], x[..., size // 2 :]
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    def attention(self, x, layer):
        tokens, head = x.shape[0], self.shape["head_dim"]

        def split(name):
            return self.linear(x, f"{layer}self_attn.{name}_proj").reshape(tokens, -1, head).transpose(0, 1)

        q, k, v = self.rotate(split("q")), self.rotate(split("k")), split("v")
        group = q.shape[0] // k.shape[0]
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        future = torch.ones(tokens, tokens, dtype=torch.bool, device=self.device).triu(1)
        scores = (q @ k.transpose(1, 2) / math.sqrt(head)).masked_fill(future, -math.inf)
        out = (scores.softmax(-1) @ v).transpose(0, 1).reshape(tokens, -1)
        return self.linear(out, layer + "self_attn.o_proj")

    def logits(self, ids):
        """[tokens, vocab] in fp32."""
        x = self.weights["model.embed_tokens.weight"][torch.tensor(ids, device=self.device)]
        for i in range(self.shape["num_hidden_layers"]):
            layer = f"model.layers.{i}."
            x = x + self.attention(self.norm(x, layer + "input_layernorm"), layer)
            y = self.norm(x, layer + "post_attention_layernorm")
            gate = torch.nn.functional.silu(self.linear(y, layer + "mlp.gate_proj"))
            x = x + self.linear(gate * self.linear(y, layer + "mlp.up_proj"), layer + "mlp.down_proj")
        head = self.weights.get("lm_head.weight", self.weights["model.embed_tokens.weight"])
        return self.norm(x, "model.norm") @ head.T


def load_transformers(directory, device, precise):
    from transformers import AutoModelForCausalLM

    settings = {"torch_dtype": torch.float16, "attn_implementation": "eager" if precise else "sdpa"}
    model = AutoModelForCausalLM.from_pretrained(directory, **settings).to(device)
    return (model.float() if precise else model).eval()


class TransformersReference:
    """The same checkpoint through transformers, computed in fp32."""

    def __init__(self, directory, device):
        import transformers

        self.name = f"transformers {transformers.__version__}"
        self.model = load_transformers(directory, device, precise=True)
        self.device = device

    def logits(self, ids):
        return self.model(torch.tensor([ids], device=self.device)).logits[0].float()


def top_five(logprobs):
    values, ids = logprobs.topk(5)
    return [[int(i), float(v)] for i, v in zip(ids, values)]


def golden_case(reference, prompt):
    """Log-probabilities along the prompt, then of a greedy continuation; the whole sequence anew for each token."""
    ids, tops, logprobs, prompt_part = list(prompt), [], [], None
    for _ in range(CONTINUATION):
        rows = reference.logits(ids).log_softmax(-1)
        if prompt_part is None:
            prompt_part = {
                "prompt_logprobs": [float(rows[i, prompt[i + 1]]) for i in range(len(prompt) - 1)],
                "prompt_top5": [top_five(rows[i]) for i in range(len(prompt) - 1)],
            }
        tops.append(top_five(rows[-1]))
        ids.append(tops[-1][0][0])
        logprobs.append(tops[-1][0][1])
    greedy = {"greedy_token_ids": ids[len(prompt) :], "logprobs": logprobs, "top5": tops}
    return {"prompt_token_ids": list(prompt), **greedy, **prompt_part}


@torch.no_grad()
def checkpoint(args):
    device = torch.device(args.device)
    torch.backends.cuda.matmul.allow_tf32 = False
    with open(args.shapes) as file:
        shape = json.load(file)[args.name]
    write_checkpoint(shape, args.directory, device)
    wanted = args.reference
    use_transformers = wanted == "transformers" or (wanted == "auto" and has_transformers())
    reference = (TransformersReference if use_transformers else TorchReference)(args.directory, device)
    generator = torch.Generator().manual_seed(SEED)
    prompts = [torch.randint(shape["vocab_size"], (n,), generator=generator).tolist() for n in PROMPT_LENGTHS]
    cases = [golden_case(reference, prompt) for prompt in prompts]
    write_json(os.path.join(args.directory, "golden.json"), {"reference": reference.name, "cases": cases})
    print(f"reference: {reference.name}, fp32 over the checkpoint's fp16 weights")


# Peers.


def generate_batch(model, device, batch, input_len, output_len):
    """Prefill and decoding of one batch, greedy, the second run of each length."""
    vocab = model.config.vocab_size
    ids = torch.randint(vocab, (batch, input_len), device=device)
    fixed = {"do_sample": False, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}

    def timed(tokens):
        synchronize(device)
        began = time.perf_counter()
        model.generate(ids, min_new_tokens=tokens, max_new_tokens=tokens, **fixed)
        synchronize(device)
        return time.perf_counter() - began

    timed(2)
    prefill = timed(1)
    decode = (timed(output_len) - prefill) / (output_len - 1)
    return {
        "batchSize": batch,
        "prefillTokensPerSecond": batch * input_len / prefill,
        "decodeTokensPerSecond": batch / decode,
    }


@torch.no_grad()
def transformers_peer(args):
    name = "transformers generate, fp16"
    if not has_transformers():
        return {"peer": name, "absent": "transformers is not installed"}
    if not os.path.exists(os.path.join(args.directory, "model.safetensors")):
        return {"peer": name, "absent": f"no checkpoint in {args.directory} (part logits writes it)"}
    import transformers

    device = torch.device(args.device)
    model = load_transformers(args.directory, device, precise=False)
    batches = []
    for batch in args.batch_sizes:
        try:
            batches.append(generate_batch(model, device, batch, args.input_len, args.output_len))
        except torch.cuda.OutOfMemoryError:
            batches.append({"batchSize": batch, "absent": "out of memory"})
            torch.cuda.empty_cache()
    return {"peer": f"transformers {transformers.__version__} generate, fp16", "batches": batches}


def llama_cpp_peer(args):
    name = "llama.cpp (llama-bench)"
    if not args.llama_bench or not args.gguf:
        return {"peer": name, "absent": "no --llama-bench FILE and --gguf FILE were given"}
    command = [args.llama_bench, "-m", args.gguf, "-p", str(args.input_len), "-n", str(args.output_len)]
    run = subprocess.run(command + ["-ngl", "99", "-o", "json"], capture_output=True, text=True, check=False)
    if run.returncode != 0:
        return {"peer": name, "absent": f"ended with {run.returncode}: {run.stderr.strip()[-300:]}"}
    rows = json.loads(run.stdout)
    prefill = next(row["avg_ts"] for row in rows if row["n_prompt"] > 0)
    decode = next(row["avg_ts"] for row in rows if row["n_gen"] > 0)
    figures = {"batchSize": 1, "prefillTokensPerSecond": prefill, "decodeTokensPerSecond": decode}
    return {"peer": f"{name}, {rows[0].get('model_type', args.gguf)}", "batches": [figures]}


def generate(args):
    write_json(args.output, [transformers_peer(args), llama_cpp_peer(args)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)

    def command(name, run, *flags):
        sub = commands.add_parser(name)
        sub.set_defaults(run=run)
        sub.add_argument("--device", default="cuda")
        for flag, settings in flags:
            sub.add_argument(flag, **settings)

    required = {"required": True}
    command("ceilings", ceilings, ("--output", required), ("--small", {"action": "store_true"}))
    choices = {"default": "auto", "choices": ["auto", "transformers", "torch"]}
    where = (("--shapes", required), ("--name", required), ("--directory", required))
    command("checkpoint", checkpoint, *where, ("--reference", choices))
    sizes = {"default": [1, 16, 64, 256], "type": lambda text: [int(part) for part in text.split(",")]}
    command(
        "generate",
        generate,
        ("--directory", required),
        ("--output", required),
        ("--batch-sizes", sizes),
        ("--input-len", {"type": int, "default": 1024}),
        ("--output-len", {"type": int, "default": 256}),
        ("--llama-bench", {}),
        ("--gguf", {}),
    )
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
