import { OctavoError } from "../../src/core/errors.js";
import {
  countOf,
  type DatasetSettings,
  type PromptContext,
} from "./dataset-settings.js";
import type { Sample } from "./outcome.js";
import { Random } from "../random.js";
import { textOfLength } from "./vocabulary.js";

/** Streams of the seed. */
const LENGTHS = 1;
const TOKENS = 2;
const ORDER = 3;
const FILLING = 4;

/**
 * Random tokens: a prefix that all share, then inputLen of their own; lengths are uniform in
 * [len * (1 - rangeRatio), len * (1 + rangeRatio)].
 */
export async function randomPrompts(
  dataset: DatasetSettings,
  context: PromptContext,
): Promise<Sample[]> {
  const { seed } = dataset;
  const { inputLen, outputLen, prefixLen, rangeRatio } = dataset.random;
  const lengths = new Random(seed, LENGTHS);
  const draw = await drawer(context, new Random(seed, TOKENS));
  const prefix = Array.from({ length: prefixLen }, draw);
  const within = (length: number): number =>
    lengths.integer(
      Math.max(1, Math.floor(length * (1 - rangeRatio))),
      Math.max(1, Math.ceil(length * (1 + rangeRatio))),
    );
  const build = await promptBuilder(context, seed);
  const samples: Sample[] = [];
  for (let i = 0; i < countOf(dataset); i++) {
    // A prefix alone is a prompt too.
    const own = inputLen === 0 && prefixLen > 0 ? 0 : within(inputLen);
    const ids = [...prefix, ...Array.from({ length: own }, draw)];
    samples.push(await build(ids, within(outputLen)));
  }
  return samples;
}

/** numPrefixes prefixes, each followed by different suffixes, in random order. */
export async function prefixRepetition(
  dataset: DatasetSettings,
  context: PromptContext,
): Promise<Sample[]> {
  const { seed } = dataset;
  const { prefixLen, suffixLen, numPrefixes, outputLen } =
    dataset.prefixRepetition;
  const count = countOf(dataset);
  if (count < numPrefixes)
    throw new OctavoError(
      "invalid_config",
      `--num-prompts: expected at least one prompt for each of the ${numPrefixes} prefixes, got ${count}`,
      "num-prompts",
    );
  const draw = await drawer(context, new Random(seed, TOKENS));
  const prefixes = Array.from({ length: numPrefixes }, () =>
    Array.from({ length: prefixLen }, draw),
  );
  const build = await promptBuilder(context, seed);
  const samples: Sample[] = [];
  for (let i = 0; i < count; i++) {
    const prefix = prefixes[i % numPrefixes] ?? [];
    const ids = [...prefix, ...Array.from({ length: suffixLen }, draw)];
    samples.push(await build(ids, outputLen));
  }
  return new Random(seed, ORDER).shuffle(samples);
}

/** Draws plain token ids. */
export async function drawer(
  { vocabulary }: PromptContext,
  random: Random,
): Promise<() => number> {
  const ids = await vocabulary.plainIds();
  return () => ids[random.integer(0, ids.length - 1)] ?? 0;
}

/** Turns drawn ids into a prompt: themselves, or a text of as many tokens. */
export async function promptBuilder(
  context: PromptContext,
  seed: number,
): Promise<(ids: readonly number[], outputLen: number) => Promise<Sample>> {
  const { vocabulary, asText, backend } = context;
  if (!asText)
    return async (ids, outputLen) => ({
      prompt: Int32Array.from(ids),
      promptLen: ids.length,
      outputLen,
    });
  const draw = await drawer(context, new Random(seed, FILLING));
  // What a chat template adds is the server's to count.
  const special = backend === "openai";
  return async (ids, outputLen) => {
    const { text, length } = await textOfLength(
      vocabulary,
      ids,
      ids.length,
      special,
      draw,
    );
    return { prompt: text, promptLen: length, outputLen };
  };
}
