import type { BrowserContext, Locator, Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import { openBrowser, type TestBrowser } from "../bench/browser.js";
import { ScriptedEngine, serve, type Script } from "../server/support.js";

/** Stops computing after some steps, in the middle of an answer. */
class PausingEngine extends ScriptedEngine {
  left = Infinity;
  override step() {
    if (this.left-- <= 0) this.running = false;
    return super.step();
  }
}

/** Prompts as the engine has had them. */
export const prompts = ({ requests }: ScriptedEngine): string[] =>
  requests.map(({ promptTokenIds }) => Buffer.from(promptTokenIds).toString());

/** A browser for the tests of a file, and the page in it, which must not complain, fail, or ask another host. */
export class Tab {
  private browser: TestBrowser | null = null;
  private shown: Page | null = null;
  private faults: string[] = [];
  private allowed: RegExp | null = null;

  constructor() {
    beforeAll(async () => {
      this.browser = await openBrowser();
    });
    afterAll(() => this.browser?.close());
    afterEach(async () => {
      await this.shown?.close();
      const { faults, allowed } = this;
      expect(faults.filter((fault) => allowed?.test(fault) !== true)).toEqual(
        [],
      );
    });
  }

  get page(): Page {
    if (this.shown === null) throw new Error("no page is open");
    return this.shown;
  }

  get context(): BrowserContext {
    if (this.browser === null) throw new Error("no browser is open");
    return this.browser.context;
  }

  /** What the browser will complain of in this test. */
  allow(faults: RegExp): void {
    this.allowed = faults;
  }

  async open(url: string): Promise<void> {
    this.faults = [];
    this.allowed = null;
    const { origin } = new URL(url);
    const page = await this.context.newPage();
    this.shown = page;
    page.on("console", (message) => {
      if (message.type() === "error") this.faults.push(message.text());
    });
    page.on("pageerror", (error) => this.faults.push(error.message));
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== origin)
        this.faults.push(`asked ${request.url()}`);
    });
    await page.goto(url);
    await page.locator("#state[data-state=ready]").waitFor();
  }

  /** The page of a server whose model says what `script` says. */
  async start(script: Script, options: Parameters<typeof serve>[1] = {}) {
    const engine = new PausingEngine(script);
    const { app, client, post } = await serve(engine, {
      info: { maxModelLen: 4096 },
      ...options,
    });
    const url = await app.listen({ port: 0, host: "127.0.0.1" });
    await this.open(`${url}/`);
    return { engine, app, client, post, url };
  }

  async say(text: string): Promise<void> {
    await this.page.fill("#prompt", text);
    await this.page.press("#prompt", "Enter");
  }

  /** The last answer in this state. */
  answer(state: string): Locator {
    return this.page.locator(`.assistant[data-state=${state}]`).last();
  }
}
