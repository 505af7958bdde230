/// <reference lib="dom" />
import type { Locator } from "playwright-core";
import { describe, expect, it } from "vitest";
import { hasChromium } from "../bench/browser.js";
import { bytes, END, says, TOOL_TEMPLATE } from "../server/support.js";
import { prompts, Tab } from "./tab.js";

const REASONING = `${TOOL_TEMPLATE}{# <think></think> #}`;
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } } },
  },
};
const EVIL = `<img src=x onerror="window.bad=1"><script>window.bad=1</script>`;

describe.skipIf(!hasChromium)(
  "the page's chat in a browser (needs /usr/bin/chromium)",
  () => {
    const tab = new Tab();

    it("holds a conversation, streamed, with what each answer took", async () => {
      const { engine } = await tab.start(says("Hello there."));
      await tab.page.locator("#model").selectOption("org/tiny");
      await tab.page.fill("#prompt", "Hi");
      await tab.page.press("#prompt", "Shift+Enter");
      await tab.page.keyboard.type("you");
      await tab.page.press("#prompt", "Enter");
      await tab.answer("done").waitFor();
      expect(await tab.answer("done").locator(".text").textContent()).toBe(
        "Hello there.",
      );
      expect(await tab.answer("done").locator(".facts").textContent()).toMatch(
        /^first token [\d.]+ ms · ([\d.]+ tokens\/s · )?13 tokens · prompt 23 · stop$/,
      );
      expect(await tab.page.textContent("#announcer")).toBe("Hello there.");
      await tab.say("More");
      await expect.poll(() => tab.page.locator(".assistant").count()).toBe(2);
      await tab.answer("done").waitFor();
      expect(prompts(engine)).toEqual([
        "[user]Hi\nyou[assistant]",
        "[user]Hi\nyou[assistant]Hello there.[user]More[assistant]",
      ]);
      await tab.page.getByRole("button", { name: "Try again" }).click();
      await expect.poll(() => engine.requests.length).toBe(3);
      await tab.answer("done").waitFor();
      expect(prompts(engine)[2]).toBe(prompts(engine)[1]);
      expect(await tab.page.locator(".assistant").count()).toBe(2);
      await tab.page.getByRole("button", { name: "New chat" }).click();
      expect(await tab.page.locator(".message").count()).toBe(0);
      await tab.page.getByRole("button", { name: "What is Octavo?" }).click();
      await tab.answer("done").waitFor();
      expect(prompts(engine)[3]).toBe("[user]What is Octavo?[assistant]");
    });

    it("sends the settings that are filled in, and no others", async () => {
      const { engine } = await tab.start(says("x"));
      await tab.say("a");
      await tab.answer("done").waitFor();
      const defaults = engine.requests[0]?.params;
      expect(defaults?.maxTokens).toBeGreaterThan(1000);
      await tab.page.getByRole("button", { name: "Settings" }).click();
      await tab.page.getByLabel("System prompt").fill("Be brief.");
      await tab.page.getByLabel("Temperature").fill("0.25");
      await tab.page.getByLabel("Max tokens").fill("7");
      await tab.page.getByLabel("Seed").fill("42");
      await tab.page.getByRole("button", { name: "New chat" }).click();
      await tab.say("b");
      await tab.answer("done").waitFor();
      expect(engine.requests[1]?.params).toMatchObject({
        temperature: 0.25,
        maxTokens: 7,
        seedLo: 42,
      });
      expect(prompts(engine)[1]).toBe("[system]Be brief.[user]b[assistant]");
    });

    it("stops an answer, keeps what came, and goes on from it", async () => {
      const { engine } = await tab.start(() => bytes("on and on "));
      engine.left = 20;
      await tab.say("a");
      await expect
        .poll(() => tab.answer("streaming").locator(".text").textContent())
        .toBe("on and on on and on ");
      await tab.page.getByRole("button", { name: "Stop" }).click();
      await tab.answer("stopped").waitFor();
      expect(
        await tab.answer("stopped").locator(".facts").textContent(),
      ).toContain("stopped");
      await expect.poll(() => engine.aborts.length).toBe(1);
      expect(engine.numLive).toBe(0);
      expect(
        await tab.page.evaluate(() => document.activeElement?.id),
        "the keyboard stays where it was",
      ).toBe("prompt");
      engine.script = says("Well.");
      engine.left = Infinity;
      engine.running = true;
      await tab.say("b");
      await tab.answer("done").waitFor();
      expect(prompts(engine)[1]).toBe(
        "[user]a[assistant]on and on on and on [user]b[assistant]",
      );
    });

    it("says what went wrong in the server's words", async () => {
      const { engine } = await tab.start(says("x"));
      tab.allow(/status of 400/);
      await tab.page.getByRole("button", { name: "Settings" }).click();
      await tab.page.getByLabel("Temperature").fill("-1");
      await tab.say("a");
      const error = tab.answer("failed").locator(".error p");
      await tab.answer("failed").waitFor();
      const [message, details] = await error.allTextContents();
      expect(message).toMatch(/^temperature: expected .*, got -1$/);
      expect(details).toBe("400, invalid_value, temperature");
      expect(await tab.page.textContent("#announcer")).toBe(message);
      await tab.page.getByLabel("Temperature").fill("");
      await tab.page.getByLabel("Seed").fill("9007199254740993");
      await tab.page.getByRole("button", { name: "Try again" }).click();
      await expect
        .poll(() => error.first().textContent())
        .toBe("Seed: expected at most 2^53 - 1");
      await tab.page.getByLabel("Seed").fill("");
      await tab.page.getByLabel("Tools").fill("[1,");
      await tab.page.getByRole("button", { name: "Try again" }).click();
      await expect
        .poll(() => error.first().textContent())
        .toMatch(/^Tools: expected JSON: /);
      expect(engine.requests).toHaveLength(0);
      await tab.page.getByLabel("Tools").fill("");
      await tab.page.getByRole("button", { name: "Try again" }).click();
      await tab.answer("done").waitFor();
      expect(prompts(engine)).toEqual(["[user]a[assistant]"]);
    });

    it("says when the connection ends in the middle of an answer", async () => {
      const { engine, app } = await tab.start(() => bytes("on and on "));
      tab.allow(/Failed to load|ERR_/);
      engine.left = 10;
      await tab.say("a");
      await tab.answer("streaming").waitFor();
      app.server.closeAllConnections();
      await tab.answer("failed").waitFor();
      expect(
        await tab.answer("failed").locator(".error").textContent(),
      ).toMatch(/broke off|ended in the middle/);
      expect(await tab.answer("failed").locator(".text").textContent()).toBe(
        "on and on ",
      );
    });

    it("copies an answer, its code and the whole chat", async () => {
      await tab.start(says("See:\n```js\nlet x;\n```"));
      const { origin } = new URL(tab.page.url());
      await tab.context.grantPermissions(
        ["clipboard-read", "clipboard-write"],
        { origin },
      );
      await tab.say("a");
      await tab.answer("done").waitFor();
      const copied = async (button: Locator): Promise<string> => {
        await button.click();
        await expect.poll(() => button.textContent()).toBe("Copied");
        return tab.page.evaluate(() => navigator.clipboard.readText());
      };
      const last = tab.answer("done");
      expect(await copied(last.locator("figcaption button"))).toBe("let x;");
      expect(await copied(last.locator(".actions button").first())).toBe(
        "See:\n```js\nlet x;\n```",
      );
      expect(await copied(tab.page.locator("#copy"))).toBe(
        "User:\na\n\nAssistant:\nSee:\n```js\nlet x;\n```",
      );
    });

    it("follows an answer to its end, unless its reader has gone back", async () => {
      const { engine, client } = await tab.start(() => bytes("on and on\n"));
      const gap = (): Promise<number> =>
        tab.page
          .locator("#messages")
          .evaluate((list) =>
            Math.round(list.scrollHeight - list.scrollTop - list.clientHeight),
          );
      engine.left = 1000;
      await tab.say("a");
      const text = tab.answer("streaming").locator(".text");
      const said = async (): Promise<number> =>
        (await text.textContent())?.length ?? 0;
      await expect.poll(said).toBe(999);
      expect(await gap()).toBeLessThan(2);
      await tab.page
        .locator("#messages")
        .evaluate((list) => (list.scrollTop = 0));
      engine.left = 1000;
      engine.running = true;
      // It takes up its work when it hears of something.
      await client.call("checkIntegrity");
      await expect.poll(said).toBe(1999);
      expect(
        await tab.page.locator("#messages").evaluate((l) => l.scrollTop),
      ).toBe(0);
      await tab.page.getByRole("button", { name: "Stop" }).click();
      await tab.answer("stopped").waitFor();
    });

    it("shows markup from a model, a user and a tool as text", async () => {
      const { engine } = await tab.start(
        says(`${EVIL}\n\`\`\`html\n${EVIL}\n\`\`\`\n${EVIL}`),
      );
      await tab.say(EVIL);
      await tab.answer("done").waitFor();
      const texts = tab.page.locator(".message .text");
      expect(await texts.first().textContent()).toBe(EVIL);
      expect(await texts.last().locator("p").allTextContents()).toEqual([
        EVIL,
        EVIL,
      ]);
      expect(await texts.last().locator("pre").textContent()).toBe(EVIL);
      expect(await tab.page.locator("#messages :is(img, script)").count()).toBe(
        0,
      );
      expect(await tab.page.evaluate(() => "bad" in window)).toBe(false);
      expect(prompts(engine)[0]).toContain(EVIL);
    });

    it("keeps reasoning apart from the answer", async () => {
      const { engine } = await tab.start(
        says("<think>\nLet me see.\n</think>\n\nYes."),
        {
          template: REASONING,
        },
      );
      await tab.say("a");
      await tab.answer("done").waitFor();
      const reasoning = tab.answer("done").locator(".reasoning");
      expect((await reasoning.locator("p").textContent())?.trim()).toBe(
        "Let me see.",
      );
      expect(await reasoning.locator("p").isVisible()).toBe(false);
      await reasoning.locator("summary").click();
      expect(await reasoning.locator("p").isVisible()).toBe(true);
      expect(
        (await tab.answer("done").locator(".text").textContent())?.trim(),
      ).toBe("Yes.");
      await tab.say("b");
      await expect.poll(() => engine.requests.length).toBe(2);
      expect(prompts(engine)[1]).not.toContain("Let me see");
    });

    it("shows tool calls and takes their results", async () => {
      const json = '{"name": "get_weather", "arguments": {"city": "Paris"}}';
      const { engine } = await tab.start(
        () => [258, ...bytes(`\n${json}\n`), 259, END],
        { template: TOOL_TEMPLATE },
      );
      await tab.page.getByRole("button", { name: "Settings" }).click();
      await tab.page.getByLabel("Tools").fill(JSON.stringify([WEATHER]));
      await tab.say("How warm?");
      await tab.answer("done").waitFor();
      const call = tab.answer("done").locator(".call");
      expect(await call.locator("figcaption").textContent()).toBe(
        "Call of get_weather",
      );
      expect(
        JSON.parse((await call.locator("code").textContent()) ?? ""),
      ).toEqual({ city: "Paris" });
      engine.script = says("Warm.");
      await tab.page.getByLabel("Result of get_weather").fill("21 degrees");
      await tab.page.getByRole("button", { name: "Send result" }).click();
      await expect.poll(() => engine.requests.length).toBe(2);
      await tab.answer("done").waitFor();
      expect(await tab.answer("done").locator(".text").textContent()).toBe(
        "Warm.",
      );
      expect(prompts(engine)[1]).toContain("<|im_start|>tool\n21 degrees");
      expect(await tab.page.locator(".results").count()).toBe(0);
    });
  },
);
