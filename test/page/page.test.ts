/// <reference lib="dom" />
import http from "node:http";
import type { AddressInfo } from "node:net";
import type { Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import {
  hasChromium,
  openBrowser,
  type TestBrowser,
} from "../bench/browser.js";
import { startServer } from "../e2e/server-process.js";
import { pagedEngine } from "../server/known-engine.js";
import {
  bytes,
  END,
  says,
  ScriptedEngine,
  serve,
  TOOL_TEMPLATE,
  type Script,
} from "../server/support.js";
import { coloursIn, contrasts, cutTexts } from "../support/looks.js";

type Options = Parameters<typeof serve>[1];

const REASONING = `${TOOL_TEMPLATE}{# <think></think> #}`;
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};
const EVIL = `<img src=x onerror="window.bad=1"><script>window.bad=1</script>`;

/** Stops computing after some steps, in the middle of an answer. */
class PausingEngine extends ScriptedEngine {
  left = Infinity;
  override step() {
    if (this.left-- <= 0) this.running = false;
    return super.step();
  }
}

describe.skipIf(!hasChromium)(
  "the page in a browser (needs /usr/bin/chromium)",
  () => {
    let browser: TestBrowser;
    let page: Page;
    /** What a page must not do: complain, fail, ask another host. */
    let faults: string[] = [];
    let expected: RegExp | null = null;

    beforeAll(async () => {
      browser = await openBrowser();
    });
    afterAll(() => browser.close());
    afterEach(async () => {
      await page.close();
      const left = faults.filter((fault) => expected?.test(fault) !== true);
      expect(left).toEqual([]);
    });

    async function open(url: string): Promise<void> {
      faults = [];
      expected = null;
      const { origin } = new URL(url);
      page = await browser.context.newPage();
      page.on("console", (message) => {
        if (message.type() === "error") faults.push(message.text());
      });
      page.on("pageerror", (error) => faults.push(error.message));
      page.on("request", (request) => {
        if (new URL(request.url()).origin !== origin)
          faults.push(`asked ${request.url()}`);
      });
      await page.goto(url);
      await page.locator("#state[data-state=ready]").waitFor();
    }

    async function start(script: Script, options: Options = {}) {
      const engine = new PausingEngine(script);
      const { app, post } = await serve(engine, {
        info: { maxModelLen: 4096 },
        ...options,
      });
      const url = await app.listen({ port: 0, host: "127.0.0.1" });
      await open(`${url}/`);
      return { engine, app, post, url };
    }

    async function say(text: string): Promise<void> {
      await page.fill("#prompt", text);
      await page.press("#prompt", "Enter");
    }
    const answer = (state: string) =>
      page.locator(`.assistant[data-state=${state}]`).last();
    const prompts = ({ requests }: ScriptedEngine): string[] =>
      requests.map(({ promptTokenIds }) =>
        Buffer.from(promptTokenIds).toString(),
      );

    it("fills itself from the server", async () => {
      await start(says("x"), { version: "9.8.7" });
      expect(await page.title()).toBe("Octavo");
      await expect
        .poll(() => page.locator("#model option").allTextContents())
        .toEqual(["tiny", "org/tiny"]);
      expect(await page.textContent("#context")).toBe("context 4,096");
      await expect.poll(() => page.textContent("#version")).toBe("9.8.7");
      expect(await page.textContent("#state")).toBe("ready");
      expect(
        await page.evaluate(() => document.activeElement?.id),
        "typing can begin at once",
      ).toBe("prompt");
    });

    it("holds a conversation, streamed, with what each answer took", async () => {
      const { engine } = await start(says("Hello there."));
      await page.locator("#model").selectOption("org/tiny");
      await page.fill("#prompt", "Hi");
      await page.press("#prompt", "Shift+Enter");
      await page.keyboard.type("you");
      await page.press("#prompt", "Enter");
      await answer("done").waitFor();
      expect(await answer("done").locator(".text").textContent()).toBe(
        "Hello there.",
      );
      expect(await answer("done").locator(".facts").textContent()).toMatch(
        /^first token [\d.]+ ms · ([\d.]+ tokens\/s · )?13 tokens · prompt 23 · stop$/,
      );
      expect(await page.textContent("#announcer")).toBe("Hello there.");
      await say("More");
      await expect.poll(() => page.locator(".assistant").count()).toBe(2);
      await answer("done").waitFor();
      expect(prompts(engine)).toEqual([
        "[user]Hi\nyou[assistant]",
        "[user]Hi\nyou[assistant]Hello there.[user]More[assistant]",
      ]);
      await page.getByRole("button", { name: "Try again" }).click();
      await expect.poll(() => engine.requests.length).toBe(3);
      await answer("done").waitFor();
      expect(prompts(engine)[2]).toBe(prompts(engine)[1]);
      expect(await page.locator(".assistant").count()).toBe(2);
      await page.getByRole("button", { name: "New chat" }).click();
      expect(await page.locator(".message").count()).toBe(0);
      await page.getByRole("button", { name: "What is Octavo?" }).click();
      await answer("done").waitFor();
      expect(prompts(engine)[3]).toBe("[user]What is Octavo?[assistant]");
    });

    it("says when the server is not ready, and when it is again", async () => {
      const { engine, post } = await start(says("x"));
      await page.setViewportSize({ width: 390, height: 844 });
      const ask = async (): Promise<string | null> => {
        await page.evaluate(() =>
          document.dispatchEvent(new Event("visibilitychange")),
        );
        return page.textContent("#state");
      };
      expected = /status of 503/;
      engine.restarting = true;
      await post("/v1/completions", { prompt: "a" });
      await expect.poll(ask).toBe("the device is being restarted");
      expect(
        await page.evaluate(() => document.documentElement.scrollWidth),
      ).toBeLessThanOrEqual(390);
      engine.restarting = false;
      await post("/v1/completions", { prompt: "a" });
      await expect.poll(ask).toBe("ready");
    });

    it("sends the settings that are filled in, and no others", async () => {
      const { engine } = await start(says("x"));
      await say("a");
      await answer("done").waitFor();
      const defaults = engine.requests[0]?.params;
      expect(defaults?.maxTokens).toBeGreaterThan(1000);
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("System prompt").fill("Be brief.");
      await page.getByLabel("Temperature").fill("0.25");
      await page.getByLabel("Max tokens").fill("7");
      await page.getByLabel("Seed").fill("42");
      await page.getByRole("button", { name: "New chat" }).click();
      await say("b");
      await answer("done").waitFor();
      expect(engine.requests[1]?.params).toMatchObject({
        temperature: 0.25,
        maxTokens: 7,
        seedLo: 42,
      });
      expect(prompts(engine)[1]).toBe("[system]Be brief.[user]b[assistant]");
    });

    it("stops an answer, keeps what came, and goes on from it", async () => {
      const { engine } = await start(() => bytes("on and on "));
      engine.left = 20;
      await say("a");
      await expect
        .poll(() => answer("streaming").locator(".text").textContent())
        .toBe("on and on on and on ");
      await page.getByRole("button", { name: "Stop" }).click();
      await answer("stopped").waitFor();
      expect(await answer("stopped").locator(".facts").textContent()).toContain(
        "stopped",
      );
      await expect.poll(() => engine.aborts.length).toBe(1);
      expect(engine.numLive).toBe(0);
      expect(
        await page.evaluate(() => document.activeElement?.id),
        "the keyboard stays where it was",
      ).toBe("prompt");
      engine.script = says("Well.");
      engine.left = Infinity;
      engine.running = true;
      await say("b");
      await answer("done").waitFor();
      expect(prompts(engine)[1]).toBe(
        "[user]a[assistant]on and on on and on [user]b[assistant]",
      );
    });

    it("says what went wrong in the server's words", async () => {
      const { engine } = await start(says("x"));
      expected = /status of 400/;
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Temperature").fill("-1");
      await say("a");
      const error = answer("failed").locator(".error p");
      await answer("failed").waitFor();
      const [message, details] = await error.allTextContents();
      expect(message).toMatch(/^temperature: expected .*, got -1$/);
      expect(details).toBe("400, invalid_value, temperature");
      expect(await page.textContent("#announcer")).toBe(message);
      await page.getByLabel("Temperature").fill("");
      await page.getByLabel("Seed").fill("9007199254740993");
      await page.getByRole("button", { name: "Try again" }).click();
      await expect
        .poll(() => error.first().textContent())
        .toBe("Seed: expected at most 2^53 - 1");
      await page.getByLabel("Seed").fill("");
      await page.getByLabel("Tools").fill("[1,");
      await page.getByRole("button", { name: "Try again" }).click();
      await expect
        .poll(() => error.first().textContent())
        .toMatch(/^Tools: expected JSON: /);
      expect(engine.requests).toHaveLength(0);
      await page.getByLabel("Tools").fill("");
      await page.getByRole("button", { name: "Try again" }).click();
      await answer("done").waitFor();
      expect(prompts(engine)).toEqual(["[user]a[assistant]"]);
    });

    it("says when the connection ends in the middle of an answer", async () => {
      const { engine, app } = await start(() => bytes("on and on "));
      expected = /Failed to load|ERR_/;
      engine.left = 10;
      await say("a");
      await answer("streaming").waitFor();
      app.server.closeAllConnections();
      await answer("failed").waitFor();
      expect(await answer("failed").locator(".error").textContent()).toMatch(
        /broke off|ended in the middle/,
      );
      expect(await answer("failed").locator(".text").textContent()).toBe(
        "on and on ",
      );
    });

    it("copies an answer, its code and the whole chat", async () => {
      await start(says("See:\n```js\nlet x;\n```"));
      const { origin } = new URL(page.url());
      await browser.context.grantPermissions(
        ["clipboard-read", "clipboard-write"],
        { origin },
      );
      await say("a");
      await answer("done").waitFor();
      const copied = async (button: Locator): Promise<string> => {
        await button.click();
        await expect.poll(() => button.textContent()).toBe("Copied");
        return page.evaluate(() => navigator.clipboard.readText());
      };
      const last = answer("done");
      expect(await copied(last.locator("figcaption button"))).toBe("let x;");
      expect(await copied(last.locator(".actions button").first())).toBe(
        "See:\n```js\nlet x;\n```",
      );
      expect(await copied(page.locator("#copy"))).toBe(
        "User:\na\n\nAssistant:\nSee:\n```js\nlet x;\n```",
      );
    });

    it("shows markup from a model, a user and a tool as text", async () => {
      const { engine } = await start(
        says(`${EVIL}\n\`\`\`html\n${EVIL}\n\`\`\`\n${EVIL}`),
      );
      await say(EVIL);
      await answer("done").waitFor();
      const texts = page.locator(".message .text");
      expect(await texts.first().textContent()).toBe(EVIL);
      expect(await texts.last().locator("p").allTextContents()).toEqual([
        EVIL,
        EVIL,
      ]);
      expect(await texts.last().locator("pre").textContent()).toBe(EVIL);
      expect(await page.locator("#messages :is(img, script)").count()).toBe(0);
      expect(await page.evaluate(() => "bad" in window)).toBe(false);
      expect(prompts(engine)[0]).toContain(EVIL);
    });

    it("keeps reasoning apart from the answer", async () => {
      const { engine } = await start(
        says("<think>\nLet me see.\n</think>\n\nYes."),
        {
          template: REASONING,
        },
      );
      await say("a");
      await answer("done").waitFor();
      const reasoning = answer("done").locator(".reasoning");
      expect((await reasoning.locator("p").textContent())?.trim()).toBe(
        "Let me see.",
      );
      expect(await reasoning.locator("p").isVisible()).toBe(false);
      await reasoning.locator("summary").click();
      expect(await reasoning.locator("p").isVisible()).toBe(true);
      expect(
        (await answer("done").locator(".text").textContent())?.trim(),
      ).toBe("Yes.");
      await say("b");
      await expect.poll(() => engine.requests.length).toBe(2);
      expect(prompts(engine)[1]).not.toContain("Let me see");
    });

    it("shows tool calls and takes their results", async () => {
      const json = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
      const { engine } = await start(
        () => [258, ...bytes(`\n${json}\n`), 259, END],
        { template: TOOL_TEMPLATE },
      );
      await page.getByRole("button", { name: "Settings" }).click();
      await page.getByLabel("Tools").fill(JSON.stringify([WEATHER]));
      await say("How warm?");
      await answer("done").waitFor();
      const call = answer("done").locator(".call");
      expect(await call.locator("figcaption").textContent()).toBe(
        "Call of get_weather",
      );
      expect(
        JSON.parse((await call.locator("code").textContent()) ?? ""),
      ).toEqual({ city: "Paris" });
      engine.script = says("Warm.");
      await page.getByLabel("Result of get_weather").fill("21 degrees");
      await page.getByRole("button", { name: "Send result" }).click();
      await expect.poll(() => engine.requests.length).toBe(2);
      await answer("done").waitFor();
      expect(await answer("done").locator(".text").textContent()).toBe("Warm.");
      expect(prompts(engine)[1]).toContain("<|im_start|>tool\n21 degrees");
      expect(await page.locator(".results").count()).toBe(0);
    });

    it("asks for keys where they are asked for, and keeps them for the tab", async () => {
      const { url } = await start(says("x"), {
        apiKeys: ["secret"],
        metricsApiKey: "numbers",
      });
      expected = /status of 401/;
      const key = page.getByLabel("This server asks for an API key");
      await key.fill("schlüssel");
      await key.press("Enter");
      await expect
        .poll(() => page.locator("#key-form p").textContent())
        .toBe("The key has letters that no key can have.");
      await key.fill("wrong");
      await key.press("Enter");
      await expect
        .poll(() => page.locator("#key-form p").textContent())
        .toBe("Incorrect API key provided.");
      await key.fill("secret");
      await key.press("Enter");
      await expect.poll(() => page.locator("#key-form").isHidden()).toBe(true);
      await say("a");
      await answer("done").waitFor();
      await page.getByLabel("/metrics asks for its key").fill("numbers");
      await page.locator("#metrics-key-form button").click();
      await expect
        .poll(() => page.locator("#metrics-key-form").isHidden())
        .toBe(true);
      const kept = await page.evaluate(() => ({
        tab: Object.values({ ...sessionStorage }).sort(),
        browser: localStorage.length + document.cookie.length,
      }));
      expect(kept).toEqual({ tab: ["numbers", "secret"], browser: 0 });
      expect(page.url()).toBe(`${url}/`);
    });

    it("draws what the server does now", async () => {
      const { app, post } = await serve(
        pagedEngine({ numBlocks: 64, maxModelLen: 128 }),
        { info: { numBlocks: 64 } },
      );
      await open(await app.listen({ port: 0, host: "127.0.0.1" }));
      const legend = (title: string) =>
        page.locator("#figures figure", { hasText: title }).locator(".legend");
      const blocks = () => legend("KV blocks").last().textContent();
      await expect.poll(blocks).toBe("used 0cached 0free 64");
      const idle = await page.locator("path.line").evaluateAll(pathData);
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
      const busy = await page.locator("path.line").evaluateAll(pathData);
      expect(busy).not.toEqual(idle);
      const squares = (state: string) =>
        page
          .locator(`path.blocks.${state}`)
          .evaluate((path) => path.getAttribute("d")?.split("M").length);
      expect(await squares("cached")).toBe(1 + 3);
      expect(await squares("free")).toBe(1 + 61);
      expect(await page.locator("figure", { hasText: "Drafts" }).count()).toBe(
        1,
      );
      expect(
        await page.locator("figure", { hasText: "Drafts" }).isHidden(),
      ).toBe(true);
    });

    it("reads the figures only while they can be seen", async () => {
      const { url } = await start(says("x"));
      let reads = 0;
      page.on("request", (request) => {
        if (request.url() === `${url}/metrics`) reads++;
      });
      const goesOn = async (): Promise<void> => {
        const before = reads;
        await expect.poll(() => reads).toBeGreaterThan(before + 1);
      };
      const rests = async (): Promise<void> => {
        // What was under way ends.
        await page.waitForTimeout(300);
        const before = reads;
        await page.waitForTimeout(1500);
        expect(reads).toBe(before);
      };
      const show = (state: string): Promise<void> =>
        page.evaluate((now) => {
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
      await page.getByRole("button", { name: "Pause" }).click();
      await rests();
      await page.getByRole("button", { name: "Go on" }).click();
      await goesOn();
      await page.setViewportSize({ width: 390, height: 844 });
      await rests();
      await page.getByRole("button", { name: "Live" }).click();
      await goesOn();
    });

    it("talks with the built-in model", async () => {
      const server = await startServer(["--device", "cpu"]);
      try {
        await open(`${server.url}/`);
        await page.getByRole("button", { name: "Settings" }).click();
        await page.getByLabel("Temperature").fill("0");
        await page.getByRole("button", { name: "Settings" }).click();
        await page.getByRole("button", { name: "What is 17 + 25?" }).click();
        await answer("done").waitFor();
        expect(await answer("done").locator(".text").textContent()).toContain(
          "42",
        );
        await expect
          .poll(() => page.locator("path.blocks.cached").getAttribute("d"))
          .toMatch(/^M0 0h/);
      } finally {
        await server.stop();
      }
    });

    it("says where there are no metrics, and does not ask again", async () => {
      const { url } = await start(says("x"), { metrics: false });
      expected = /status of 404/;
      await expect
        .poll(() => page.locator("#live-notice").textContent())
        .toContain("--disable-log-stats");
      const asked: string[] = [];
      page.on("request", (request) => asked.push(request.url()));
      await page.waitForTimeout(1500);
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
      await open(`http://127.0.0.1:${port}/models/octavo/`);
      await say("a");
      await answer("done").waitFor();
      await expect
        .poll(() => page.textContent("#freshness"))
        .toBe("once a second");
      proxy.closeAllConnections();
      proxy.close();
    });

    it("is readable at any width, in light and in dark, and has names for all", async () => {
      await start(says("Here:\n```js\nlet x = 1;\n```\nDone."));
      await say("Show me some code, and a_very_long_word_".repeat(8));
      await answer("done").waitFor();
      await page.getByRole("button", { name: "Settings" }).click();
      const shots: Buffer[] = [];
      for (const [scheme, dark] of [
        ["light", false],
        ["dark", true],
      ] as const) {
        await page.emulateMedia({ colorScheme: scheme });
        for (const width of [1280, 700, 390, 320]) {
          await page.setViewportSize({ width, height: 844 });
          for (const view of width > 960 ? [null] : ["Live", "Chat"]) {
            if (view !== null)
              await page
                .getByRole("button", { name: view, exact: true })
                .click();
            await expect.poll(() => cutTexts(page)).toEqual([]);
            const wide = await page.evaluate(() => [
              document.documentElement.scrollWidth,
              ...Array.from(
                document.querySelectorAll("section, #messages, #settings"),
                (part) => part.scrollWidth - part.clientWidth,
              ),
            ]);
            expect(wide[0]).toBeLessThanOrEqual(width);
            expect(Math.max(...wide.slice(1))).toBeLessThanOrEqual(0);
            const { paper, texts } = await contrasts(
              page,
              "p, h1, h2, a, label, span, strong, code, button:enabled, input, select, textarea, svg text",
            );
            expect(paper < 0.05).toBe(dark);
            expect(texts.length).toBeGreaterThan(10);
            for (const { text, contrast } of texts)
              expect(contrast, `${scheme}: ${text}`).toBeGreaterThan(4.5);
            shots.push(await page.screenshot());
          }
        }
      }
      for (const shot of shots)
        expect(await coloursIn(page, shot)).toBeGreaterThan(20);
      expect(new Set(shots.map((shot) => shot.toString("base64"))).size).toBe(
        shots.length,
      );
      const nameless = await page
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
