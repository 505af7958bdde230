import type { EngineClient } from "../engine/engine-client.js";
import type { EngineInfo } from "../engine/messages.js";
import type { EngineStats } from "../engine/stats.js";
import { invalidField } from "./errors.js";
import type { MeterFactory } from "./meter-factory.js";

/**
 * Most drafts in a step that a request asks for, `speculative: {num_speculative_tokens}`; null: as many as the server makes. Errors: 400
 * that names the field.
 */
export function speculativeTokens(
  speculative: Record<string, unknown> | null | undefined,
  { speculation }: Pick<EngineInfo, "speculation">,
): number | null {
  if (speculative === null || speculative === undefined) return null;
  const param = "speculative.num_speculative_tokens";
  const other = Object.keys(speculative).find(
    (field) => field !== "num_speculative_tokens",
  );
  if (other !== undefined)
    throw invalidField("speculative", "only num_speculative_tokens", other);
  const wanted = speculative["num_speculative_tokens"];
  const most = speculation?.numSpeculativeTokens ?? 0;
  if (
    typeof wanted === "number" &&
    Number.isInteger(wanted) &&
    wanted >= 0 &&
    wanted <= most
  )
    return wanted;
  const expected = speculation
    ? `an integer from 0 to ${most}`
    : "0, as this server runs without --speculative-config";
  throw invalidField(param, expected, wanted);
}

/** The series of speculation, where there is any. */
export function addSpeculation(make: MeterFactory, engine: EngineClient): void {
  const { speculation } = engine.info;
  if (!speculation) return;
  const stats = () => engine.stats.speculation;
  const totals = [
    [
      "vllm:spec_decode_num_drafts_total",
      "Sequences with drafts, once per step.",
      "numDrafts",
    ],
    [
      "vllm:spec_decode_num_draft_tokens_total",
      "Drafts that were verified.",
      "numDraftTokens",
    ],
    [
      "vllm:spec_decode_num_accepted_tokens_total",
      "Drafts that became output.",
      "numAcceptedTokens",
    ],
  ] as const;
  for (const [name, help, key] of totals)
    make.total(name, help, null, () => ({ "": stats()?.[key] ?? 0 }));
  make.total(
    "vllm:spec_decode_num_accepted_tokens_per_pos_total",
    "Drafts that became output, by position among the drafts.",
    "position",
    () => {
      const perPosition = stats()?.acceptedPerPosition ?? [];
      const positions: Record<string, number> = {};
      for (let p = 0; p < speculation.numSpeculativeTokens; p++)
        positions[p] = perPosition[p] ?? 0;
      return positions;
    },
  );
  make.gauge(
    "octavo_draft_acceptance_length",
    "Mean tokens of a sequence in a step with drafts for it, over the latest ones.",
    () => stats()?.acceptanceLength ?? 1,
  );
}

/** Drafts that are judged before a word is said about them. */
const ENOUGH_JUDGED = 1000;
/** Below it half of the first drafts are wrong: most of what is verified is wasted. */
const POOR = 0.5;

/** Calls `warn` once, when less than half of the drafts turn out to be right while those before them were. */
export function watchAcceptance(
  engine: Pick<EngineClient, "onStep" | "info">,
  warn: (fields: object, message: string) => void,
): void {
  const { speculation } = engine.info;
  if (!speculation) return;
  let lowSince = 0;
  const stop = engine.onStep(({ speculation: stats }: EngineStats) => {
    if (!stats) return;
    if (stats.conditionalAcceptance >= POOR) lowSince = stats.numJudged;
    if (stats.numJudged - lowSince < ENOUGH_JUDGED) return;
    warn(
      {
        method: speculation.method,
        conditionalAcceptance: Number(stats.conditionalAcceptance.toFixed(3)),
        acceptanceLength: Number(stats.acceptanceLength.toFixed(2)),
      },
      "most drafts are refused: speculation gains little on this traffic",
    );
    stop();
  });
}

/** Calls `error` once, when the drafter has given up: requests go on without drafts. */
export function watchDrafter(
  engine: Pick<EngineClient, "onStep" | "info">,
  error: (fields: object, message: string) => void,
): void {
  const { speculation } = engine.info;
  if (!speculation) return;
  const stop = engine.onStep(({ speculation: stats }: EngineStats) => {
    if (!stats || stats.failure === null) return;
    error(
      { method: speculation.method, error: stats.failure },
      "the draft model failed: there are no more drafts, requests go on without",
    );
    stop();
  });
}
