import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { cubinArchitectures } from "../../src/cli/doctor/fatbin.js";
import { SystemFiles } from "../../src/cli/doctor/files.js";
import { gpuFacts } from "../../src/cli/doctor/gpus.js";
import type { NvidiaSmi } from "../../src/cli/doctor/gpus.js";
import { cpuLimit, hostFacts } from "../../src/cli/doctor/host.js";
import type { Diagnosis } from "../../src/cli/doctor/report.js";
import { warningsOf } from "../../src/cli/doctor/warnings.js";
import {
  hasShared,
  runOctavo,
  startServer,
  STORIES,
} from "../e2e/server-process.js";

const roots: string[] = [];
afterEach(() => {
  for (const root of roots.splice(0))
    rmSync(root, { recursive: true, force: true });
});

/** A machine with only these files. */
function machine(files: Record<string, string>): SystemFiles {
  const root = mkdtempSync(path.join(tmpdir(), "octavo-doctor-"));
  roots.push(root);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(path.join(root, path.dirname(name)), { recursive: true });
    writeFileSync(path.join(root, name), content);
  }
  return new SystemFiles(root);
}

const noSmi: NvidiaSmi = () => Promise.resolve(null);
const smi =
  (table: string): NvidiaSmi =>
  () =>
    Promise.resolve(table);

const CARD = {
  "sys/bus/pci/devices/0000:17:00.0/vendor": "0x10de\n",
  "sys/bus/pci/devices/0000:17:00.0/class": "0x030200\n",
};
const DRIVER = {
  "proc/driver/nvidia/version":
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.82.07  Release Build\nGCC version: 12.3.0\n",
  "proc/driver/nvidia/gpus/0000:17:00.0/information":
    "Model: \t\t NVIDIA H200\nIRQ:   \t\t 94\n",
};

describe("the GPU", () => {
  it("is read from nvidia-smi", async () => {
    const facts = await gpuFacts(
      machine({ ...CARD, ...DRIVER, "dev/nvidia0": "" }),
      smi(
        "NVIDIA H200, 143771, 143150, 9.0\nNVIDIA RTX A6000, 49140, [N/A], 8.6\n",
      ),
    );
    expect(facts).toEqual({
      driver: "580.82.07",
      reason: null,
      gpus: [
        {
          name: "NVIDIA H200",
          totalMemory: 143771 * 2 ** 20,
          freeMemory: 143150 * 2 ** 20,
          capability: "9.0",
        },
        {
          name: "NVIDIA RTX A6000",
          totalMemory: 49140 * 2 ** 20,
          freeMemory: null,
          capability: "8.6",
        },
      ],
    });
  });

  it("is read from the driver where there is no nvidia-smi", async () => {
    const facts = await gpuFacts(
      machine({ ...CARD, ...DRIVER, "dev/nvidia0": "" }),
      noSmi,
    );
    expect(facts).toMatchObject({
      driver: "580.82.07",
      reason: null,
      gpus: [{ name: "NVIDIA H200", capability: null }],
    });
  });

  it("reads the version of the closed driver", async () => {
    const version =
      "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12\n";
    const files = machine({ "proc/driver/nvidia/version": version });
    expect((await gpuFacts(files, noSmi)).driver).toBe("535.183.01");
  });

  it.each<[string, Record<string, string>, NvidiaSmi, RegExp]>([
    ["no card", {}, noSmi, /no NVIDIA GPU on the PCI bus/],
    [
      "no driver",
      CARD,
      noSmi,
      /\(0000:17:00\.0\), but its driver is not loaded/,
    ],
    ["no device file", { ...CARD, ...DRIVER }, noSmi, /--gpus all/],
    [
      "an old card",
      { ...CARD, ...DRIVER, "dev/nvidia0": "" },
      smi("Tesla T4, 15360, 15000, 7.5\n"),
      /capability 7\.5: the kernels need 8\.0/,
    ],
    [
      "another maker's card",
      {
        "sys/bus/pci/devices/0/vendor": "0x1002",
        "sys/bus/pci/devices/0/class": "0x030000",
      },
      noSmi,
      /no NVIDIA GPU/,
    ],
  ])("%s: says why not", async (_name, files, ask, reason) => {
    expect((await gpuFacts(machine(files), ask)).reason).toMatch(reason);
  });
});

describe("the machine", () => {
  it("has the CPUs that its control group allows, of either version", () => {
    const limit = (files: Record<string, string>) => cpuLimit(machine(files));
    expect(limit({ "sys/fs/cgroup/cpu.max": "150000 100000\n" })).toBe(1.5);
    expect(limit({ "sys/fs/cgroup/cpu.max": "max 100000\n" })).toBeNull();
    const old = {
      "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
      "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
    };
    expect(limit(old)).toBe(4);
    const none = { ...old, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1" };
    expect(limit(none)).toBeNull();
    expect(limit({})).toBeNull();
  });

  it("warns of what a server would run into", () => {
    const host = hostFacts(
      machine({
        "sys/devices/system/node/node0/cpulist": "0-7",
        "sys/devices/system/node/node1/cpulist": "8-15",
        "sys/devices/system/node/online": "0-1",
        "proc/self/limits":
          "Limit   Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n",
        "sys/fs/cgroup/cpu.max": "200000 100000",
      }),
    );
    expect(host).toMatchObject({ numaNodes: 2, openFiles: 1024, cpuLimit: 2 });
    const info = {
      device: "cpu",
      description: "",
      totalMemory: 1,
      availableMemory: 1,
      threads: 16,
      processors: 16,
      isa: "generic",
      driver: "",
      hostMemory: true,
      graphs: false,
      tunes: false,
      activationBytes: 4,
      kvCacheDtype: "f32" as const,
    };
    const cpu = { name: "cpu", info, reason: null };
    const warnings = warningsOf(host, [cpu], 0, false, 8000).join("\n");
    expect(warnings).toContain("AVX2");
    expect(warnings).toContain("--threads 2");
    expect(warnings).toContain("2 NUMA nodes");
    expect(warnings).toContain("1024 open files");
    expect(warnings).toContain("port 8000");
    const quiet = { ...host, numaNodes: 1, openFiles: null, cpuLimit: null };
    const fast = { ...cpu, info: { ...info, isa: "avx2" } };
    expect(warningsOf(quiet, [fast], 16, true, 8000)).toEqual([]);
    expect(warningsOf(quiet, [fast], 17, true, 8000)).toEqual([
      expect.stringMatching(
        /^--threads 17: this process may use 16 processors at once/,
      ),
    ]);
  });
});

describe("the CUDA library", () => {
  /** One entry of device code: header, then `payload` bytes. */
  function entry(kind: number, architecture: number, payload: number): Buffer {
    const bytes = Buffer.alloc(64 + payload, 0xee);
    bytes.fill(0, 0, 64);
    bytes.writeUInt16LE(kind, 0);
    bytes.writeUInt32LE(64, 4);
    bytes.writeBigUInt64LE(BigInt(payload), 8);
    bytes.writeUInt32LE(architecture, 28);
    return bytes;
  }

  function container(...entries: Buffer[]): Buffer {
    const header = Buffer.alloc(16);
    header.writeUInt32LE(0xba55ed50, 0);
    header.writeUInt16LE(1, 4);
    header.writeUInt16LE(16, 6);
    const body = Buffer.concat(entries);
    header.writeBigUInt64LE(BigInt(body.length), 8);
    return Buffer.concat([header, body]);
  }

  it("has the architectures of its machine code, not of its PTX", () => {
    const library = Buffer.concat([
      Buffer.alloc(100, 7),
      container(entry(2, 86, 40), entry(2, 90, 8), entry(1, 100, 24)),
      Buffer.alloc(33),
      container(entry(2, 86, 16)),
    ]);
    expect(cubinArchitectures(library)).toEqual([86, 90]);
  });

  it("may be cut off anywhere, or be something else", () => {
    const library = container(entry(2, 86, 40), entry(2, 90, 8));
    for (let length = 0; length < library.length; length++)
      cubinArchitectures(library.subarray(0, length));
    expect(cubinArchitectures(Buffer.from("\x7fELF"))).toEqual([]);
  });
});

describe("octavo doctor", () => {
  it("says what runs here, and that auto takes the processor", async () => {
    const { code, stdout } = await runOctavo(["doctor", "--json"]);
    const diagnosis = JSON.parse(stdout) as Diagnosis;
    expect(code).toBe(0);
    expect(diagnosis).toMatchObject({
      ok: true,
      model: null,
      host: { node: process.versions.node },
    });
    const names = diagnosis.devices
      .filter(({ info }) => info !== null)
      .map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["cpu", "reference"]));
    expect(names).toContain(diagnosis.auto?.name);
    for (const { info, reason } of diagnosis.devices)
      expect((info === null) !== (reason === null)).toBe(true);
  });

  it("exits with 1, and says why, when nothing runs", async () => {
    const { code, stdout } = await runOctavo(["doctor"], {
      OCTAVO_ADDON: "/nowhere/octavo.node",
    });
    expect(code).toBe(1);
    expect(stdout).toMatch(/addon\s.*\/nowhere\/octavo\.node/);
    expect(stdout).toContain("Nothing can be served here");
  });

  it.skipIf(!hasShared)(
    "plans a model as serve does (needs ../shared/models/stories260k)",
    async () => {
      const flags = ["--max-model-len", "128", "--max-num-seqs", "4"];
      const { code, stdout } = await runOctavo(["doctor", STORIES, ...flags]);
      expect(code).toBe(0);
      const server = await startServer([STORIES, ...flags]);
      await server.stop();
      for (const name of ["Weights", "KV cache", "Workspace", "Context"]) {
        const line = new RegExp(`^  ${name} .*$`, "m").exec(
          server.stderr(),
        )?.[0];
        expect(line).toBeDefined();
        expect(stdout).toContain(line);
      }
    },
  );

  it.skipIf(!hasShared)(
    "exits with 1 when the model fits nowhere, and names the flag to change",
    async () => {
      const { code, stdout } = await runOctavo([
        "doctor",
        STORIES,
        "--num-gpu-blocks-override",
        "100000000",
      ]);
      expect(code).toBe(1);
      expect(stdout).toContain("Set --num-gpu-blocks-override");
      expect(stdout).toContain("The model cannot be served here");
    },
  );
});
