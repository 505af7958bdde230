/// <reference lib="dom" />
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { hasChromium, openBrowser, type TestBrowser } from "./browser.js";
import { coloursIn, contrasts, cutTexts } from "../support/looks.js";
import { runBench } from "./flags.js";
import { finish, scriptedServer, sleep, token } from "./scripted-server.js";

const scratch = mkdtempSync(path.join(os.tmpdir(), "octavo-report-"));
afterAll(() => rmSync(scratch, { recursive: true }));

/** What --save-detailed wrote, read without the bench's own code. */
interface Saved {
  duration: number;
  completed: number;
  total_output_tokens: number;
  output_throughput: number;
  median_ttft_ms: number;
  p99_itl_ms: number;
  ttfts: number[];
  itls: number[][];
  output_lens: number[];
  errors: string[];
  server_samples: { time: number; running: number; kvCacheUsage: number }[];
}

/** As numpy.percentile does by default. */
function percentileOf(values: number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = (p / 100) * (sorted.length - 1);
  const low = sorted[Math.floor(rank)] ?? NaN;
  const high = sorted[Math.ceil(rank)] ?? NaN;
  return low + (high - low) * (rank % 1);
}

const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);

describe.skipIf(!hasChromium)(
  "the page of bench serve in a browser (needs /usr/bin/chromium)",
  () => {
    const single = path.join(scratch, "single.html");
    const swept = path.join(scratch, "sweep.html");
    let saved: Saved;
    let browser: TestBrowser;
    let page: Page;
    const requested: string[] = [];

    beforeAll(async () => {
      let polls = 0;
      const server = await scriptedServer(
        async (response, index, { body }) => {
          const count = Number(body["max_tokens"]);
          await sleep(5 + (index % 7) * 8);
          if (index === 3) {
            response.statusCode = 503;
            return void response.end(
              '{"error":{"message":"<b>full</b> & \\"done\\"","type":"overloaded"}}',
            );
          }
          for (let i = 0; i < count; i++) {
            await sleep(1 + (i % 3) * 4);
            token(response);
          }
          finish(response, 6, count);
        },
        {
          metrics: () =>
            `vllm:num_requests_running{engine="0"} ${++polls}\nvllm:num_requests_waiting{engine="0"} 1\nvllm:kv_cache_usage_perc{engine="0"} 0.25\n`,
        },
      );
      const common = [
        ...["--random-input-len", "6", "--num-prompts", "30"],
        ...["--random-output-len", "12", "--random-range-ratio", "0.5"],
        ...["--result-dir", scratch, "--api-key", "hidden-key"],
      ];
      const { file } = await runBench(server.url, [
        ...common,
        ...["--request-rate", "40", "--goodput", "ttft:40"],
        ...["--save-detailed", "--html", single],
      ]);
      saved = JSON.parse(readFileSync(file ?? "", "utf8")) as Saved;
      await runBench(server.url, [
        ...common,
        ...["--sweep", "max-concurrency=1,4,16", "--html", swept],
      ]);
      server.close();
      browser = await openBrowser();
      page = await browser.context.newPage();
      page.on("request", (request) => requested.push(request.url()));
      await page.goto(pathToFileURL(single).href);
    });
    afterAll(() => browser.close());

    /** Cells of the table of numbers below a plot. */
    const numbers = (chart: string): Promise<string[][]> =>
      page
        .locator(`figure[data-chart=${chart}] tbody tr`)
        .evaluateAll((rows) =>
          rows.map((row) =>
            Array.from(row.children, (cell) => cell.textContent ?? ""),
          ),
        );

    it("is complete in itself", async () => {
      expect(requested).toEqual([pathToFileURL(single).href]);
      const text = readFileSync(single, "utf8");
      expect(text).not.toMatch(
        /<script|<link|<img|url\(|@import|https?:\/\/(?!127\.0\.0\.1)/,
      );
      expect(text).not.toContain("hidden-key");
      expect(await page.title()).toBe("scripted · octavo bench serve");
    });

    it("has every plot, with a name and a description", async () => {
      const figures = await page
        .locator("figure")
        .evaluateAll((all) => all.map((one) => one.getAttribute("data-chart")));
      expect(figures).toEqual([
        ...["ttft", "itl", "tpot", "e2el"],
        ...["throughput", "concurrency", "batch", "kv", "gantt"],
      ]);
      const plots = await page.locator("svg").evaluateAll((all) =>
        all.map((svg) => {
          const ids = (svg.getAttribute("aria-labelledby") ?? "").split(" ");
          return ids.map(
            (id) => document.getElementById(id)?.textContent ?? "",
          );
        }),
      );
      for (const [title, description] of plots) {
        expect(title).not.toBe("");
        expect(description?.length).toBeGreaterThan(20);
      }
      const labels = await page.locator("svg .label").allTextContents();
      expect(labels).toHaveLength(2 * figures.length);
      expect(labels).toContain("% of the blocks");
      expect(labels).toContain("time since the start (s)");
    });

    it("shows what an independent reading of the details gives", async () => {
      const good = saved.errors.map((error) => error === "");
      const ttfts = saved.ttfts.filter((_, i) => good[i]).map((x) => x * 1e3);
      const itls = saved.itls.filter((_, i) => good[i]).flat();
      const rows = await page
        .locator(".charts + .scroll tbody tr")
        .allTextContents();
      const header = await page
        .locator(".charts + .scroll thead th")
        .allTextContents();
      expect(header).toEqual(
        "latency values mean P1 P10 P25 P50 P75 P90 P95 P99 P99.9".split(" "),
      );
      const cells = await page
        .locator(".charts + .scroll tbody tr")
        .first()
        .locator("td")
        .allTextContents();
      expect(rows).toHaveLength(4);
      expect(cells[1]).toBe("29");
      expect(cells[2]).toBe((sum(ttfts) / 29).toFixed(3));
      for (const [column, p] of [1, 10, 25, 50, 75, 90, 95, 99, 99.9].entries())
        expect(Number(cells[column + 3])).toBeCloseTo(
          percentileOf(ttfts, p),
          2,
        );
      expect(saved.median_ttft_ms).toBeCloseTo(percentileOf(ttfts, 50), 9);
      expect(saved.p99_itl_ms).toBeCloseTo(percentileOf(itls, 99) * 1e3, 9);
      expect(sum((await numbers("ttft")).map((row) => Number(row[2])))).toBe(
        29,
      );
      expect(sum((await numbers("itl")).map((row) => Number(row[2])))).toBe(
        itls.length,
      );
      const tokens = (await numbers("throughput")).map(
        ([from, to, rate]) => (Number(to) - Number(from)) * Number(rate),
      );
      expect(sum(tokens)).toBeCloseTo(saved.total_output_tokens, 0);
      expect(saved.total_output_tokens).toBe(
        sum(saved.output_lens.filter((_, i) => good[i])),
      );
      expect(saved.output_throughput).toBeCloseTo(
        saved.total_output_tokens / saved.duration,
        9,
      );
      expect((await numbers("batch")).map((row) => Number(row[1]))).toEqual(
        saved.server_samples.map(({ running }) => running),
      );
      const tile = await page.locator(".tile").nth(4).textContent();
      expect(tile).toContain("29");
    });

    it("draws each histogram's bars as high as its counts", async () => {
      const counts = (await numbers("ttft")).map((row) => Number(row[2]));
      const heights = await page
        .locator("figure[data-chart=ttft] rect.bar")
        .evaluateAll((bars) =>
          bars.map((bar) => Number(bar.getAttribute("height"))),
        );
      const unit = (heights[0] ?? NaN) / (counts[0] ?? NaN);
      heights.forEach((height, i) =>
        expect(height / unit).toBeCloseTo(counts[i] ?? NaN, 1),
      );
    });

    it("says what failed, as text", async () => {
      const failures = await page.locator(".failures td").allTextContents();
      expect(failures).toEqual([
        'HTTP 503 (overloaded): <b>full</b> & "done"',
        "1",
      ]);
      expect(await page.locator("rect.failed").count()).toBe(1);
    });

    it("keeps every text within its plot, at any width", async () => {
      for (const width of [1300, 700, 380]) {
        await page.setViewportSize({ width, height: 900 });
        expect(await cutTexts(page)).toEqual([]);
        const wide = await page.evaluate(
          () => document.documentElement.scrollWidth,
        );
        expect(wide).toBeLessThanOrEqual(width);
      }
      await page.setViewportSize({ width: 1300, height: 900 });
    });

    it("is readable in light, in dark and on paper", async () => {
      const shots: Buffer[] = [];
      for (const [media, scheme, dark] of [
        ["screen", "light", false],
        ["screen", "dark", true],
        ["print", "dark", false],
      ] as const) {
        await page.emulateMedia({ media, colorScheme: scheme });
        const { paper, texts } = await contrasts(
          page,
          "body, .quiet, svg .axis text",
        );
        expect(paper < 0.05).toBe(dark);
        expect(texts.length).toBeGreaterThan(2);
        for (const { text, contrast } of texts)
          expect(contrast, text).toBeGreaterThan(4.5);
        if (media === "screen")
          shots.push(await page.locator("figure").first().screenshot());
      }
      await page.emulateMedia({ media: "screen", colorScheme: "light" });
      for (const shot of shots)
        expect(await coloursIn(page, shot)).toBeGreaterThan(20);
      expect(shots[0]?.equals(shots[1] ?? Buffer.alloc(0))).toBe(false);
    });

    it("draws latency and throughput against load for a sweep", async () => {
      const sweep = await browser.context.newPage();
      await sweep.goto(pathToFileURL(swept).href);
      const charts = await sweep
        .locator("section > .charts figure")
        .evaluateAll((all) => all.map((one) => one.getAttribute("data-chart")));
      expect(charts.slice(0, 4)).toEqual([
        ...["sweep-ttft", "sweep-tpot"],
        ...["sweep-throughput", "sweep-requests"],
      ]);
      expect(
        await sweep.locator("figure[data-chart=sweep-ttft] circle").count(),
      ).toBe(2 * 3);
      expect(
        await sweep.locator("details.run > summary").allTextContents(),
      ).toEqual(["1 in flight", "4 in flight", "16 in flight"]);
      // More in flight, more throughput: the scripted server has no limit of its own.
      const rates = await sweep
        .locator("figure[data-chart=sweep-throughput] tbody td:nth-child(2)")
        .allTextContents();
      expect(Number(rates[2])).toBeGreaterThan(Number(rates[0]));
      await sweep.close();
    });
  },
);
