import type { HttpClient } from "./http.js";

/** Counters of /metrics at one moment. */
export interface SpecDecodeCounters {
  numDrafts: number;
  draftTokens: number;
  acceptedTokens: number;
  /** [position] */
  perPosition: number[];
}

/** What speculation did during the run. */
export interface SpecDecodeStats extends SpecDecodeCounters {
  /** Percent of the drafted tokens. */
  acceptanceRate: number;
  /** Tokens per speculated step: 1 + accepted / drafts. */
  acceptanceLength: number;
  /** Share of the drafts that were accepted up to and with this position, 0..1. */
  perPosition: number[];
}

const PREFIX = "vllm:spec_decode_num_";

/** Null where the server has no /metrics, keeps it closed, or does not speculate. */
export async function readSpecDecode(
  http: HttpClient,
): Promise<SpecDecodeCounters | null> {
  try {
    const { status, text } = await http.get("/metrics");
    return status === 200 ? parseSpecDecode(text) : null;
  } catch {
    return null;
  }
}

/** Sums over engines. Null where there are no such series. */
export function parseSpecDecode(exposition: string): SpecDecodeCounters | null {
  const counters: SpecDecodeCounters = {
    numDrafts: 0,
    draftTokens: 0,
    acceptedTokens: 0,
    perPosition: [],
  };
  let found = false;
  for (const line of exposition.split("\n")) {
    if (!line.startsWith(PREFIX)) continue;
    const match = /^([\w:]+)(?:\{(.*)\})? (\S+)/.exec(line);
    const value = Number(match?.[3]);
    if (!match || !Number.isFinite(value)) continue;
    found = true;
    const name = match[1]?.slice(PREFIX.length);
    if (name === "drafts_total") counters.numDrafts += value;
    else if (name === "draft_tokens_total") counters.draftTokens += value;
    else if (name === "accepted_tokens_total") counters.acceptedTokens += value;
    else if (name === "accepted_tokens_per_pos_total") {
      const position = Number(/position="(\d+)"/.exec(match[2] ?? "")?.[1]);
      if (!Number.isInteger(position)) continue;
      while (counters.perPosition.length <= position)
        counters.perPosition.push(0);
      counters.perPosition[position] =
        (counters.perPosition[position] ?? 0) + value;
    }
  }
  return found ? counters : null;
}

/** Null where nothing was drafted between the two. */
export function specDecodeStats(
  before: SpecDecodeCounters | null,
  after: SpecDecodeCounters | null,
): SpecDecodeStats | null {
  if (after === null) return null;
  const numDrafts = after.numDrafts - (before?.numDrafts ?? 0);
  const draftTokens = after.draftTokens - (before?.draftTokens ?? 0);
  const acceptedTokens = after.acceptedTokens - (before?.acceptedTokens ?? 0);
  if (numDrafts <= 0 || draftTokens <= 0) return null;
  return {
    numDrafts,
    draftTokens,
    acceptedTokens,
    acceptanceRate: (100 * acceptedTokens) / draftTokens,
    acceptanceLength: 1 + acceptedTokens / numDrafts,
    perPosition: after.perPosition.map(
      (accepted, i) => (accepted - (before?.perPosition[i] ?? 0)) / numDrafts,
    ),
  };
}
