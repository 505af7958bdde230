/// <reference lib="dom" />
import http from "node:http";
import type { AddressInfo } from "node:net";
import { describe, expect, it } from "vitest";
import { hasChromium } from "../bench/browser.js";
import { startServer } from "../e2e/server-process.js";
import { pagedEngine } from "../server/known-engine.js";
import { bytes, says, ScriptedEngine, serve } from "../server/support.js";
import { coloursIn, contrasts, cutTexts } from "../support/looks.js";
import { Tab } from "./tab.js";

describe.skipIf(!hasChromium)(
  "the page in a browser (needs /usr/bin/chromium)",
  () => {
    const tab = new Tab();

    it("fills itself from the server", async () => {
      await tab.start(says("x"), { version: "9.8.7" });
      expect(await tab.page.title()).toBe("Octavo");
      await expect
        .poll(() => tab.page.locator("#model option").allTextContents())
        .toEqual(["tiny", "org/tiny"]);
      expect(await tab.page.textContent("#context")).toBe("context 4,096");
      await expect.poll(() => tab.page.textContent("#version")).toBe("9.8.7");
      expect(await tab.page.textContent("#state")).toBe("ready");
      expect(
        await tab.page.evaluate(() => document.activeElement?.id),
        "typing can begin at once",
      ).toBe("prompt");
    });

    it("says when the server is not ready, and when it is again", async () => {
      const { engine, post } = await tab.start(says("x"));
      await tab.page.setViewportSize({ width: 390, height: 844 });
      const ask = async (): Promise<string | null> => {
        await tab.page.evaluate(() =>
          document.dispatchEvent(new Event("visibilitychange")),
        );
        return tab.page.textContent("#state");
      };
      tab.allow(/status of 503/);
      engine.restarting = true;
      await post("/v1/completions", { prompt: "a" });
      await expect.poll(ask).toBe("the device is being restarted");
      expect(
        await tab.page.evaluate(() => document.documentElement.scrollWidth),
      ).toBeLessThanOrEqual(390);
      engine.restarting = false;
      await post("/v1/completions", { prompt: "a" });
      await expect.poll(ask).toBe("ready");
    });

    it("can be used by keyboard alone", async () => {
      await tab.start(says("x"));
      const skip = tab.page.getByRole("link", {
        name: "Skip to the message field",
      });
      await skip.focus();
      expect(
        await skip.evaluate((link) => link.getBoundingClientRect().top),
      ).toBe(8);
      await tab.page.keyboard.press("Enter");
      const focused = (): Promise<string | undefined> =>
        tab.page.evaluate(() => document.activeElement?.id);
      expect(await focused()).toBe("prompt");
      await tab.page.keyboard.type("a");
      await tab.page.keyboard.press("Tab");
      expect(await focused()).toBe("send");
      await tab.page.keyboard.press("Enter");
      await tab.answer("done").waitFor();
      const seen: string[] = [];
      for (let i = 0; i < 8; i++) {
        await tab.page.keyboard.press("Shift+Tab");
        seen.push(
          await tab.page.evaluate(
            () =>
              document.activeElement?.id ||
              (document.activeElement?.textContent ?? ""),
          ),
        );
      }
      expect(seen.join(" ")).toContain(
        "Try again Copy messages fresh copy toggle model",
      );
    });

    it("asks for keys where they are asked for, and keeps them for the tab", async () => {
      const { url } = await tab.start(says("x"), {
        apiKeys: ["secret"],
        metricsApiKey: "numbers",
      });
      tab.allow(/status of 401/);
      const key = tab.page.getByLabel("This server asks for an API key");
      await key.fill("schlüssel");
      await key.press("Enter");
      await expect
        .poll(() => tab.page.locator("#key-form p").textContent())
        .toBe("The key has letters that no key can have.");
      await key.fill("wrong");
      await key.press("Enter");
      await expect
        .poll(() => tab.page.locator("#key-form p").textContent())
        .toBe("Incorrect API key provided.");
      await key.fill("secret");
      await key.press("Enter");
      await expect
        .poll(() => tab.page.locator("#key-form").isHidden())
        .toBe(true);
      await tab.say("a");
      await tab.answer("done").waitFor();
      await tab.page.getByLabel("/metrics asks for its key").fill("numbers");
      await tab.page.locator("#metrics-key-form button").click();
      await expect
        .poll(() => tab.page.locator("#metrics-key-form").isHidden())
        .toBe(true);
      const kept = await tab.page.evaluate(() => ({
        tab: Object.values({ ...sessionStorage }).sort(),
        browser: localStorage.length + document.cookie.length,
      }));
      expect(kept).toEqual({ tab: ["numbers", "secret"], browser: 0 });
      expect(tab.page.url()).toBe(`${url}/`);
    });

    it("draws what the server does now", async () => {
      const { app, post } = await serve(
        pagedEngine({ numBlocks: 64, maxModelLen: 128 }),
        { info: { numBlocks: 64 } },
      );
      await tab.open(await app.listen({ port: 0, host: "127.0.0.1" }));
      const legend = (title: string) =>
        tab.page
          .locator("#figures figure", { hasText: title })
          .locator(".legend");
      const blocks = () => legend("KV blocks").last().textContent();
      await expect.poll(blocks).toBe("used 0cached 0free 64");
      const idle = await tab.page.locator("path.line").evaluateAll(pathData);
      for (let i = 0; i < 3; i++)
        await post("/v1/completions", {
          prompt: bytes("p".repeat(50)),
          max_tokens: 9,
          ignore_eos: true,
        });
      await expect.poll(blocks).toBe("used 0cached 3free 61");
      await expect
        .poll(() => legend("Prefix cache").last().textContent())
        .toBe("cached 96computed 54");
      await expect
        .poll(() => legend("Between tokens").first().textContent())
        .toMatch(/p50 [\d.]+p95 [\d.]+/);
      await expect
        .poll(() => legend("Steps by their tokens").first().textContent())
        .toMatch(/^[\d.,]+ steps\/s$/);
      await expect
        .poll(() => legend("A step's time").first().textContent())
        .toMatch(/^[\d.]+ ms, mean of \d+ steps$/);
      const busy = await tab.page.locator("path.line").evaluateAll(pathData);
      expect(busy).not.toEqual(idle);
      const squares = (state: string) =>
        tab.page
          .locator(`path.blocks.${state}`)
          .evaluate((path) => path.getAttribute("d")?.split("M").length);
      expect(await squares("cached")).toBe(1 + 3);
      expect(await squares("free")).toBe(1 + 61);
      expect(
        await tab.page.locator("figure", { hasText: "Drafts" }).count(),
      ).toBe(1);
      expect(
        await tab.page.locator("figure", { hasText: "Drafts" }).isHidden(),
      ).toBe(true);
    });

    it("reads the figures only while they can be seen", async () => {
      const { url } = await tab.start(says("x"));
      let reads = 0;
      tab.page.on("request", (request) => {
        if (request.url() === `${url}/metrics`) reads++;
      });
      const goesOn = async (): Promise<void> => {
        const before = reads;
        await expect.poll(() => reads).toBeGreaterThan(before + 1);
      };
      const rests = async (): Promise<void> => {
        // What was under way ends.
        await tab.page.waitForTimeout(300);
        const before = reads;
        await tab.page.waitForTimeout(1500);
        expect(reads).toBe(before);
      };
      const show = (state: string): Promise<void> =>
        tab.page.evaluate((now) => {
          Object.defineProperty(document, "visibilityState", {
            value: now,
            configurable: true,
          });
          document.dispatchEvent(new Event("visibilitychange"));
        }, state);
      await goesOn();
      await show("hidden");
      await rests();
      await show("visible");
      await goesOn();
      await tab.page.getByRole("button", { name: "Pause" }).click();
      await rests();
      await tab.page.getByRole("button", { name: "Go on" }).click();
      await goesOn();
      await tab.page.setViewportSize({ width: 390, height: 844 });
      await rests();
      await tab.page.getByRole("button", { name: "Live" }).click();
      await goesOn();
    });

    it("talks with the built-in model", async () => {
      const server = await startServer(["--device", "cpu"]);
      try {
        await tab.open(`${server.url}/`);
        await tab.page.getByRole("button", { name: "Settings" }).click();
        await tab.page.getByLabel("Temperature").fill("0");
        await tab.page.getByRole("button", { name: "Settings" }).click();
        await tab.page
          .getByRole("button", { name: "What is 17 + 25?" })
          .click();
        await tab.answer("done").waitFor();
        expect(
          await tab.answer("done").locator(".text").textContent(),
        ).toContain("42");
        await expect
          .poll(() => tab.page.locator("path.blocks.cached").getAttribute("d"))
          .toMatch(/^M0 0h/);
      } finally {
        await server.stop();
      }
    });

    it("says where there are no metrics, and does not ask again", async () => {
      const { url } = await tab.start(says("x"), { metrics: false });
      tab.allow(/status of 404/);
      await expect
        .poll(() => tab.page.locator("#live-notice").textContent())
        .toContain("--disable-log-stats");
      const asked: string[] = [];
      tab.page.on("request", (request) => asked.push(request.url()));
      await tab.page.waitForTimeout(1500);
      expect(asked).not.toContain(`${url}/metrics`);
    });

    it("works behind a proxy's prefix", async () => {
      const { app } = await serve(new ScriptedEngine(says("Hello.")));
      const target = new URL(await app.listen({ port: 0, host: "127.0.0.1" }));
      const proxy = http.createServer((request, response) => {
        if (request.url?.startsWith("/models/octavo/") !== true) {
          response.statusCode = 404;
          return void response.end();
        }
        const { method, headers } = request;
        const path = request.url.slice("/models/octavo".length);
        const onward = http.request(
          { host: target.hostname, port: target.port, path, method, headers },
          (answered) => {
            response.writeHead(answered.statusCode ?? 502, answered.headers);
            answered.pipe(response);
          },
        );
        request.pipe(onward);
      });
      await new Promise<void>((resolve) => proxy.listen(0, resolve));
      const { port } = proxy.address() as AddressInfo;
      await tab.open(`http://127.0.0.1:${port}/models/octavo/`);
      await tab.say("a");
      await tab.answer("done").waitFor();
      await expect
        .poll(() => tab.page.textContent("#freshness"))
        .toBe("once a second");
      proxy.closeAllConnections();
      proxy.close();
    });

    it("is readable at any width, in light and in dark, and has names for all", async () => {
      await tab.start(says("Here:\n```js\nlet x = 1;\n```\nDone."));
      await tab.say("Show me some code, and a_very_long_word_".repeat(8));
      await tab.answer("done").waitFor();
      await tab.page.getByRole("button", { name: "Settings" }).click();
      const shots: Buffer[] = [];
      for (const [scheme, dark] of [
        ["light", false],
        ["dark", true],
      ] as const) {
        await tab.page.emulateMedia({ colorScheme: scheme });
        for (const width of [1280, 700, 390, 320]) {
          await tab.page.setViewportSize({ width, height: 844 });
          for (const view of width > 960 ? [null] : ["Live", "Chat"]) {
            if (view !== null)
              await tab.page
                .getByRole("button", { name: view, exact: true })
                .click();
            await expect.poll(() => cutTexts(tab.page)).toEqual([]);
            const wide = await tab.page.evaluate(() => [
              document.documentElement.scrollWidth,
              ...Array.from(
                document.querySelectorAll("section, #messages, #settings"),
                (part) => part.scrollWidth - part.clientWidth,
              ),
            ]);
            expect(wide[0]).toBeLessThanOrEqual(width);
            expect(Math.max(...wide.slice(1))).toBeLessThanOrEqual(0);
            const { paper, texts } = await contrasts(
              tab.page,
              "p, h1, h2, a, label, span, strong, code, button:enabled, input, select, textarea, svg text",
            );
            expect(paper < 0.05).toBe(dark);
            expect(texts.length).toBeGreaterThan(10);
            for (const { text, contrast } of texts)
              expect(contrast, `${scheme}: ${text}`).toBeGreaterThan(4.5);
            shots.push(await tab.page.screenshot());
          }
        }
      }
      for (const shot of shots)
        expect(await coloursIn(tab.page, shot)).toBeGreaterThan(20);
      expect(new Set(shots.map((shot) => shot.toString("base64"))).size).toBe(
        shots.length,
      );
      const nameless = await tab.page
        .locator("input, textarea, select, button, [role=img], [role=region]")
        .evaluateAll((all) =>
          all
            .filter((element) => {
              const own =
                element.getAttribute("aria-label") ??
                (element.tagName === "BUTTON" ? element.textContent : null);
              const { labels } = element as HTMLInputElement;
              return !(own ?? labels?.[0]?.textContent ?? "").trim();
            })
            .map((element) => element.outerHTML.slice(0, 100)),
        );
      expect(nameless).toEqual([]);
    });
  },
);

/** In the browser. */
const pathData = (paths: (SVGElement | HTMLElement)[]): (string | null)[] =>
  paths.map((path) => path.getAttribute("d"));
