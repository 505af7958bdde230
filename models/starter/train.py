#!/usr/bin/env python3
"""Trains the starter model and its draft on the token files that corpus.ts writes.

Runs on Debian's python3-torch (CPU; install libopenblas0-pthread beside it) and on a GPU.
The model is a Llama: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, tied embeddings.

    python3 models/starter/train.py --data build/starter --out build/starter/base --tokens 35e6

It can be stopped at any time and goes on from its last checkpoint when started again with the
same --out. When it ends, OUT/model.safetensors and OUT/config.json are in the Hugging Face layout.

Optimizer: Muon for the matrices (Jordan et al., 2024: momentum, orthogonalised by Newton-Schulz),
AdamW for embeddings and norms. Learning rate: warm-up, flat, then linear to zero.
"""

import argparse
import json
import math
import os
import struct
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F

SHAPES = {
    # hidden, layers, heads, KV heads, head_dim, ffn
    "base": dict(hidden=256, layers=6, heads=4, kv_heads=2, head_dim=64, ffn=512),
    "draft": dict(hidden=128, layers=3, heads=2, kv_heads=1, head_dim=64, ffn=256),
    "large": dict(hidden=256, layers=10, heads=4, kv_heads=2, head_dim=64, ffn=768),
}
ROPE_THETA = 10000.0
NORM_EPS = 1e-5
CONTEXT = 1024
ANSWER_BIT = 0x8000  # set by corpus.ts on the tokens that the model is to say
PROMPT_WEIGHT = 0.1  # what a prompt's token counts beside an answer's


def parameters(shape, vocab, device):
    """Fresh float32 weights under their Hugging Face names; linears are [out, in]."""
    hidden, q, kv = shape["hidden"], shape["heads"] * shape["head_dim"], shape["kv_heads"] * shape["head_dim"]
    sizes = {"model.embed_tokens.weight": (vocab, hidden)}
    for i in range(shape["layers"]):
        layer = f"model.layers.{i}."
        sizes[layer + "input_layernorm.weight"] = (hidden,)
        sizes[layer + "self_attn.q_proj.weight"] = (q, hidden)
        sizes[layer + "self_attn.k_proj.weight"] = (kv, hidden)
        sizes[layer + "self_attn.v_proj.weight"] = (kv, hidden)
        sizes[layer + "self_attn.o_proj.weight"] = (hidden, q)
        sizes[layer + "post_attention_layernorm.weight"] = (hidden,)
        sizes[layer + "mlp.gate_proj.weight"] = (shape["ffn"], hidden)
        sizes[layer + "mlp.up_proj.weight"] = (shape["ffn"], hidden)
        sizes[layer + "mlp.down_proj.weight"] = (hidden, shape["ffn"])
    sizes["model.norm.weight"] = (hidden,)
    weights = {}
    for name, size in sizes.items():
        if len(size) == 1:
            value = torch.ones(size)
        else:
            value = torch.randn(size) * (0.02 if "embed" in name else size[1] ** -0.5)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                value /= math.sqrt(2 * shape["layers"])
        weights[name] = value.to(device)
    return weights


def rotary(length, head_dim, device, dtype):
    """cos and sin [length, head_dim] in the half-split order of Hugging Face's Llama."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, device=device).float() / head_dim)
    angle = torch.outer(torch.arange(length, device=device).float(), frequency)
    angle = torch.cat([angle, angle], dim=1)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., half:], x[..., :half]], dim=-1) * sin


class RMSNorm(torch.autograd.Function):
    """x / rms(x) * weight over the last dimension, with the backward pass written out: on a CPU
    the dozen small operations of the automatic one cost more than the matrices."""

    @staticmethod
    def forward(context, x, weight):
        x = x.float()
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + NORM_EPS)
        normed = x * scale
        context.save_for_backward(normed, scale, weight)
        return (normed * weight.float()).to(weight.dtype)

    @staticmethod
    def backward(context, grad):
        normed, scale, weight = context.saved_tensors
        grad = grad.float()
        weight_grad = (grad * normed).reshape(-1, normed.shape[-1]).sum(0)
        grad = grad * weight.float()
        x_grad = scale * (grad - normed * (grad * normed).mean(-1, keepdim=True))
        return x_grad, weight_grad.to(weight.dtype)


def forward(weights, shape, tokens, mask, compute):
    """Hidden states after the last norm, [rows, length, hidden]. mask: additive [rows, 1, length,
    length]. The residual stream is float32, linears and attention run in `compute`."""
    rows, length = tokens.shape
    heads, kv_heads, head_dim = shape["heads"], shape["kv_heads"], shape["head_dim"]
    cos, sin = rotary(length, head_dim, tokens.device, compute)
    x = F.embedding(tokens, weights["model.embed_tokens.weight"]).float()
    for i in range(shape["layers"]):
        w = lambda name: weights[f"model.layers.{i}.{name}.weight"]
        h = RMSNorm.apply(x, w("input_layernorm"))
        split = lambda y, n: y.view(rows, length, n, head_dim).transpose(1, 2)
        q = rotate(split(F.linear(h, w("self_attn.q_proj")), heads), cos, sin)
        k = rotate(split(F.linear(h, w("self_attn.k_proj")), kv_heads), cos, sin)
        v = split(F.linear(h, w("self_attn.v_proj")), kv_heads)
        group = heads // kv_heads
        # The query heads of one KV head are stacked along the length: one product, no copied keys.
        q = (q * head_dim**-0.5).reshape(rows * kv_heads, group * length, head_dim)
        k = k.reshape(rows * kv_heads, length, head_dim)
        v = v.reshape(rows * kv_heads, length, head_dim)
        scores = torch.bmm(q, k.transpose(1, 2)).view(rows, kv_heads * group, length, length)
        probability = torch.softmax(scores + mask, dim=-1).view(rows * kv_heads, group * length, length)
        attended = torch.bmm(probability, v).view(rows, heads, length, head_dim)
        x = x + F.linear(attended.transpose(1, 2).reshape(rows, length, -1), w("self_attn.o_proj"))
        h = RMSNorm.apply(x, w("post_attention_layernorm"))
        h = F.silu(F.linear(h, w("mlp.gate_proj"))) * F.linear(h, w("mlp.up_proj"))
        x = x + F.linear(h, w("mlp.down_proj"))
    return RMSNorm.apply(x, weights["model.norm.weight"])


def attention_mask(tokens, bos, dtype):
    """Causal within a document: a row holds several, each starting with the token `bos`."""
    document = (tokens == bos).cumsum(1)
    allowed = document[:, :, None] == document[:, None, :]
    allowed &= torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool, device=tokens.device).tril()
    return torch.zeros(allowed.shape, dtype=dtype, device=tokens.device).masked_fill_(~allowed, -1e4)[:, None]


def loss_of(weights, shape, batch, bos, compute):
    """(weighted mean cross entropy to train on, sum and count of the answers' own)."""
    answer = (batch & ANSWER_BIT) != 0
    tokens = batch & (ANSWER_BIT - 1)
    inputs, targets, answer = tokens[:, :-1], tokens[:, 1:], answer[:, 1:]
    hidden = forward(weights, shape, inputs, attention_mask(inputs, bos, compute), compute)
    logits = F.linear(hidden, weights["model.embed_tokens.weight"]).float().flatten(0, 1)
    each = F.cross_entropy(logits, targets.flatten(), reduction="none").view(targets.shape)
    weight = torch.where(answer, 1.0, PROMPT_WEIGHT) * (targets != bos)
    loss = (each * weight).sum() / weight.sum()
    return loss, (each.detach() * answer).sum().item(), int(answer.sum())


def orthogonalised(matrix, compute):
    """The nearest (semi-)orthogonal matrix, roughly: five Newton-Schulz steps with the
    coefficients of https://kellerjordan.github.io/posts/muon/."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.to(compute)
    wide = x.shape[0] <= x.shape[1]
    x = x if wide else x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x if wide else x.T).float()


class Optimizer:
    """Muon on the layers' matrices, AdamW on the rest; the state is float32."""

    def __init__(self, weights, matrix_rate, other_rate, compute):
        self.weights, self.compute = weights, compute
        self.matrices = {n for n, w in weights.items() if w.dim() == 2 and "embed" not in n}
        self.matrix_rate, self.other_rate = matrix_rate, other_rate
        self.first = {n: torch.zeros_like(w) for n, w in weights.items()}
        self.second = {n: torch.zeros_like(w) for n, w in weights.items() if n not in self.matrices}
        self.steps = 0

    @torch.no_grad()
    def step(self, grads, scale):
        self.steps += 1
        for name, weight in self.weights.items():
            grad, first = grads[name].float(), self.first[name]
            if name in self.matrices:
                first.mul_(0.95).add_(grad, alpha=0.05)
                update = orthogonalised(grad.lerp(first, 0.95), self.compute)
                rate = scale * self.matrix_rate
                weight.mul_(1 - rate * 0.05).add_(update, alpha=-rate * max(1, weight.shape[0] / weight.shape[1]) ** 0.5)
            else:
                second = self.second[name]
                first.mul_(0.9).add_(grad, alpha=0.1)
                second.mul_(0.98).addcmul_(grad, grad, value=0.02)
                root = (second / (1 - 0.98**self.steps)).sqrt_().add_(1e-8)
                weight.addcdiv_(first / (1 - 0.9**self.steps), root, value=-scale * self.other_rate)


def schedule(done):
    """Share of the peak learning rate after a share `done` of the training."""
    return min(1.0, done / 0.02, max(0.0, (1 - done) / 0.4))


class Rows:
    """Rows of token ids from one file of corpus.ts: uint16 [rows, length], shuffled there."""

    def __init__(self, path, length):
        self.rows = np.memmap(path, dtype=np.uint16, mode="r").reshape(-1, length)

    def batch(self, start, count, device):
        index = np.arange(start, start + count) % len(self.rows)
        return torch.from_numpy(self.rows[index].astype(np.int64)).to(device)


def write_safetensors(path, tensors):
    """float16, names sorted: the same weights give the same bytes."""
    header, chunks, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(tensors):
        data = tensors[name].detach().cpu().half().numpy().tobytes()
        header[name] = {"dtype": "F16", "shape": list(tensors[name].shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path + ".partial", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(chunks))
    os.replace(path + ".partial", path)


def write_model(out, weights, shape, meta):
    write_safetensors(os.path.join(out, "model.safetensors"), weights)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": meta["bos"],
        "eos_token_id": meta["eos"],
        "head_dim": shape["head_dim"],
        "hidden_act": "silu",
        "hidden_size": shape["hidden"],
        "initializer_range": 0.02,
        "intermediate_size": shape["ffn"],
        "max_position_embeddings": CONTEXT,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": shape["heads"],
        "num_hidden_layers": shape["layers"],
        "num_key_value_heads": shape["kv_heads"],
        "pad_token_id": meta["pad"],
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": True,
        "torch_dtype": "float16",
        "vocab_size": meta["vocab"],
    }
    with open(os.path.join(out, "config.json"), "w") as file:
        json.dump(config, file, indent=2)
        file.write("\n")


@torch.no_grad()
def continuation(weights, shape, prompt, stop, compute, device, limit=120):
    """Greedy tokens after a prompt; recomputes the whole row each time, which is fine for a sample."""
    tokens = list(prompt)
    for _ in range(limit):
        row = torch.tensor([tokens], device=device)
        mask = attention_mask(row, -1, compute)
        hidden = forward(weights, shape, row, mask, compute)[:, -1]
        token = int(F.linear(hidden, weights["model.embed_tokens.weight"]).float().argmax())
        if token in stop:
            break
        tokens.append(token)
    return tokens[len(prompt):]


def decoder(data):
    """ids -> text by the byte-level vocabulary of tokenizer.json (the table of GPT-2's bytes)."""
    with open(os.path.join(data, "tokenizer.json")) as file:
        tokenizer = json.load(file)
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {chr(b): b for b in printable}
    others = [b for b in range(256) if b not in printable]
    letters.update({chr(256 + i): b for i, b in enumerate(others)})
    pieces = {i: bytes(letters[c] for c in piece) for piece, i in tokenizer["model"]["vocab"].items() if all(c in letters for c in piece)}
    pieces.update({t["id"]: t["content"].encode() for t in tokenizer["added_tokens"]})
    return lambda ids: b"".join(pieces.get(i, b"?") for i in ids).decode("utf-8", "replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="build/starter", help="where corpus.ts wrote its files")
    parser.add_argument("--out", default="build/starter/base", help="checkpoint and model")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="base")
    parser.add_argument("--tokens", type=float, default=35e6, help="tokens to train on")
    parser.add_argument("--batch", type=int, default=4096, help="tokens a step")
    parser.add_argument("--long-share", type=float, default=0.05, help="last share, on rows of 1024 tokens")
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=0.004)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, help="end by then: the schedule is fitted to the speed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--log-every", type=int, default=20)
    parser.add_argument("--save-every", type=float, default=180, help="seconds between checkpoints")
    train(parser.parse_args())


def train(args):
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    with open(os.path.join(args.data, "meta.json")) as file:
        meta = json.load(file)
    shape, compute = SHAPES[args.shape], getattr(torch, args.dtype)
    short, long = (Rows(os.path.join(args.data, f"train-{n}.bin"), n + 1) for n in (256, 1024))
    heldout = Rows(os.path.join(args.data, "heldout-256.bin"), 257)
    weights = parameters(shape, meta["vocab"], args.device)
    optimizer = Optimizer(weights, args.matrix_rate, args.other_rate, compute)
    state = dict(seen=0.0, done=0.0, short=0, long=0, seconds=0.0, history=[])
    checkpoint = os.path.join(args.out, "checkpoint.pt")
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, map_location=args.device)
        for name in weights:
            weights[name].copy_(saved["weights"][name])
        optimizer.first, optimizer.second, optimizer.steps = saved["first"], saved["second"], saved["steps"]
        state = saved["state"]
        print(f"going on after {state['seen'] / 1e6:.2f} M tokens", flush=True)
    count = sum(w.numel() for w in weights.values())
    print(f"{args.shape}: {count / 1e6:.2f} M parameters, {args.tokens / 1e6:.1f} M tokens, {args.device}, {args.dtype}", flush=True)
    text = decoder(args.data)
    before, started, saved_at, answer_sum, answer_count = state["seconds"], time.time(), time.time(), 0.0, 0
    logged_at, logged_seen = time.time(), state["seen"]

    def working_copy(grad):
        return {n: w.to(compute).requires_grad_(grad) for n, w in weights.items()}

    def save():
        state["seconds"] = before + time.time() - started
        whole = dict(weights=weights, first=optimizer.first, second=optimizer.second, steps=optimizer.steps, state=state)
        torch.save(whole, checkpoint + ".partial")
        os.replace(checkpoint + ".partial", checkpoint)
        write_model(args.out, weights, shape, meta)

    def evaluate():
        copy, total, answers = working_copy(False), 0.0, 0
        with torch.no_grad():
            for start in range(0, min(len(heldout.rows), 128), 32):
                _, part, number = loss_of(copy, shape, heldout.batch(start, 32, args.device), meta["bos"], compute)
                total, answers = total + part, answers + number
        print(f"  held out: loss {total / answers:.4f}", flush=True)
        state["history"].append(dict(tokens=int(state["seen"]), heldout=total / answers))
        for prompt in meta["samples"]:
            said = text(continuation(copy, shape, prompt["ids"], meta["stop"], compute, args.device))
            print(f"  {prompt['text']!r} -> {said!r}", flush=True)

    def share_done():
        by_tokens = state["seen"] / args.tokens
        if args.minutes is None:
            return by_tokens
        return max(by_tokens, (before + time.time() - started) / (args.minutes * 60))

    while state["done"] < 1:
        rows = long if state["done"] >= 1 - args.long_share else short
        kind, length = ("long", 1024) if rows is long else ("short", 256)
        batch = rows.batch(state[kind], max(1, args.batch // length), args.device)
        state[kind] += len(batch)
        copy = working_copy(True)
        loss, part, number = loss_of(copy, shape, batch, meta["bos"], compute)
        loss.backward()
        optimizer.step({n: w.grad for n, w in copy.items()}, schedule(state["done"]))
        state["seen"] += batch.shape[0] * length
        state["done"] = share_done()
        answer_sum, answer_count = answer_sum + part, answer_count + number
        if optimizer.steps % args.log_every == 0:
            speed = (state["seen"] - logged_seen) / (time.time() - logged_at)
            print(
                f"step {optimizer.steps} {100 * state['done']:.1f} % tokens {state['seen'] / 1e6:.2f} M "
                f"loss {answer_sum / answer_count:.4f} {speed:.0f} tok/s",
                flush=True,
            )
            answer_sum, answer_count, logged_at, logged_seen = 0.0, 0, time.time(), state["seen"]
        if not math.isfinite(loss.item()):
            sys.exit(f"the loss is {loss.item()} at step {optimizer.steps}: lower --matrix-rate or --other-rate")
        if time.time() - saved_at > args.save_every:
            evaluate()
            save()
            saved_at = time.time()
    evaluate()
    save()
    summary = dict(shape=args.shape, parameters=count, tokens=int(state["seen"]), seconds=round(state["seconds"]), steps=optimizer.steps,
                   device=args.device, dtype=args.dtype, torch=torch.__version__, history=state["history"])
    with open(os.path.join(args.out, "training.json"), "w") as file:
        json.dump(summary, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
