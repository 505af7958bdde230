/// <reference lib="dom" />
import { BlockMap } from "./block-map.js";
import type { History } from "./history.js";
import { Plot, type PlotSeries } from "./plot.js";
import { formatValue } from "./scale.js";
import { ShareBar } from "./share-bar.js";
import type { Snapshot } from "./snapshot.js";

/** Over which shares and means are taken. */
const RECENT = 10;
const MINUTE = 60;

/** Parts of the engine's loop, in order, with their colours and names; the device computes while the loop waits for it. */
const STAGES = [
  ["draft", "s2", "drafting"],
  ["schedule", "violet", "scheduling"],
  ["pack", "ochre", "packing"],
  ["launch", "slate", "launching"],
  ["collect", "s1", "waiting for the device"],
  ["update", "s3", "booking"],
] as const;

/** Sizes of steps told apart: up to so many tokens. Bounds of the metric's buckets. */
const SIZES = [
  [1, "s1", "1 token:"],
  [8, "s3", "2 to 8:"],
  [64, "ochre", "9 to 64:"],
  [512, "s2", "65 to 512:"],
  [Infinity, "violet", "more:"],
] as const;

const QUANTILES: readonly PlotSeries[] = [
  { name: "s1", label: "p50" },
  { name: "s2", label: "p95" },
];

/** Everything that is drawn of the server's figures. */
export class Figures {
  private readonly requests = new Plot({
    title: "Requests",
    series: [
      { name: "s1", label: "running" },
      { name: "s2", label: "waiting" },
    ],
    least: 4,
  });
  private readonly tokens = new Plot({
    title: "Tokens per second",
    series: [
      { name: "s1", label: "out" },
      { name: "s2", label: "in" },
    ],
    least: 10,
  });
  private readonly batch = new Plot({
    title: "Tokens per step",
    series: [{ name: "s1", label: "mean" }],
    least: 4,
  });
  private readonly sizes = new ShareBar("Steps by their tokens");
  private readonly stages = new ShareBar("A step's time");
  private readonly blocks = new BlockMap();
  private readonly prefixes = new ShareBar("Prefix cache");
  private readonly ttft = new Plot({
    title: "Time to first token, ms",
    series: QUANTILES,
    least: 10,
  });
  private readonly itl = new Plot({
    title: "Between tokens, ms",
    series: QUANTILES,
    least: 4,
  });
  private readonly speculation = new ShareBar("Drafts");

  constructor(parent: HTMLElement) {
    const figures = [
      ...[this.requests, this.tokens, this.blocks, this.prefixes],
      ...[this.batch, this.sizes, this.stages, this.ttft, this.itl],
      this.speculation,
    ];
    parent.append(...figures.map(({ element }) => element));
  }

  draw(history: History, now: number): void {
    const { latest } = history;
    if (latest === undefined) return;
    const lines = {
      running: history.values((s) => s.running),
      waiting: history.values((s) => s.waiting),
      out: history.rates((s) => s.generationTokens),
      in: history.rates((s) => s.promptTokens),
      batch: history.ratios(
        (s) => s.stepTokens,
        (s) => s.steps,
      ),
    };
    this.requests.draw([lines.running, lines.waiting], now);
    this.tokens.draw([lines.out, lines.in], now);
    this.batch.draw([lines.batch], now);
    this.blocks.draw(latest.blocks);
    this.drawPrefixes(history);
    this.drawSizes(history);
    this.drawStages(history, latest);
    for (const [plot, pick] of [
      [this.ttft, (s: Snapshot) => s.ttft],
      [this.itl, (s: Snapshot) => s.itl],
    ] as const)
      plot.draw(
        [0.5, 0.95].map((q) =>
          history
            .quantiles(q, pick)
            .map(({ time, value }) => ({ time, value: value && value * 1e3 })),
        ),
        now,
      );
    this.drawSpeculation(history, latest);
  }

  private drawPrefixes(history: History): void {
    const hits = history.growth((s) => s.prefixHits, MINUTE);
    const queries = history.growth((s) => s.prefixQueries, MINUTE);
    this.prefixes.draw(
      queries > 0
        ? "tokens of the last minute"
        : "no prompt in the last minute",
      [
        { name: "cached", label: "cached", amount: hits, text: whole(hits) },
        {
          name: "s1",
          label: "computed",
          amount: queries - hits,
          text: whole(queries - hits),
        },
      ],
    );
  }

  private drawSizes(history: History): void {
    const atMost = (bound: number): number =>
      history.growth(
        ({ stepSizes: { bounds, cumulative } }) =>
          cumulative[bounds.indexOf(bound)] ?? 0,
        RECENT,
      );
    const counts = SIZES.map(([bound]) => atMost(bound));
    const shares = SIZES.map(([, name, label], i) => ({
      name,
      label,
      amount: (counts[i] ?? 0) - (counts[i - 1] ?? 0),
    }));
    const steps = counts.at(-1) ?? 0;
    const rate = formatValue(steps / history.known(RECENT));
    this.sizes.draw(steps > 0 ? `${rate} steps/s` : "no step lately", shares);
  }

  private drawStages(history: History, { speculation }: Snapshot): void {
    const steps = history.growth((s) => s.steps, RECENT);
    const shares = STAGES.filter(
      ([stage]) => stage !== "draft" || speculation !== null,
    ).map(([stage, name, label]) => ({
      name,
      label,
      amount: history.growth((s) => s.stageSeconds.get(stage) ?? 0, RECENT),
    }));
    const seconds = shares.reduce((sum, { amount }) => sum + amount, 0);
    const mean = formatValue((seconds / steps) * 1e3);
    this.stages.draw(
      steps > 0
        ? `${mean} ms, mean of ${whole(steps)} steps`
        : "no step lately",
      shares,
    );
  }

  private drawSpeculation(history: History, latest: Snapshot): void {
    const { speculation } = latest;
    this.speculation.element.hidden = speculation === null;
    if (speculation === null) return;
    const drafted = history.growth(
      (s) => s.speculation?.draftTokens ?? 0,
      MINUTE,
    );
    const accepted = history.growth(
      (s) => s.speculation?.acceptedTokens ?? 0,
      MINUTE,
    );
    const length = formatValue(speculation.acceptanceLength);
    this.speculation.draw(
      drafted > 0
        ? `${length} tokens a step with drafts`
        : "none in the last minute",
      [
        { name: "s3", label: "accepted", amount: accepted },
        { name: "s2", label: "refused", amount: drafted - accepted },
      ],
    );
  }
}

const whole = (value: number): string =>
  Math.round(value).toLocaleString("en-US");
