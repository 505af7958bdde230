/** Ways to spoil a model directory, for the fuzz of the loader. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";

/** Deterministic random numbers. [mulberry32] */
export class Random {
  constructor(private state: number) {}

  /** An integer in [0, below). */
  int(below: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.int(choices.length)] as T;
  }
}

type Json = Record<string, unknown>;

const JUNK: readonly unknown[] = [
  ...[null, true, false, 0, -1, 1, 2, 3, 7, 8, 64, 1.5, 1e9, 2 ** 31, 2 ** 53],
  ...[
    1e300,
    -1e300,
    "",
    "x",
    "4",
    [],
    [1],
    [[]],
    {},
    { a: 1 },
    ["x"],
    "\u0000",
  ],
];

export function copyModel(from: string, to: string): void {
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to);
  for (const name of readdirSync(from))
    if (/config\.json$|safetensors/.test(name))
      copyFileSync(path.join(from, name), path.join(to, name));
}

/** Spoils the model in `directory`, in place; returns what was done. */
export function spoil(directory: string, random: Random): string {
  const [name, mutate] = random.pick(Object.entries(MUTATIONS));
  mutate(directory, random);
  return name;
}

const MUTATIONS: Record<string, (directory: string, random: Random) => void> = {
  truncate: (directory, random) => {
    editFile(weightsOf(directory, random), (bytes) =>
      bytes.subarray(0, random.int(bytes.length)),
    );
  },
  extend: (directory, random) => {
    editFile(weightsOf(directory, random), (bytes) =>
      Buffer.concat([bytes, Buffer.alloc(1 + random.int(64), 7)]),
    );
  },
  headerBits: (directory, random) => {
    editFile(weightsOf(directory, random), (bytes) =>
      flipBits(bytes, 8 + Number(bytes.readBigUInt64LE()), random),
    );
  },
  dataBits: (directory, random) => {
    editFile(weightsOf(directory, random), (bytes) =>
      flipBits(bytes, bytes.length, random, 200),
    );
  },
  headerLength: (directory, random) => {
    editFile(weightsOf(directory, random), (bytes) => {
      const length = bytes.readBigUInt64LE();
      const lies = [0n, 1n, length - 1n, length + 1n, length * 2n];
      bytes.writeBigUInt64LE(random.pick([...lies, 2n ** 62n, 2n ** 64n - 1n]));
      return bytes;
    });
  },
  headerField: (directory, random) => {
    editHeader(weightsOf(directory, random), (header) =>
      spoilEntry(header, random),
    );
  },
  headerSwap: (directory, random) => {
    editHeader(weightsOf(directory, random), (header) => {
      const names = Object.keys(header);
      const a = random.pick(names);
      const b = random.pick(names);
      [header[a], header[b]] = [header[b], header[a]];
    });
  },
  config: (directory, random) => {
    editJson(path.join(directory, "config.json"), (config) =>
      spoilFields(config, random),
    );
  },
  configNumber: (directory, random) => {
    editJson(path.join(directory, "config.json"), (config) => {
      const fields = Object.keys(config).filter(
        (f) => typeof config[f] === "number",
      );
      const field = random.pick(fields);
      const value = config[field] as number;
      const lies = [value + 1, value - 1, value * 2, value / 2, -value];
      config[field] = random.pick([...lies, value * 1000]);
    });
  },
  configBits: (directory, random) => {
    editFile(path.join(directory, "config.json"), (bytes) =>
      flipBits(bytes, bytes.length, random),
    );
  },
  quantization: (directory, random) => {
    editJson(path.join(directory, "config.json"), (config) => {
      const quantization = (config["quantization_config"] ?? {
        quant_method: random.pick(["awq", "gptq", "compressed-tensors", "fp8"]),
        bits: 4,
        group_size: 128,
      }) as Json;
      spoilFields(quantization, random);
      config["quantization_config"] = quantization;
    });
  },
  rope: (directory, random) => {
    editJson(path.join(directory, "config.json"), (config) => {
      const type = random.pick(["linear", "llama3", "yarn", "dynamic", "x"]);
      config[random.pick(["rope_scaling", "rope_parameters"])] = {
        [random.pick(["type", "rope_type"])]: type,
        factor: random.pick(JUNK),
        low_freq_factor: 1,
        high_freq_factor: random.pick([4, ...JUNK]),
        original_max_position_embeddings: random.pick([64, ...JUNK]),
        rope_theta: random.pick([10000, ...JUNK]),
      };
    });
  },
  generation: (directory, random) => {
    const generation: Json = { eos_token_id: 2, temperature: 1, top_p: 1 };
    spoilFields(generation, random);
    writeFileSync(
      path.join(directory, "generation_config.json"),
      JSON.stringify(generation),
    );
  },
  index: (directory, random) => {
    const file = path.join(directory, "model.safetensors.index.json");
    if (!existsSync(file)) shard(directory);
    editJson(file, (index) => {
      const map = index["weight_map"] as Json;
      const lies = ["../config.json", "none.safetensors", "config.json"];
      if (random.int(3) === 0) spoilFields(index, random);
      else map[random.pick(Object.keys(map))] = random.pick([...lies, ...JUNK]);
    });
  },
  missingFile: (directory, random) => {
    rmSync(path.join(directory, random.pick(readdirSync(directory))));
  },
};

function weightsOf(directory: string, random: Random): string {
  const files = readdirSync(directory).filter((name) =>
    name.endsWith(".safetensors"),
  );
  return path.join(directory, random.pick(files));
}

/** Turns model.safetensors into a single shard with an index. */
function shard(directory: string): void {
  const file = path.join(directory, "model.safetensors");
  const name = "model-00001-of-00001.safetensors";
  const { header } = readHeader(readFileSync(file));
  const tensors = Object.keys(header).filter((key) => key !== "__metadata__");
  copyFileSync(file, path.join(directory, name));
  rmSync(file);
  writeFileSync(
    path.join(directory, "model.safetensors.index.json"),
    JSON.stringify({
      weight_map: Object.fromEntries(tensors.map((tensor) => [tensor, name])),
    }),
  );
}

function editFile(file: string, edit: (bytes: Buffer) => Buffer): void {
  writeFileSync(file, edit(readFileSync(file)));
}

function editJson(file: string, edit: (value: Json) => void): void {
  const value = JSON.parse(readFileSync(file, "utf8")) as Json;
  edit(value);
  writeFileSync(file, JSON.stringify(value));
}

export function readHeader(bytes: Buffer): { header: Json; data: Buffer } {
  const end = 8 + Number(bytes.readBigUInt64LE());
  const header = JSON.parse(bytes.toString("utf8", 8, end)) as Json;
  return { header, data: bytes.subarray(end) };
}

export function withHeader(header: string, data: Buffer): Buffer {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, data]);
}

function editHeader(file: string, edit: (header: Json) => void): void {
  editFile(file, (bytes) => {
    const { header, data } = readHeader(bytes);
    edit(header);
    return withHeader(JSON.stringify(header), data);
  });
}

function spoilEntry(header: Json, random: Random): void {
  const name = random.pick(Object.keys(header));
  const entry = header[name] as Json;
  const offsets = (entry["data_offsets"] ?? [0, 0]) as number[];
  const shape = (entry["shape"] ?? [1]) as number[];
  const near = random.pick([-1, 1, -4, 4, 64, 2 ** 31, 2 ** 53, -(2 ** 40)]);
  const [begin = 0, end = 0] = offsets;
  random.pick([
    () => delete header[name],
    () => (header[name] = random.pick(JUNK)),
    () => {
      header[`${name}x`] = entry;
      delete header[name];
    },
    () => (entry["data_offsets"] = [begin + near, end + near]),
    () => (entry["data_offsets"] = [begin, end + near]),
    () => (entry["data_offsets"] = [end, begin]),
    () => (entry["data_offsets"] = random.pick(JUNK)),
    () => (entry["shape"] = shape.toReversed()),
    () => (entry["shape"] = shape.map((n) => n + near)),
    () => (entry["shape"] = [...shape, 1]),
    () => (entry["shape"] = random.pick(JUNK)),
    () => (entry["dtype"] = random.pick(["F16", "BF16", "I16", "F32", "I32"])),
    () => (entry["dtype"] = random.pick(JUNK)),
  ])();
}

function spoilFields(object: Json, random: Random): void {
  const field = random.pick(Object.keys(object));
  if (random.int(4) === 0) delete object[field];
  else object[field] = random.pick(JUNK);
}

/** One to `most` bits of the first `length` bytes. */
function flipBits(
  bytes: Buffer,
  length: number,
  random: Random,
  most = 8,
): Buffer {
  for (let n = 1 + random.int(most); n > 0; n--) {
    const at = random.int(length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.int(8));
  }
  return bytes;
}
