import { ProgressBar } from "../../src/cli/format.js";
import type { Machine } from "../machine.js";
import { Random } from "../random.js";
import { summarize } from "../serve/statistics.js";
import { benchEngineConfig, type EngineBenchFlags } from "./flags.js";
import { openEngine } from "./in-process.js";

export interface PrefixFlags extends EngineBenchFlags {
  prefixLen: number;
  suffixLen: number;
  numIters: number;
  numItersWarmup: number;
}

/** Seconds until the first token, one entry for each iteration. */
export interface PrefixResult {
  bench: "prefix";
  model: string;
  quantization: string;
  seed: number;
  machine: Machine;
  prefix_len: number;
  suffix_len: number;
  /** Tokens that no hit covers: the suffix, and what the prefix has beyond its last full block. */
  computed_tokens: number;
  cold_ttfts: number[];
  cached_ttfts: number[];
  median_cold_ttft: number;
  median_cached_ttft: number;
  /** Of the medians. */
  cached_share: number;
}

/**
 * `octavo bench prefix`: the first token of a prompt that begins with what nobody has asked yet, then of one with the same
 * beginning and another end, in turn, each iteration with a beginning of its own.
 */
export async function runPrefixBench(
  flags: PrefixFlags,
  print: (line: string) => void,
): Promise<PrefixResult> {
  const { prefixLen, suffixLen, seed } = flags;
  const config = { ...benchEngineConfig(flags), enablePrefixCaching: true };
  const { machine, engine } = await openEngine(config, seed, print);
  try {
    const { info } = engine;
    const random = new Random(seed);
    const tokens = (length: number): number[] =>
      Array.from({ length }, () => random.integer(0, info.vocabSize - 1));
    const ttft = (prefix: readonly number[]): number => {
      const promptTokenIds = Int32Array.from([...prefix, ...tokens(suffixLen)]);
      const options = { temperature: 0, ignoreEos: true, seed };
      const { timings } = engine.run(
        [{ promptTokenIds, outputLen: 1 }],
        options,
      );
      return timings[0]?.firstToken ?? NaN;
    };
    const bar = new ProgressBar("Iterations");
    const total = flags.numItersWarmup + flags.numIters;
    const cold: number[] = [];
    const cached: number[] = [];
    for (let i = 0; i < total; i++) {
      const prefix = tokens(prefixLen);
      const pair = [ttft(prefix), ttft(prefix)] as const;
      bar.update(i + 1, total);
      if (i < flags.numItersWarmup) continue;
      cold.push(pair[0]);
      cached.push(pair[1]);
    }
    const medianCold = summarize(cold, []).median;
    const medianCached = summarize(cached, []).median;
    const result: PrefixResult = {
      bench: "prefix",
      model: config.model,
      quantization: info.quantization,
      seed,
      machine,
      prefix_len: prefixLen,
      suffix_len: suffixLen,
      computed_tokens: (prefixLen % info.blockSize) + suffixLen,
      cold_ttfts: cold,
      cached_ttfts: cached,
      median_cold_ttft: medianCold,
      median_cached_ttft: medianCached,
      cached_share: medianCached / medianCold,
    };
    print(
      `First token of ${prefixLen} + ${suffixLen} tokens, medians of ${flags.numIters}: cold ${ms(medianCold)}, ` +
        `prefix cached ${ms(medianCached)} (${(100 * result.cached_share).toFixed(2)} %, ${result.computed_tokens} tokens computed)`,
    );
    return result;
  } finally {
    engine.close();
  }
}

function ms(seconds: number): string {
  return `${(seconds * 1e3).toFixed(2)} ms`;
}
