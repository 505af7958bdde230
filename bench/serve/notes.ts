import type { Outcome } from "./outcome.js";
import { percentile } from "./statistics.js";

/** How late the client itself was, which no figure of the server should be blamed for. */
export function latenessLine(lateness: readonly number[]): string {
  const sorted = Float64Array.from(lateness, (value) => value * 1000).sort();
  const show = (p: number): string => `${percentile(sorted, p).toFixed(2)} ms`;
  return `Requests were sent late by ${show(50)} (median), ${show(99)} (P99), ${show(100)} (most).`;
}

/**
 * Chunks and tokens per second of the server's processor time (all of its threads), where /metrics tells it. What the load
 * costs beyond the model: meaningful with --device null.
 */
export function serverCostLine(
  outcomes: readonly Outcome[],
  cpuSeconds: number | null,
): string | null {
  if (cpuSeconds === null || cpuSeconds <= 0) return null;
  const good = outcomes.filter(({ error }) => error === null);
  const chunks = good.reduce((sum, { itls }) => sum + itls.length + 1, 0);
  const tokens = good.reduce((sum, { outputLen }) => sum + outputLen, 0);
  return `The server used ${cpuSeconds.toFixed(2)} s of processor time: ${Math.round(chunks / cpuSeconds)} chunks and ${Math.round(tokens / cpuSeconds)} tokens per processor-second.`;
}

/** Most kinds of failure that are shown. */
const MAX_REASONS = 10;

/** The reasons of failed requests with their numbers, the commonest first; and what was counted otherwise than meant. */
export function failureLines(outcomes: readonly Outcome[]): string[] {
  const reasons = new Map<string, number>();
  for (const { error } of outcomes)
    if (error !== null) reasons.set(error, (reasons.get(error) ?? 0) + 1);
  const sorted = [...reasons].sort(([, a], [, b]) => b - a);
  const lines = sorted
    .slice(0, MAX_REASONS)
    .map(([reason, count]) => `${count} failed: ${reason}`);
  const others = sorted
    .slice(MAX_REASONS)
    .reduce((sum, [, count]) => sum + count, 0);
  if (others > 0)
    lines.push(`${others} failed for other reasons (all in --save-detailed)`);
  const guessed = outcomes.filter(
    ({ error, usageReported }) => error === null && !usageReported,
  ).length;
  if (guessed > 0)
    lines.push(
      `${guessed} answers came without usage: their output tokens are counted as chunks`,
    );
  return lines;
}
