import { Epilogue, Opcode } from "./program.js";
import type { LinearPlan, Program } from "./program.js";

/**
 * The program as text, one instruction a line, for people and tests:
 *
 *   linear       qkv = normed * model.layers.0.self_attn.{q_proj,k_proj,v_proj} [256 -> 384, dense]
 */
export function describeProgram(program: Program): string {
  const lines: string[] = [];
  const { code } = program;
  for (let at = 0; at < code.length; at += 2 + (code[at + 1] ?? 0)) {
    if (at === program.headStart) lines.push("head:");
    const args = code.subarray(at + 2, at + 2 + (code[at + 1] ?? 0));
    lines.push(describeInstruction(program, code[at] ?? 0, args));
  }
  return lines.join("\n");
}

function describeInstruction(
  program: Program,
  opcode: number,
  args: Int32Array,
): string {
  const name = Object.entries(Opcode).find(([, n]) => n === opcode)?.[0];
  const arg = (i: number): number => args[i] ?? -1;
  const buffer = (i: number): string => program.buffers[arg(i)]?.name ?? "?";
  const dense = (i: number): string => program.dense[arg(i)]?.name ?? "none";
  const float = (i: number): string => bitsToFloat(arg(i)).toPrecision(4);
  const text = ((): string => {
    switch (opcode) {
      case Opcode.embed:
        return `${buffer(0)} = ${dense(1)}[ids] * ${float(2)}`;
      case Opcode.rmsNorm:
        return arg(4) < 0
          ? `${buffer(0)} = norm(${buffer(1)}) * ${dense(2)}`
          : `${buffer(0)} = norm(${buffer(4)} += ${buffer(1)}) * ${dense(2)}`;
      case Opcode.linear:
        return describeLinear(program, args);
      case Opcode.ropeStoreKv:
        return `${buffer(0)} -> kv ${arg(1)}, rope ${arg(2)}, heads ${arg(3)}/${arg(4)} x ${arg(5)}, norms ${dense(6)}, ${dense(7)}`;
      case Opcode.attention:
        return `${buffer(0)} = attend(${buffer(1)}, kv ${arg(2)}) scale ${float(6)} window ${arg(7)} softcap ${float(8)}`;
      case Opcode.siluMul:
        return `${buffer(0)} = silu(gate) * up of ${buffer(1)}`;
      case Opcode.add:
        return `${buffer(0)} = ${buffer(1)} + ${buffer(2)}`;
      case Opcode.gatherRows:
        return `${buffer(0)} = rows of ${buffer(1)}`;
      case Opcode.softcap:
        return `${buffer(0)} = softcap(${buffer(0)}, ${float(1)})`;
      default:
        return args.join(" ");
    }
  })();
  return `${(name ?? String(opcode)).padEnd(12)} ${text}`;
}

function describeLinear(program: Program, args: Int32Array): string {
  const [out = -1, column = 0, input = -1, index = -1, epilogue = 0] = args;
  const linear = program.linears[index];
  if (!linear) return "?";
  const name = (buffer: number): string => program.buffers[buffer]?.name ?? "?";
  const to = column === 0 ? name(out) : `${name(out)}[${column}..]`;
  const assign = epilogue === Epilogue.add ? "+=" : "=";
  const product = `${name(input)} * ${linear.name} [${linear.k} -> ${linear.n}, ${describeScheme(linear)}]`;
  return `${to} ${assign} ${epilogue === Epilogue.siluMul ? `siluMul(${product})` : product}`;
}

function describeScheme({ scheme, groupSize, parts }: LinearPlan): string {
  const bias = parts.some((part) => part.bias) ? " + bias" : "";
  return (scheme === "dense" ? scheme : `${scheme} g${groupSize}`) + bias;
}

const scratch = new DataView(new ArrayBuffer(4));

function bitsToFloat(bits: number): number {
  scratch.setInt32(0, bits);
  return scratch.getFloat32(0);
}
