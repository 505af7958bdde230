// Decodes in this process, for allocation-free.test.ts: prints how often the runner's threads allocated while steps
// went by. Arguments: model directory, sequences, temperature, the file that count-allocations.cc writes.
const { readdirSync, readFileSync, writeSync } = require("node:fs");

async function main() {
  const { InProcessEngine } =
    await import("../../dist/bench/engine/in-process.js");
  const { ENGINE_DEFAULTS } = await import("../../dist/src/core/config.js");
  const [model, sequences, temperature, countsFile] = process.argv.slice(2);
  const threads = () => readdirSync("/proc/self/task").map(Number);
  const before = new Set(threads());
  const engine = await InProcessEngine.start(
    {
      ...ENGINE_DEFAULTS,
      model,
      loadFormat: "dummy",
      device: "cpu",
      threads: 2,
    },
    () => undefined,
  );
  /** The compute thread and the pool's: those that loading started. */
  const native = threads().filter((thread) => !before.has(thread));
  /** Of the threads that `of` says; read anew from the file. */
  const allocations = (of) => {
    const bytes = readFileSync(countsFile);
    let sum = 0;
    for (let at = 0; at < bytes.length; at += 16)
      if (of(Number(bytes.readBigInt64LE(at))))
        sum += Number(bytes.readBigInt64LE(at + 8));
    return sum;
  };
  const byNative = () => allocations((thread) => native.includes(thread));
  const WARM_UP = 8;
  let steps = 0;
  let from = 0;
  let to = 0;
  engine.run(
    Array.from({ length: Number(sequences) }, (_, i) => ({
      promptTokenIds: Int32Array.of(1, 2, 3 + i),
      outputLen: 100,
    })),
    {
      temperature: Number(temperature),
      ignoreEos: true,
      seed: 1,
      onStep: () => {
        steps++;
        if (steps === WARM_UP) from = byNative();
        to = byNative();
      },
    },
  );
  writeSync(
    1,
    JSON.stringify({
      nativeThreads: native.length,
      // Of every thread since the start: that allocations are seen at all.
      everywhere: allocations(() => true),
      steps: steps - WARM_UP,
      allocations: to - from,
    }),
  );
  engine.close();
}

main();
