import type { SuffixConfig } from "../../src/core/speculative-config.js";
import { MAX_OCCURRENCES } from "../../src/spec/token-contexts.js";

/** What SuffixDrafter is defined to propose, by looking through everything. */
export class NaiveSuffix {
  private outputs: { salt: string; tokens: number[] }[] = [];

  constructor(private readonly config: Omit<SuffixConfig, "adaptive">) {}

  add(salt: string, tokens: number[]): void {
    if (tokens.length === 0) return;
    this.outputs.push({ salt, tokens });
    const most = this.config.suffixDecodingMaxCachedRequests;
    this.outputs = most === 0 ? [] : this.outputs.slice(-most);
  }

  propose(salt: string, text: number[], wanted: number): number[] {
    const shared = this.outputs.filter((output) => output.salt === salt);
    const best = { score: 0, drafts: [] as number[] };
    this.improve(best, text, wanted, [text], true);
    this.improve(
      best,
      text,
      wanted,
      shared.map(({ tokens }) => tokens),
      false,
    );
    return best.drafts;
  }

  private improve(
    best: { score: number; drafts: number[] },
    text: number[],
    wanted: number,
    texts: number[][],
    own: boolean,
  ): void {
    const { suffixDecodingMaxTreeDepth: depth } = this.config;
    for (let n = Math.min(depth - 1, text.length); n >= 2; n--) {
      const indexed = [16, 8, 4, 2].find((length) => length <= n) ?? 2;
      const found = occurrences(texts, text, indexed, own)
        .slice(0, MAX_OCCURRENCES)
        .filter(({ in: other, at }) => endsWith(other, at, text, n));
      const most = Math.min(
        wanted,
        Math.floor(n * this.config.suffixDecodingMaxSpecFactor + 1e-6),
        depth - n,
      );
      const path = this.follow(found, own, most);
      if (path.score > best.score) Object.assign(best, path);
    }
  }

  private follow(found: Occurrence[], own: boolean, most: number) {
    const drafts: number[] = [];
    let score = 0;
    let agreeing = found;
    while (drafts.length < most) {
      const next = ({ in: text, at }: Occurrence): number | undefined =>
        (own ? [...text, ...drafts] : text)[at + 1 + drafts.length];
      const votes = new Map<number, number>();
      for (const one of agreeing) {
        const token = next(one);
        if (token !== undefined) votes.set(token, (votes.get(token) ?? 0) + 1);
      }
      // A Map keeps the order of insertion: of equals the latest occurrence's comes first.
      const [winner] = [...votes].sort((a, b) => b[1] - a[1]);
      if (!winner) break;
      agreeing = agreeing.filter((one) => next(one) === winner[0]);
      const probability = winner[1] / found.length;
      if (probability < this.config.suffixDecodingMinTokenProb) break;
      drafts.push(winner[0]);
      score += probability;
    }
    return { score, drafts };
  }
}

interface Occurrence {
  in: number[];
  /** Of the last token that matches. */
  at: number;
}

/** Of the last `n` tokens of `text`, the latest first; not the end itself. */
function occurrences(
  texts: number[][],
  text: number[],
  n: number,
  own: boolean,
): Occurrence[] {
  return texts
    .flatMap((other) =>
      other.map((_token, at): Occurrence => ({ in: other, at })),
    )
    .filter(
      ({ in: other, at }) =>
        endsWith(other, at, text, n) && !(own && at === text.length - 1),
    )
    .reverse();
}

/** Whether other[..at] ends in the last n tokens of `text`. */
function endsWith(
  other: number[],
  at: number,
  text: number[],
  n: number,
): boolean {
  if (at + 1 < n || text.length < n) return false;
  for (let i = 0; i < n; i++)
    if (other[at - i] !== text[text.length - 1 - i]) return false;
  return true;
}
