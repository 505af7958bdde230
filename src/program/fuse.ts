/**
 * Walks the graph once, in order, and writes down the instructions that compute it, several nodes in one where an
 * instruction for that exists:
 *
 *   linear q, k, v -> attention        one linear into one buffer, rope + KV write, attention
 *   linear gate, up -> siluMul         one linear with the siluMul epilogue
 *   linear -> add                      one linear that adds into the residual's buffer
 *   add -> rmsNorm                     one norm that adds first
 *
 * A node that another takes in ("deferred") is written when that one is. An operand may be overwritten in place when
 * its only remaining reader is the instruction itself.
 */
import type {
  AddNode,
  AttentionNode,
  Graph,
  LinearNode,
  Node,
  RmsNormNode,
  SiluMulNode,
  Value,
} from "../../models/graph.js";
import { OctavoError } from "../core/errors.js";
import type { ProgramParts } from "./program-parts.js";
import { Epilogue, floatBits } from "./program.js";
import type { Opcode } from "./program.js";
import type { ResolvedLinear } from "./weights.js";

/** An argument of an instruction: a number, or a value whose buffer is not planned yet. */
export type Argument = number | Value;

export interface Instruction {
  opcode: keyof typeof Opcode;
  args: Argument[];
}

export interface FusedGraph {
  body: Instruction[];
  head: Instruction[];
  /** Value id -> the value whose memory it took over. */
  storage: ReadonlyMap<number, Value>;
  /** Value id -> what its buffer is called. */
  names: ReadonlyMap<number, string>;
}

type Resolve = (node: LinearNode) => ResolvedLinear;

export function fuse(
  graph: Graph,
  parts: ProgramParts,
  resolve: Resolve,
): FusedGraph {
  return new Fuser(graph, parts, resolve).run();
}

class Fuser {
  private readonly producer = new Map<number, Node>();
  /** Value id -> nodes that read it, in order. */
  private readonly readers = new Map<number, Node[]>();
  /** Value id -> how many of them are not written yet. */
  private readonly unread = new Map<number, number>();
  private readonly deferred = new Set<Node>();
  private readonly storage = new Map<number, Value>();
  private readonly names = new Map<number, string>();
  private readonly body: Instruction[] = [];
  private readonly head: Instruction[] = [];
  private nextId: number;

  constructor(
    private readonly graph: Graph,
    private readonly parts: ProgramParts,
    private readonly resolve: Resolve,
  ) {
    this.nextId = Math.max(...graph.nodes.map((node) => node.out.id)) + 1;
    for (const node of graph.nodes) {
      this.producer.set(node.out.id, node);
      for (const value of readsOf(node)) {
        const nodes = this.readers.get(value.id) ?? [];
        this.readers.set(value.id, [...nodes, node]);
        this.unread.set(value.id, nodes.length + 1);
      }
    }
    // Whoever wants the logits is a reader that is never written.
    this.unread.set(
      graph.logits.id,
      (this.unread.get(graph.logits.id) ?? 0) + 1,
    );
  }

  run(): FusedGraph {
    for (const node of this.graph.nodes) this.defer(node);
    for (const node of this.graph.nodes)
      if (!this.deferred.has(node)) this.write(node);
    const { body, head, storage, names } = this;
    return { body, head, storage, names };
  }

  /** Marks what `node` takes in. */
  private defer(node: Node): void {
    if (node.op === "attention")
      for (const value of [node.q, node.k, node.v])
        this.deferred.add(this.onlyLinear(value, "attention"));
    else if (node.op === "siluMul")
      for (const value of [node.gate, node.up])
        this.deferred.add(this.onlyLinear(value, "siluMul"));
    else if (node.op === "add") {
      const linear = this.addedLinear(node);
      if (linear) this.deferred.add(linear);
      else if (this.readers.get(node.out.id)?.[0]?.op === "rmsNorm")
        this.deferred.add(node);
    }
  }

  private write(node: Node): void {
    switch (node.op) {
      case "embed": {
        this.name(node.out, "hidden");
        const { module, vocabSize, out, scale } = node;
        const table = this.parts.embedding(module, vocabSize, out.width);
        this.emit(node, "embed", out, table, floatBits(scale));
        break;
      }
      case "rmsNorm":
        this.writeNorm(node);
        break;
      case "linear":
        this.writeLinear(node, node.out, 0);
        break;
      case "attention":
        this.writeAttention(node);
        break;
      case "siluMul":
        this.writeSiluMul(node);
        break;
      case "add":
        this.writeAdd(node);
        break;
      case "sampleRows":
        this.name(node.out, "sampled");
        this.emit(node, "gatherRows", node.out, node.in);
        break;
      case "softcap":
        if (this.unread.get(node.in.id) !== 1)
          throw unfusable("softcap of a value that nothing else reads");
        this.takeOver(node.out, node.in);
        this.emit(node, "softcap", node.out, floatBits(node.cap));
        break;
    }
    for (const value of readsOf(node))
      this.unread.set(value.id, (this.unread.get(value.id) ?? 0) - 1);
  }

  private writeNorm(node: RmsNormNode): void {
    const { out, module, eps } = node;
    this.name(out, "normed");
    const weight = this.parts.norm(module, out.width);
    const added = this.producer.get(node.in.id);
    if (added?.op === "add" && this.deferred.has(added)) {
      this.deferred.delete(added);
      const { a, b } = added;
      if (a !== b && this.unread.get(a.id) === 1) {
        this.takeOver(added.out, a);
        this.emit(node, "rmsNorm", out, b, weight, floatBits(eps), a);
        for (const value of [a, b])
          this.unread.set(value.id, (this.unread.get(value.id) ?? 0) - 1);
        return;
      }
      this.write(added);
    }
    this.emit(node, "rmsNorm", out, node.in, weight, floatBits(eps), -1);
  }

  private writeAdd(node: AddNode): void {
    const linear = this.addedLinear(node);
    if (!linear) {
      this.name(node.out, "sum");
      this.emit(node, "add", node.out, node.a, node.b);
      return;
    }
    const target = node.a === linear.out ? node.b : node.a;
    if (this.unread.get(target.id) === 1 && linear.in !== target) {
      this.takeOver(node.out, target);
      this.emitLinear(node, [linear], node.out, 0, Epilogue.add);
      this.markRead(linear);
      return;
    }
    this.writeLinear(linear, linear.out, 0);
    this.markRead(linear);
    this.name(node.out, "sum");
    this.emit(node, "add", node.out, target, linear.out);
  }

  private writeAttention(node: AttentionNode): void {
    const { numHeads, numKvHeads, headDim } = node;
    const width = (numHeads + 2 * numKvHeads) * headDim;
    const qkv = this.newValue(node, width, "qkv");
    const linears = [node.q, node.k, node.v].map((value) =>
      this.onlyLinear(value, "attention"),
    );
    this.writeTogether(node, linears, qkv, Epilogue.none);
    const layer = this.parts.kvLayer(numKvHeads, headDim);
    const heads = [numHeads, numKvHeads, headDim];
    this.emit(
      node,
      "ropeStoreKv",
      qkv,
      layer,
      node.rope ? this.parts.rope(node.rope) : -1,
      ...heads,
      node.qNorm === null ? -1 : this.parts.norm(node.qNorm, headDim),
      node.kNorm === null ? -1 : this.parts.norm(node.kNorm, headDim),
      floatBits(node.normEps),
    );
    this.name(node.out, "attention");
    this.emit(
      node,
      "attention",
      ...[node.out, qkv, layer, ...heads],
      floatBits(node.scale),
      node.slidingWindow,
      floatBits(node.softcap),
    );
  }

  private writeSiluMul(node: SiluMulNode): void {
    this.name(node.out, "activated");
    const gate = this.onlyLinear(node.gate, "siluMul");
    const up = this.onlyLinear(node.up, "siluMul");
    if (gate !== up && this.resolve(gate).key === this.resolve(up).key) {
      this.emitLinear(node, [gate, up], node.out, 0, Epilogue.siluMul);
      this.markRead(gate);
      this.markRead(up);
      return;
    }
    const pair = this.newValue(node, 2 * node.out.width, "gateUp");
    this.writeTogether(node, [gate, up], pair, Epilogue.none);
    this.emit(node, "siluMul", node.out, pair);
  }

  /** One instruction for all of `linears` where their weights allow, else one each, side by side in `out`. */
  private writeTogether(
    node: Node,
    linears: LinearNode[],
    out: Value,
    epilogue: number,
  ): void {
    const keys = new Set(linears.map((linear) => this.resolve(linear).key));
    if (keys.size === 1) {
      this.emitLinear(node, linears, out, 0, epilogue);
    } else {
      let column = 0;
      for (const linear of linears) {
        this.emitLinear(node, [linear], out, column, epilogue);
        column += linear.out.width;
      }
    }
    for (const linear of linears) this.markRead(linear);
  }

  private writeLinear(node: LinearNode, out: Value, column: number): void {
    this.name(out, node.out === this.graph.logits ? "logits" : "projected");
    this.emitLinear(node, [node], out, column, Epilogue.none);
  }

  private emitLinear(
    node: Node,
    linears: LinearNode[],
    out: Value,
    column: number,
    epilogue: number,
  ): void {
    const [first] = linears;
    if (!first) return;
    const resolved = linears.map((linear) => this.resolve(linear));
    const index = this.parts.linear(resolved, epilogue === Epilogue.siluMul);
    this.emit(node, "linear", out, column, first.in, index, epilogue);
  }

  private emit(
    node: Node,
    opcode: Instruction["opcode"],
    ...args: Argument[]
  ): void {
    const part = node.out.rows === "tokens" ? this.body : this.head;
    part.push({ opcode, args });
  }

  /** A deferred linear has been written: its input has one reader less. */
  private markRead(linear: LinearNode): void {
    const { id } = linear.in;
    this.unread.set(id, (this.unread.get(id) ?? 0) - 1);
  }

  /** The linear that `node` adds to something else, where nothing else reads it. */
  private addedLinear({ a, b }: AddNode): LinearNode | null {
    if (a === b) return null;
    for (const value of [b, a]) {
      const node = this.producer.get(value.id);
      if (node?.op === "linear" && this.readers.get(value.id)?.length === 1)
        return node;
    }
    return null;
  }

  private onlyLinear(value: Value, where: string): LinearNode {
    const node = this.producer.get(value.id);
    if (node?.op !== "linear" || this.readers.get(value.id)?.length !== 1)
      throw unfusable(`${where} of values that linears make for nothing else`);
    return node;
  }

  private newValue(node: Node, width: number, name: string): Value {
    const value: Value = { id: this.nextId++, rows: node.out.rows, width };
    this.name(value, name);
    return value;
  }

  private takeOver(value: Value, from: Value): void {
    this.storage.set(value.id, this.storage.get(from.id) ?? from);
  }

  private name(value: Value, name: string): void {
    this.names.set(value.id, name);
  }
}

function readsOf(node: Node): Value[] {
  switch (node.op) {
    case "embed":
      return [];
    case "attention":
      return [node.q, node.k, node.v];
    case "siluMul":
      return [node.gate, node.up];
    case "add":
      return [node.a, node.b];
    case "rmsNorm":
    case "linear":
    case "sampleRows":
    case "softcap":
      return [node.in];
  }
}

function unfusable(expected: string): OctavoError {
  return new OctavoError("invalid_config", `model graph: expected ${expected}`);
}
